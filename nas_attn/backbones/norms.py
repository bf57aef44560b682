"""Which norms a network has, and what follows for its training."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from nas_attn.recipe.tables import LAYER_NORM_PRESET


def usual_preset(model: nn.Module) -> str | None:
    """The preset of `[training]` that a network needs; None: the usual training does. With layer
    norms and no batch norm (ConvNeXt, transformers), SGD at its usual rate often teaches it nothing
    from random weights: ConvNeXt-Atto guessed after 40 epochs on 3,200 photographs
    (research/notes/advice.md).
    """
    modules = list(model.modules())
    has_batch_norms = any(isinstance(module, _BatchNorm) for module in modules)
    has_layer_norms = any(isinstance(module, nn.LayerNorm) for module in modules)
    if has_layer_norms and not has_batch_norms:
        return LAYER_NORM_PRESET
    return None
