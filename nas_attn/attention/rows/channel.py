"""Modules whose gate has one value per channel."""

from __future__ import annotations

import math

from nas_attn.attention.row import Count, Fitting, KnobSpec, Row, hidden_width
from nas_attn.errors import KnobError

REDUCTION = KnobSpec("reduction", int, 16, "channels divided by the hidden width", low=1, high=4096)
BIAS = KnobSpec("bias", bool, True, "whether the two linear layers have biases")


def _fit_se(f: Fitting) -> Count:
    reduction, divisor = f.integer("reduction"), f.integer("divisor")
    f.hidden()
    hidden = hidden_width(f.channels, min(reduction, f.channels), divisor)
    if divisor > 1:
        f.values["reduction"], f.values["divisor"] = _unrounded(f.channels, hidden, divisor)
    weights = 2 * f.channels * hidden
    return Count(weights + (hidden + f.channels if f.values["bias"] else 0), weights)


def _unrounded(channels: int, hidden: int, divisor: int) -> tuple[int, int]:
    """The one pair of reduction and divisor that stands for a hidden width: without rounding if a reduction gives it."""
    plain = max(1, channels // hidden)
    if hidden_width(channels, plain, 1) == hidden:
        return plain, 1
    return next(r for r in range(channels, 0, -1) if hidden_width(channels, r, divisor) == hidden), divisor


def _fit_eca(f: Fitting) -> Count:
    given = f.given.get("kernel_size", "auto")
    if given == "auto":
        f.values["kernel_size"] = eca_kernel_size(f.channels, float(f.values["gamma"]), float(f.values["b"]))
    elif {"gamma", "b"} & f.given.keys():
        raise KnobError(f"eca: gamma and b choose the kernel size, and kernel_size={given} says another: leave one out")
    size = f.odd("kernel_size", largest=2 * f.channels - 1)
    return Count(size, f.channels * size)


def eca_kernel_size(channels: int, gamma: float, b: float) -> int:
    """The paper's rule: |(log2 C + b) / gamma|, cut to an integer, the next odd one where it is even."""
    t = int(abs((math.log2(channels) + b) / gamma))
    return t if t % 2 else t + 1


ROWS = (
    Row(
        name="se",
        target="nas_attn.attention.se:SqueezeExcitation",
        title="Squeeze-and-excitation",
        paper="Hu et al. 2018, arXiv:1709.01507",
        family="channel",
        fit=_fit_se,
        identity="gate",
        knobs=(
            REDUCTION,
            BIAS,
            KnobSpec("divisor", int, 1, "the hidden width is rounded to a multiple of this (timm: 8)", choices=(1, 8)),
        ),
        flow=("x -> mean over H, W -> linear C to h -> ReLU -> linear h to C -> sigmoid -> × -> y", "x -> ×"),
    ),
    Row(
        name="eca",
        target="nas_attn.attention.eca:EfficientChannel",
        title="Efficient channel attention",
        paper="Wang et al. 2020, arXiv:1910.03151",
        family="channel",
        fit=_fit_eca,
        identity="gate",
        knobs=(
            KnobSpec("kernel_size", int, "auto", "odd number of neighbouring channels seen", low=1, high=63, auto=True),
            KnobSpec("gamma", float, 2.0, "slope of the rule behind auto", low=0.1, high=16.0, preset=True),
            KnobSpec("b", float, 1.0, "offset of the rule behind auto", low=-16.0, high=16.0, preset=True),
            KnobSpec(
                "padding", str, "zeros", "what lies beyond the first and last channel", choices=("zeros", "circular")
            ),
        ),
        flow=("x -> mean over H, W -> conv k over channels -> sigmoid -> × -> y", "x -> ×"),
    ),
)
