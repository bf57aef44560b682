"""Training and scoring of one network: rungs, averaged weights, checkpoints."""

from nas_attn.training.parameters import LearningRates
from nas_attn.training.run import Callbacks, CheckpointSlot
from nas_attn.training.trainer import Trainer
from nas_attn.waiting import Interrupted

__all__ = ["Callbacks", "CheckpointSlot", "Interrupted", "LearningRates", "Trainer"]
