"""Adaptive average pooling in matrices against torch's own, forward and backward."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from nas_attn import attention
from nas_attn.attention.gates import adaptive_mean

SIDES = st.integers(1, 12)


@settings(max_examples=60, deadline=None)
@given(height=SIDES, width=SIDES, rows=SIDES, columns=SIDES, growing=st.booleans())
def test_it_is_torchs(height: int, width: int, rows: int, columns: int, growing: bool) -> None:
    x = torch.randn(2, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    outputs = [
        adaptive_mean(inputs[0], rows, columns, growing=growing),
        functional.adaptive_avg_pool2d(inputs[1], (rows, columns)),
    ]
    torch.testing.assert_close(*outputs)
    for y in outputs:
        y.square().sum().backward()
    torch.testing.assert_close(*(x.grad for x in inputs))


@pytest.mark.parametrize("mlp", [False, True])
@pytest.mark.parametrize("size", [(4, 4), (3, 9), (1, 1), (20, 31)])
def test_a_global_kernel_of_gather_excite_serves_maps_of_other_sizes(size: tuple[int, int], mlp: bool) -> None:
    """Of constant channels it gathers the same, however large the map."""
    torch.manual_seed(0)
    module = attention.create("ge", 6, height=7, width=5, gather="conv", mlp=mlp, reduction=2).eval()
    channels = torch.randn(2, 6, 1, 1)
    x, other = channels.expand(2, 6, 7, 5), channels.expand(2, 6, *size).contiguous()
    torch.testing.assert_close(module(other), module(x)[:, :, :1, :1].expand_as(other), rtol=1e-4, atol=1e-5)
