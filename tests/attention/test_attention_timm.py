"""Modules against timm's, with the same weights: where the authors' networks are in timm."""

from __future__ import annotations

import pytest
import torch
from attention_asking import shake
from torch import nn

from nas_attn import attention

timm = pytest.importorskip("timm", reason="the timm extra is not installed")


def with_weights_of(module: nn.Module, theirs: nn.Module, layers: dict[str, str]) -> nn.Module:
    """The module with timm's weights; `layers`: their name -> ours."""
    state = {}
    for name, value in theirs.state_dict().items():
        layer = max((layer for layer in layers if name.startswith(layer)), key=len)
        state[layers[layer] + name[len(layer) :]] = value
    module.load_state_dict(state)
    return module


def assert_the_same_but_for_the_sum(
    ours: nn.Module, theirs: nn.Module, tolerance: float = 1e-9
) -> None:
    """Our module adds its result to its input; timm's block does."""
    x = torch.randn(2, 32, 9, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for train in (False, True):
        expected = x + theirs.train(train)(x)
        torch.testing.assert_close(ours.train(train)(x), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", ["mqa"])
def test_multi_query_attention_is_timms(name: str, stride: int) -> None:
    from timm.layers import MultiQueryAttention2d

    theirs = shake(MultiQueryAttention2d(32, num_heads=4, kv_stride=stride).double(), 1)
    # Behind a stride's convolution and normalisation.
    place = "2" if stride > 1 else "0"
    layers = {"query.proj": "query", "output.proj": "out"}
    for part in ("key", "value"):
        layers |= {f"{part}.down_conv": f"{part}.0", f"{part}.norm": f"{part}.1"}
        layers |= {f"{part}.proj": f"{part}.{place}"}
    ours = attention.create(name, 32, heads=4, kv_stride=stride).double()
    assert_the_same_but_for_the_sum(with_weights_of(ours, theirs, layers), theirs)


@pytest.mark.parametrize("multi_scale", [True, False])
@pytest.mark.parametrize("name", ["relu_linear"])
def test_linear_attention_is_timms(name: str, multi_scale: bool) -> None:
    from timm.models.efficientvit_mit import LiteMLA

    scales = (5,) if multi_scale else ()
    theirs = shake(LiteMLA(32, 32, dim=8, scales=scales).double(), 1)
    layers = {
        "qkv.conv": "qkv",
        "aggreg.0": "aggregate",
        "proj.conv": "out",
        "proj.norm": "norm",
    }
    ours = attention.create(name, 32, head_width=8, multi_scale=multi_scale).double()
    # timm's computes this part in float32.
    assert_the_same_but_for_the_sum(with_weights_of(ours, theirs, layers), theirs, 1e-4)


@pytest.mark.parametrize("name", ["grn"])
def test_global_response_normalisation_is_timms(name: str) -> None:
    from timm.layers.grn import GlobalResponseNorm

    theirs = shake(GlobalResponseNorm(32, channels_last=False).double(), 1)
    layers = {"weight": "gamma", "bias": "beta"}
    ours = with_weights_of(attention.create(name, 32).double(), theirs, layers)
    x = torch.randn(2, 32, 9, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-9, atol=1e-9)
