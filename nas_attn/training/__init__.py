"""Training and scoring of one network: rungs, averaged weights, checkpoints."""

from nas_attn.system.waiting import Interrupted
from nas_attn.training.parameters import LearningRates
from nas_attn.training.run import Callbacks, CheckpointSlot
from nas_attn.training.trainer import Trainer

__all__ = ["Callbacks", "CheckpointSlot", "Interrupted", "LearningRates", "Trainer"]
