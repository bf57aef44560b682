"""Training and scoring of one network: rungs, averaged weights, checkpoints."""

from nas_attn.training.checkpoint import CheckpointSlot
from nas_attn.training.trainer import Interrupted, Trainer

__all__ = ["CheckpointSlot", "Interrupted", "Trainer"]
