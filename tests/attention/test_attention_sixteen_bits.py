"""oneDNN never finishes some convolutions in float16 and bfloat16: no module asks for one."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import pytest
import torch
from attention_asking import ROWS
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from nas_attn.attention import catalogue
from nas_attn.attention.choice import Choice, Knob
from nas_attn.attention.knobs import KnobSpec
from nas_attn.attention.row import Row


class Convolutions(TorchDispatchMode):
    """Keeps (dtype, weight's shape, stride, dilation, groups, width of the result) of each."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Any, ...]] = []

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        if operation is torch.ops.aten.convolution.default:
            x, weight, _, stride, _, dilation, _, _, groups = args
            self.seen.append(
                (x.dtype, weight.shape, stride[-1], dilation[-1], groups, result.shape[-1])
            )
        return result


def unfinished(seen: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Those that oneDNN 3.13 does not finish, as tried on a processor with AVX512-BF16."""
    return [
        one
        for one in seen
        for dtype, weight, stride, dilation, groups, width in [one]
        if dtype in (torch.float16, torch.bfloat16)
        and 1 < groups == weight[0] <= 16
        and weight[1] == 1
        and weight[-1] >= 15
        and (stride, dilation) == (1, 1)
        and width >= 31
    ]


def bounds(knob: KnobSpec) -> list[Knob]:
    if knob.choices:
        return list(knob.choices)
    if knob.kind is bool:
        return [False, True]
    return [value for value in (knob.limits.low, knob.limits.high) if math.isfinite(value)]


def at_bounds(row: Row) -> list[dict[str, Knob]]:
    """The defaults, all knobs at their largest together, and each bound beside either."""
    free = [knob for knob in row.knobs if not knob.preset]
    largest = {knob.name: bounds(knob)[-1] for knob in free if bounds(knob)}
    alone = [{knob.name: value} for knob in row.knobs for value in bounds(knob)]
    beside = [{**largest, knob.name: value} for knob in free for value in bounds(knob)]
    return [{}, *alone, *beside]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_no_module_asks_for_a_convolution_that_is_never_finished(row: Row) -> None:
    size = (16, 64, 64)
    canonical = {row.resolve(knobs, *size, strict=False) for knobs in at_bounds(row)}
    for knobs in canonical:
        # not built among tensors without values: torch's truncated normal start looks at them
        module = catalogue.build(Choice(row.name, knobs), *size).eval()
        with (
            FakeTensorMode(allow_non_fake_inputs=True),
            torch.no_grad(),
            Convolutions() as convolutions,
            torch.autocast("cpu", torch.float16),
        ):
            module(torch.zeros(1, *size))
        assert not unfinished(convolutions.seen), dict(knobs)


WIDE = [
    ("cpca", {}),
    ("msca", {}),
    ("caa", {"kernel_size": 15}),
    ("dwconv", {"kernel_size": 31}),
    ("ela", {"kernel_size": 15, "groups": 16}),
]


def test_those_with_wide_kernels_come_back() -> None:
    """In a process of its own: what is never finished cannot be interrupted, either."""
    program = f"""
import torch
from nas_attn import attention
x = torch.randn(1, 16, 32, 32).contiguous(memory_format=torch.channels_last)
for name, knobs in {WIDE!r}:
    module = attention.create(name, 16, height=32, width=32, **knobs)
    with torch.autocast("cpu", torch.bfloat16):
        module.train()(x).float().sum().backward()
    for low in (torch.bfloat16, torch.float16):
        with torch.no_grad():
            y = module.to(low).eval()(x.to(low))
        expected = module.float()(x)
        assert y.dtype == low
        assert (y.float() - expected).abs().max() < 0.05 * expected.abs().max(), (name, low)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)
