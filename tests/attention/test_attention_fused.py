"""The functions with gradients of their own against the plain expressions that they stand for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from nas_attn.attention import fused, gates

Expression = Callable[..., Tensor]


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few values a test has."""
    monkeypatch.setattr(gates, "WORTH_IT", 0)


def plain_simam(x: Tensor) -> Tensor:
    d = (x - x.mean((2, 3), keepdim=True)).square()
    return x * torch.sigmoid(d / (4 * (d.sum((2, 3), keepdim=True) / 5 + 0.01)) + 0.5)


PAIRS: dict[str, tuple[Expression, Expression, tuple[tuple[int, ...], ...]]] = {
    "scale_planes": (fused.scale_planes, lambda x, w, h, m: x * (w + h + m), ((2,), (3,), (1,))),
    "simam": (lambda x: fused.simam(x, 0.01, 5), plain_simam, ()),
}
"""Ours, the plain one, and for each gate the dimensions of size 1."""


def check(ours: Expression, plain: Expression, inputs: list[Tensor]) -> None:
    found = []
    for function in (ours, plain):
        leaves = [t.clone().requires_grad_() for t in inputs]
        y = function(*leaves)
        weight = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)
        found.append((y, *torch.autograd.grad((y * weight).sum(), leaves)))
    found[0] = (*found[0], ours(*inputs))
    found[1] = (*found[1], plain(*inputs))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", PAIRS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shape=st.tuples(*[st.integers(1, 5)] * 4), channels_last=st.booleans())
def test_value_and_gradients_are_those_of_the_plain_form(
    name: str, shape: tuple[int, ...], channels_last: bool
) -> None:
    ours, plain, gates = PAIRS[name]
    generator = torch.Generator().manual_seed(sum(shape))
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    sizes = [tuple(1 if i in ones else n for i, n in enumerate(shape)) for ones in gates]
    check(ours, plain, [x, *(torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes)])


@pytest.mark.parametrize(("dims", "along"), [((1,), 1), ((2,), 2), ((3,), 3), ((2, 3), 0)])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shape=st.tuples(*[st.integers(1, 4)] * 4), ties=st.booleans())
def test_maximum_and_mean_share_gradients_like_the_plain_form(
    dims: tuple[int, ...], along: int, shape: tuple[int, ...], ties: bool
) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)
    check(
        lambda t: fused.max_mean(t, dims, along),
        lambda t: torch.cat((t.amax(dims, keepdim=True), t.mean(dims, keepdim=True)), along),
        [x.round() if ties else x],
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_equality_is_exact_in_every_dtype(dtype: torch.dtype) -> None:
    """The maximum's neighbour, one step below, has no part of its gradient."""
    top = torch.tensor(1e-3, dtype=dtype)
    below = torch.nextafter(top, torch.zeros((), dtype=dtype)) if dtype != torch.float16 else top - 1e-6
    x = torch.stack((top, below, top)).reshape(1, 3, 1, 1).requires_grad_()
    fused.max_mean(x, (1,), 1)[:, 0].sum().backward()
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [0.5, 0.0, 0.5]
