"""The attention of YOLO11 and YOLO12 against ultralytics' own classes, where it is installed: outputs
and gradients in float64 to 1e-12.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nas_attn import attention

# part of ours -> part of theirs
PARTS = {"qkv": "qkv", "position": "pe", "out": "proj"}
LAYERS = {"0": "conv", "1": "bn"}
CASES = [
    ("c2psa", "Attention", {"heads": 4, "reduction": 2}, {"num_heads": 4, "attn_ratio": 0.5}),
    ("c2psa", "Attention", {"heads": 2, "reduction": 4}, {"num_heads": 2, "attn_ratio": 0.25}),
    ("area", "AAttn", {"heads": 4, "areas": 1}, {"num_heads": 4, "area": 1}),
    ("area", "AAttn", {"heads": 2, "areas": 4}, {"num_heads": 2, "area": 4}),
]


def theirs(kind: str, knobs: dict[str, Any]) -> nn.Module:
    """Their module as in a model of theirs, which sets the norms, with random weights."""
    from ultralytics.nn.modules import block
    from ultralytics.utils.torch_utils import initialize_weights

    module: nn.Module = getattr(block, kind)(32, **knobs).double()
    initialize_weights(module)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias)
            nn.init.normal_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return module


def called_theirs(name: str) -> str:
    """`qkv.0.weight` as `qkv.conv.weight`."""
    part, layer, value = name.split(".")
    return f"{PARTS[part]}.{LAYERS[layer]}.{value}"


def answers(module: nn.Module, x: Tensor, *, plus: Tensor | float) -> tuple[Tensor, Tensor]:
    """The output with what is added to it, and the gradient of the input."""
    x = x.clone().requires_grad_()
    y = module(x)
    weight = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    (gradient,) = torch.autograd.grad((y * weight).sum(), x, retain_graph=True)
    (y * weight).sum().backward()
    return y + plus, gradient


@pytest.mark.extras("ultralytics")
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("name", "kind", "knobs", "their_knobs"), CASES)
def test_outputs_and_gradients_are_those_of_ultralytics(
    name: str, kind: str, knobs: dict[str, Any], their_knobs: dict[str, Any], training: bool
) -> None:
    torch.manual_seed(4)
    reference = theirs(kind, their_knobs).train(training)
    ours = attention.create(name, 32, height=6, width=4, **knobs).double().train(training)
    state = reference.state_dict()
    ours.load_state_dict({key: state[called_theirs(key)] for key in ours.state_dict()})
    x = torch.randn(3, 32, 6, 4, dtype=torch.float64)
    # in ultralytics, the block around it adds the input
    expected, expected_gradient = answers(reference, x, plus=x)
    weight = torch.linspace(-1, 1, x.numel(), dtype=x.dtype).view_as(x)
    found, gradient = answers(ours, x, plus=0.0)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(gradient, expected_gradient + weight, rtol=0, atol=1e-11)
    gradients = {key: value.grad for key, value in reference.named_parameters()}
    for key, value in ours.named_parameters():
        torch.testing.assert_close(value.grad, gradients[called_theirs(key)], rtol=0, atol=1e-11)
    for key, value in ours.named_buffers():  # type: ignore[assignment]
        torch.testing.assert_close(
            value, reference.get_buffer(called_theirs(key)), rtol=0, atol=1e-12
        )
