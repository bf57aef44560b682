"""What tests of the catalogue ask for: knobs as a search space could name them, and shapes."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import nn

from nas_attn.attention import catalogue
from nas_attn.attention.knobs import KnobSpec
from nas_attn.attention.row import Row

ROWS = list(catalogue.ROWS.values())
FAST = settings(max_examples=6, deadline=None)


def values_of(knob: KnobSpec) -> st.SearchStrategy[Any]:
    """Values in the knob's range, possible on the shape or not."""
    if knob.choices:
        return st.sampled_from(knob.choices)
    if knob.kind is bool:
        return st.booleans()
    low, high = knob.limits.low, knob.limits.high
    if knob.kind is float:
        return st.floats(float(low), float(high))
    return st.integers(int(low), min(int(high), 40))


@st.composite
def asked(draw: st.DrawFn, row: Row) -> dict[str, Any]:
    """Some knobs of a row; presets not beside what they choose, since the two may contradict."""
    names = draw(st.sets(st.sampled_from([k.name for k in row.knobs]))) if row.knobs else set()
    presets = any(row.knob(name).preset for name in names)
    return {
        k.name: draw(values_of(k))
        for k in row.knobs
        if k.name in names and not (presets and k.auto)
    }


def choices(row: Row) -> list[dict[str, Any]]:
    """The defaults, and each choice that a knob offers."""
    offered = [
        {k.name: v}
        for k in row.knobs
        for v in ((False, True) if k.kind is bool else k.choices)
        if v != k.default
    ]
    return [{}, *offered]


def sizes(channels: int = 40, side: int = 9) -> st.SearchStrategy[tuple[int, int, int]]:
    """(channels, height, width)."""
    return st.tuples(st.integers(1, channels), st.integers(1, side), st.integers(1, side))


def shake(module: nn.Module, seed: int) -> nn.Module:
    """Random values in every parameter and buffer, so that nothing hides behind zeros and ones."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                low = 0.5 if name.endswith("running_var") else -0.6
                value.copy_(
                    torch.rand(value.shape, generator=generator, dtype=value.dtype) * 1.2 + low
                )
    return module
