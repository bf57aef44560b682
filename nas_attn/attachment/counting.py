"""What a network costs, counted on shapes."""

from __future__ import annotations

from torch import nn

from nas_attn.attachment.hosting import replaced_parameters
from nas_attn.attachment.recording import record
from nas_attn.records import Cost


def cost(model: nn.Module, input_shape: tuple[int, int, int]) -> Cost:
    """Parameters, multiply-accumulates and activation bytes of a model for one image; nothing in the model changes.

    MACs are half the FLOPs by torch's own formulas: convolutions, linear layers, matrix products, scaled dot-product
    attention. A parameter that several modules share counts once, one of a replaced module not at all.

    Raises:
        BackboneError: the model cannot process an image of this shape.
    """
    recording = record(model, input_shape, bare=False)
    idle = {id(parameter) for module in model.modules() for parameter in replaced_parameters(module)}
    parameters = sum(parameter.numel() for parameter in model.parameters() if id(parameter) not in idle)
    return Cost(parameters, recording.macs, recording.activation_bytes)
