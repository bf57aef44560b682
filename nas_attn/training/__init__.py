"""Training and scoring of one network: rungs, checkpoints, starts."""

from nas_attn.backbones import load_weights
from nas_attn.training.checkpoint import CheckpointSlot
from nas_attn.training.trainer import Interrupted, Trainer

__all__ = ["CheckpointSlot", "Interrupted", "Trainer", "load_weights"]
