"""Finds sites in CNN-like models; attaches and detaches attention without changing weights or
names.
"""

from nas_attn.attachment.attaching import attach, attached_modules, detach, expected_modules
from nas_attn.attachment.counting import cost
from nas_attn.attachment.inference_form import fold_batchnorm, reparameterized
from nas_attn.attachment.participation import (
    attach_compared,
    check,
    tells_images_apart,
    unwrapped,
)
from nas_attn.attachment.survey import Granularity, find_sites, reshaped, survey

__all__ = [
    "Granularity",
    "attach",
    "attach_compared",
    "attached_modules",
    "check",
    "cost",
    "detach",
    "expected_modules",
    "find_sites",
    "fold_batchnorm",
    "reparameterized",
    "reshaped",
    "survey",
    "tells_images_apart",
    "unwrapped",
]
