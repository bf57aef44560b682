"""Strips against the plain expressions that they stand for: every dtype, layout and size regime."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from nas_attn.attention import gates, strips

Expression = Callable[..., tuple[Tensor, ...]]


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few values a test has."""
    monkeypatch.setattr(gates, "WORTH_IT", 0)


SIDES = st.integers(1, 9) | st.sampled_from([14, 33, 40])
"""Two of the large ones are more pixels than one matrix spreads."""

PAIRS: dict[str, tuple[Expression, Expression]] = {
    "means": (lambda x, h, w: strips.strip_means(x), lambda x, h, w: (x.mean(3), x.mean(2))),
    "scaled": (
        lambda x, h, w: (strips.scale_strips(x, h, w),),
        lambda x, h, w: (x * h[..., None] * w[..., None, :],),
    ),
    "added": (lambda x, h, w: (strips.add_strips(h, w),), lambda x, h, w: (h[..., None] + w[..., None, :],)),
}
"""Ours and the plain one, of a map and a value for each of its rows and columns."""


def drawn(data: st.DataObject, dtype: torch.dtype) -> list[Tensor]:
    batch, channels, height, width = (data.draw(s) for s in (st.integers(1, 3), st.integers(1, 4), SIDES, SIDES))
    generator = torch.Generator().manual_seed(height * 100 + width)
    shapes = (batch, channels, height, width), (batch, channels, height), (batch, channels, width)
    x, h, w = (torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes)
    if data.draw(st.booleans(), "channels last"):
        x = x.contiguous(memory_format=torch.channels_last)
    if data.draw(st.booleans(), "gates turned"):
        h, w = (t.transpose(1, 2).contiguous().transpose(1, 2) for t in (h, w))
    return [x, h, w]


def results(function: Expression, inputs: list[Tensor], weight_of: torch.dtype) -> list[Tensor]:
    """Values, values without autograd, gradients where there are any."""
    leaves = [t.clone(memory_format=torch.preserve_format).requires_grad_() for t in inputs]
    out = function(*leaves)
    weights = [torch.linspace(-1, 1, y.numel(), dtype=torch.float64).to(weight_of).view(y.shape) for y in out]
    gradients = torch.autograd.grad(
        out, leaves, [w.to(y.dtype) for w, y in zip(weights, out, strict=True)], allow_unused=True
    )
    return [*out, *function(*inputs), *(g for g in gradients if g is not None)]


@pytest.mark.parametrize("name", PAIRS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_value_and_gradients_are_those_of_the_plain_form(name: str, data: st.DataObject) -> None:
    ours, plain = PAIRS[name]
    inputs = drawn(data, torch.float64)
    before = [t.clone() for t in inputs]
    for a, b in zip(*(results(f, inputs, torch.float64) for f in (ours, plain)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    assert all(torch.equal(a, b) for a, b in zip(inputs, before, strict=True))


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("matrices", [True, False], ids=["matrices", "loops"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_bfloat16_is_the_plain_form_to_its_rounding(name: str, matrices: bool, data: st.DataObject) -> None:
    """Against float64 arithmetic on the same values; whatever this CPU can, both ways are gone."""
    ours, plain = PAIRS[name]
    inputs = drawn(data, torch.bfloat16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strips, "_cpu_multiplies_bfloat16", lambda: matrices)
        found = results(ours, inputs, torch.bfloat16)
    exact = results(plain, [t.double() for t in inputs], torch.bfloat16)
    for a, b in zip(found, exact, strict=True):
        assert a.dtype is torch.bfloat16
        # A sum's rounding is that of its largest terms: in a row up to 40 values of up to about 10.
        torch.testing.assert_close(a.double(), b, rtol=0.02, atol=0.02 * max(1.0, b.abs().max().item()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_changes_nothing(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x, h, w = (torch.randn(shape, generator=generator).to(dtype) for shape in ((2, 3, 5, 4), (2, 3, 5), (2, 3, 4)))
    expected = *strips.strip_means(x), strips.scale_strips(x, h, w), strips.add_strips(h, w)
    with torch.autocast("cpu", torch.bfloat16):
        found = *strips.strip_means(x), strips.scale_strips(x, h, w), strips.add_strips(h, w)
    assert all(a.dtype is dtype and torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_layout_is_kept(dtype: torch.dtype) -> None:
    for layout in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(2, 3, 5, 4, dtype=dtype).contiguous(memory_format=layout).requires_grad_()
        h, w = torch.rand(2, 5, 3, dtype=dtype).transpose(1, 2), torch.rand(2, 4, 3, dtype=dtype).transpose(1, 2)
        assert strips.scale_strips(x, h, w).is_contiguous(memory_format=layout)
        assert strips.scale_strips(x.detach(), h, w).is_contiguous(memory_format=layout)
