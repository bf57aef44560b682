"""Data sets as uint8 tensors on the training device, with batched augmentation there."""

from nas_attn.data.dataset import Dataset, Split
from nas_attn.data.loading import load

__all__ = ["Dataset", "Split", "load"]
