"""Rows of the modules in `channel.py`. No torch."""

from __future__ import annotations

import math
from types import ModuleType

from nas_attn.attention import knobs
from nas_attn.attention.row import Fitting, KnobSpec, Row, hidden_width

BIAS = knobs.switch(
    "bias", True, "whether the two linear layers have biases, as the authors' Caffe file of SE has"
)


GC_HIDDEN = 4
"""Fewest hidden values of `gc` by itself."""


def _eca_kernel(fitting: Fitting) -> None:
    """`auto` by the paper's rule: |(log2 C + 1) / 2|, an odd integer."""
    if fitting.values["kernel_size"] == "auto":
        size = int((math.log2(fitting.channels) + 1) / 2)
        fitting.values["kernel_size"] = size if size % 2 else size + 1
    fitting.odd("kernel_size", largest=min(2 * fitting.channels - 1, 63))


ECA_KERNEL = KnobSpec(
    "kernel_size",
    int,
    "auto",
    "odd number of neighbouring channels seen",
    low=1,
    high=63,
    auto=True,
    fit=_eca_kernel,
)


def _se(fitting: Fitting) -> None:
    reduction_asked = fitting.integer("reduction")
    divisor = fitting.integer("divisor")
    fitting.hidden()
    if divisor > 1:
        hidden = hidden_width(fitting.channels, min(reduction_asked, fitting.channels), divisor)
        reduction, divisor = _unrounded(fitting.channels, hidden, divisor)
        fitting.values["reduction"] = reduction
        fitting.values["divisor"] = divisor


def _unrounded(channels: int, hidden: int, divisor: int) -> tuple[int, int]:
    """The canonical (reduction, divisor) of a hidden width: without rounding if a reduction gives
    it.
    """
    plain = max(1, channels // hidden)
    if hidden_width(channels, plain, 1) == hidden:
        return plain, 1
    return (
        next(r for r in range(channels, 0, -1) if hidden_width(channels, r, divisor) == hidden),
        divisor,
    )


def _fca(fitting: Fitting) -> None:
    frequencies = fitting.divisor("frequencies", fitting.channels)
    # The first two of `top` are the first two of `low`.
    if frequencies <= 2 and fitting.values["order"] == "low":
        fitting.ignore("order")
    fitting.hidden()


def _gc_reduction(fitting: Fitting) -> None:
    """`auto` is the paper's 16, or less where that leaves too few hidden values for the layer norm:
    of two it gives only which is larger, and trainings fail (research/notes/gc.md).
    """
    if fitting.values["reduction"] == "auto":
        fitting.values["reduction"] = min(16, max(1, fitting.channels // GC_HIDDEN))
    # of a single hidden value, the layer norm would be a constant
    fitting.hidden(smallest=2)


def _channel() -> ModuleType:
    """The file of classes beside these rows. It loads torch, so it is imported when asked for."""
    from nas_attn.attention import channel

    return channel


ROWS = (
    Row(
        "se",
        lambda: _channel().SqueezeExcitation,
        "Squeeze-and-excitation",
        "Hu et al. 2018, arXiv:1709.01507",
        "channel",
        (
            knobs.reduction(),
            BIAS,
            KnobSpec(
                "divisor",
                int,
                1,
                "the hidden width is rounded to a multiple of this (timm: 8)",
                choices=(1, 8),
            ),
        ),
        fit=_se,
    ),
    Row(
        "eca",
        lambda: _channel().EfficientChannel,
        "Efficient channel attention",
        "Wang et al. 2020, arXiv:1910.03151",
        "channel",
        (
            ECA_KERNEL,
            knobs.choice(
                "padding", "beyond the ends (timm's `ceca`: circular)", "zeros", "circular"
            ),
        ),
    ),
    Row(
        "ese",
        lambda: _channel().EffectiveSqueezeExcitation,
        "Effective squeeze-and-excitation",
        "Lee and Park 2020, arXiv:1911.06667",
        "channel",
    ),
    Row(
        "nam",
        lambda: _channel().NormalizationAttention,
        "Normalisation-based attention, channel branch",
        "Liu et al. 2021, arXiv:2111.12419",
        "channel",
        (
            knobs.switch(
                "detach", False, "keep the gradient out of the weights, as the authors' code does"
            ),
        ),
    ),
    Row(
        "srm",
        lambda: _channel().StyleRecalibration,
        "Style-based recalibration",
        "Lee et al. 2019, arXiv:1903.10829",
        "channel",
    ),
    Row(
        "gct",
        lambda: _channel().GatedChannel,
        "Gated channel transformation",
        "Yang et al. 2020, arXiv:1909.11519",
        "channel",
        (knobs.choice("norm", "norm over the pixels", "l2", "l1"),),
    ),
    Row(
        "fca",
        lambda: _channel().FrequencyChannel,
        "Frequency channel attention",
        "Qin et al. 2021, arXiv:2012.11879",
        "channel",
        (
            knobs.divisor("frequencies", 16, "groups of channels, with a frequency each", high=32),
            knobs.choice("order", "which frequencies come first", "top", "low", "bot"),
            knobs.reduction(),
        ),
        fit=_fca,
    ),
    Row(
        "grn",
        lambda: _channel().GlobalResponse,
        "Global response normalisation",
        "Woo et al. 2023, arXiv:2301.00808",
        "channel",
    ),
    Row(
        "gc",
        lambda: _channel().GlobalContext,
        "Global context block",
        "Cao et al. 2019, arXiv:1904.11492",
        "channel",
        (
            KnobSpec(
                "reduction",
                int,
                "auto",
                "channels divided by the hidden width; auto: 16, or less where that leaves fewer"
                f" than {GC_HIDDEN}",
                low=1,
                high=4096,
                auto=True,
                fit=_gc_reduction,
            ),
            knobs.choice("pooling", "how pixels are summed up", "attention", "average"),
            knobs.choice("fusion", "how the context meets x", "add", "multiply", "both"),
        ),
    ),
)
