"""Modules whose gate has one value per channel."""

from __future__ import annotations

import math
from functools import partial

from nas_attn.attention.row import Count, Fitting, KnobSpec, Row, blended, hidden_width

REDUCTION = KnobSpec("reduction", int, 16, "channels divided by the hidden width", low=1, high=4096)
BIAS = KnobSpec("bias", bool, True, "whether the two linear layers have biases, as the authors' Caffe file of SE has")
ECA_KERNEL = KnobSpec("kernel_size", int, "auto", "odd number of neighbouring channels seen", low=1, high=63, auto=True)
"""As `fit_eca_kernel` reads it."""


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
    size = fit_eca_kernel(f)
    return Count(size, f.channels * size)


def fit_eca_kernel(f: Fitting) -> int:
    """The kernel size along the channels, where it is `auto` by the paper's rule: |(log2 C + 1) / 2|, cut to an integer, the
    next odd one where it is even.

    Raises:
        KnobError: strict, and the size is even or too large.
    """
    if f.values["kernel_size"] == "auto":
        size = int((math.log2(f.channels) + 1) / 2)
        f.values["kernel_size"] = size if size % 2 else size + 1
    return f.odd("kernel_size", largest=min(2 * f.channels - 1, 63))


def _fit_ese(f: Fitting) -> Count:
    return Count(f.channels**2 + f.channels, f.channels**2)


def _fit_nam(f: Fitting) -> Count:
    return blended(Count(2 * f.channels, 0), f.init)


def _fit_srm(f: Fitting) -> Count:
    return Count(4 * f.channels, 0)


def _fit_gct(f: Fitting) -> Count:
    return Count(3 * f.channels, 0)


def _fit_gc(f: Fitting) -> Count:
    # The layer norm of a single hidden value would ignore it.
    hidden = f.hidden(smallest=2)
    copies = 2 if f.values["fusion"] == "both" else 1
    macs = copies * 2 * f.channels * hidden
    parameters = macs + copies * (3 * hidden + f.channels)
    if f.values["pooling"] == "attention":
        parameters, macs = parameters + f.channels + 1, macs + 2 * f.channels * f.pixels
    return Count(parameters, macs)


_row = partial(Row, family="channel")

ROWS = (
    _row(
        name="se",
        target="nas_attn.attention.se:SqueezeExcitation",
        title="Squeeze-and-excitation",
        paper="Hu et al. 2018, arXiv:1709.01507",
        fit=_fit_se,
        knobs=(
            REDUCTION,
            BIAS,
            KnobSpec("divisor", int, 1, "the hidden width is rounded to a multiple of this (timm: 8)", choices=(1, 8)),
        ),
    ),
    _row(
        name="eca",
        target="nas_attn.attention.eca:EfficientChannel",
        title="Efficient channel attention",
        paper="Wang et al. 2020, arXiv:1910.03151",
        fit=_fit_eca,
        knobs=(
            ECA_KERNEL,
            KnobSpec(
                "padding",
                str,
                "zeros",
                "beyond the first and last channel (timm's `ceca`: circular)",
                choices=("zeros", "circular"),
            ),
        ),
    ),
    _row(
        name="ese",
        target="nas_attn.attention.se:EffectiveSqueezeExcitation",
        title="Effective squeeze-and-excitation",
        paper="Lee and Park 2020, arXiv:1911.06667",
        fit=_fit_ese,
    ),
    _row(
        name="nam",
        target="nas_attn.attention.srm:NormalizationAttention",
        title="Normalisation-based attention, channel branch",
        paper="Liu et al. 2021, arXiv:2111.12419",
        fit=_fit_nam,
        knobs=(KnobSpec("detach", bool, False, "keep the gradient out of the weights, as the authors' code does"),),
    ),
    _row(
        name="srm",
        target="nas_attn.attention.srm:StyleRecalibration",
        title="Style-based recalibration",
        paper="Lee et al. 2019, arXiv:1903.10829",
        fit=_fit_srm,
    ),
    _row(
        name="gct",
        target="nas_attn.attention.srm:GatedChannel",
        title="Gated channel transformation",
        paper="Yang et al. 2020, arXiv:1909.11519",
        fit=_fit_gct,
        knobs=(KnobSpec("norm", str, "l2", "norm over the pixels", choices=("l2", "l1")),),
    ),
    _row(
        name="gc",
        target="nas_attn.attention.gc:GlobalContext",
        title="Global context block",
        paper="Cao et al. 2019, arXiv:1904.11492",
        fit=_fit_gc,
        knobs=(
            REDUCTION,
            KnobSpec("pooling", str, "attention", "how pixels are summed up", choices=("attention", "average")),
            KnobSpec("fusion", str, "add", "how the context meets x", choices=("add", "multiply", "both")),
        ),
    ),
)
