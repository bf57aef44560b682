"""Rows of the modules in `spatial.py`, `polarized.py` and `gather_excite.py`. No torch."""

from __future__ import annotations

import math
from types import ModuleType

from nas_attn.attention import knobs
from nas_attn.attention.channel_rows import BIAS, ECA_KERNEL
from nas_attn.attention.row import Fitting, KnobSpec, Row, largest_divisor


def _cbam(fitting: Fitting) -> None:
    if fitting.values["gates"] == "spatial":
        fitting.ignore("reduction", "bias")
    else:
        fitting.hidden()
    if fitting.values["gates"] == "channel":
        fitting.ignore("spatial_kernel_size", "spatial_norm")
    else:
        fitting.odd("spatial_kernel_size")


def _gam(fitting: Fitting) -> None:
    common = math.gcd(fitting.channels, fitting.hidden())
    groups = fitting.divisor("groups", common, "channels and hidden channels")
    if groups == 1:
        fitting.ignore("shuffle")


def _shuffle(fitting: Fitting) -> None:
    """Each group has two halves; an odd number of channels has groups with unequal ones."""
    channels = fitting.channels
    if channels % 2 == 0:
        fitting.divisor("groups", channels // 2, "pairs of channels")
    else:
        fitting.divisor("groups", channels, largest=max(1, channels // 2))


def _sge(fitting: Fitting) -> None:
    """`auto` is the paper's 64, or as many as leave two channels each: of a single channel, the
    statistic changes its sign with the channel's mean, and trainings collapse.
    """
    if fitting.values["groups"] == "auto":
        most = min(64, fitting.channels // 2)
        fitting.values["groups"] = largest_divisor(fitting.channels, most)
    fitting.divisor("groups", fitting.channels)


def _ge(fitting: Fitting) -> None:
    if fitting.values["mlp"]:
        fitting.hidden()
    else:
        fitting.ignore("reduction")


def _spatial() -> ModuleType:
    """The file of classes beside these rows. It loads torch, so it is imported when asked for."""
    from nas_attn.attention import spatial

    return spatial


def _polarized() -> ModuleType:
    """The file of classes beside these rows. It loads torch, so it is imported when asked for."""
    from nas_attn.attention import polarized

    return polarized


def _gather_excite() -> ModuleType:
    """The file of classes beside these rows. It loads torch, so it is imported when asked for."""
    from nas_attn.attention import gather_excite

    return gather_excite


ROWS = (
    Row(
        "cbam",
        lambda: _spatial().ConvolutionalBlockAttention,
        "Convolutional block attention module",
        "Woo et al. 2018, arXiv:1807.06521",
        "spatial",
        (
            knobs.reduction(),
            knobs.odd("spatial_kernel_size", 7, "odd side of the spatial convolution"),
            knobs.choice("gates", "which of the two gates there are", "both", "channel", "spatial"),
            BIAS,
            knobs.switch(
                "spatial_norm", True, "whether the spatial gate ends in a batch normalisation"
            ),
        ),
        fit=_cbam,
    ),
    Row(
        "bam",
        lambda: _spatial().BottleneckAttention,
        "Bottleneck attention module",
        "Park et al. 2018, arXiv:1807.06514",
        "spatial",
        (
            knobs.reduction(),
            KnobSpec("dilation", int, 4, "of the two 3×3 convolutions", low=1, high=64),
            knobs.choice(
                "combine", "the paper's, or the code's without last norms", "sum", "product"
            ),
        ),
    ),
    Row(
        "gam",
        lambda: _spatial().GlobalAttention,
        "Global attention mechanism",
        "Liu et al. 2021, arXiv:2112.05561",
        "spatial",
        (
            knobs.reduction(4),
            KnobSpec(
                "groups", int, 1, "groups of the two convolutions", low=1, high=knobs.WIDEST_MAP
            ),
            knobs.switch("shuffle", True, "mix the spatial gate's channels where there are groups"),
            knobs.switch(
                "channel_sigmoid",
                True,
                "whether the channel gate is a sigmoid, as in the paper's figure",
            ),
            knobs.choice("padding", "of the two convolutions", "zeros", "replicate"),
        ),
        fit=_gam,
    ),
    Row(
        "simam",
        lambda: _spatial().SimAM,
        "Simple parameter-free attention",
        "Yang et al. 2021, ICML 2021",
        "spatial",
        (
            KnobSpec("e_lambda", float, 1e-4, "added to the variance", low=1e-12, high=1e3),
            knobs.switch(
                "unbiased", True, "variance over HW - 1 (the authors' code) or HW (the paper)"
            ),
        ),
    ),
    Row(
        "sge",
        lambda: _spatial().SpatialGroupEnhance,
        "Spatial group-wise enhance",
        "Li et al. 2019, arXiv:1905.09646",
        "spatial",
        (
            KnobSpec(
                "groups",
                int,
                "auto",
                "groups of channels, each with its own map; auto: 64, of two channels or more",
                low=1,
                high=knobs.WIDEST_MAP,
                auto=True,
            ),
        ),
        fit=_sge,
    ),
    Row(
        "scse",
        lambda: _spatial().ConcurrentSqueezeExcitation,
        "Concurrent spatial and channel squeeze-and-excitation",
        "Guha Roy et al. 2018, arXiv:1803.02579",
        "spatial",
        (
            knobs.reduction(2),
            knobs.choice("combine", "how the two gated maps become one", "max", "sum"),
        ),
    ),
    Row(
        "triplet",
        lambda: _spatial().TripletAttention,
        "Triplet attention",
        "Misra et al. 2021, arXiv:2010.03045",
        "spatial",
        (
            knobs.odd("kernel_size", 7, "odd side of the three convolutions"),
            knobs.switch("spatial", True, "whether there is a gate over H and W"),
        ),
    ),
    Row(
        "ema",
        lambda: _spatial().EfficientMultiScale,
        "Efficient multi-scale attention",
        "Ouyang et al. 2023, arXiv:2305.13563",
        "spatial",
        (knobs.divisor("groups", 32, "groups of channels, which share their weights"),),
    ),
    Row(
        "shuffle",
        lambda: _spatial().ShuffleAttention,
        "Shuffle attention",
        "Zhang and Yang 2021, arXiv:2102.00240",
        "spatial",
        (
            KnobSpec(
                "groups",
                int,
                64,
                "groups of channels, which share weights",
                low=1,
                high=knobs.WIDEST_MAP,
            ),
        ),
        fit=_shuffle,
    ),
    Row(
        "mlca",
        lambda: _spatial().MixedLocalChannel,
        "Mixed local channel attention",
        "Wan et al. 2023, doi:10.1016/j.engappai.2023.106442",
        "spatial",
        (
            ECA_KERNEL,
            KnobSpec("local_size", int, 5, "cells along each side of the map", low=1, high=16),
            KnobSpec(
                "local_weight",
                float,
                0.5,
                "share of the cells' gate beside the map's",
                low=0.05,
                high=0.95,
            ),
        ),
    ),
    Row(
        "psa",
        lambda: _polarized().PolarizedSelfAttention,
        "Polarized self-attention",
        "Liu et al. 2021, arXiv:2107.00782",
        "spatial",
        (
            knobs.reduction(2),
            knobs.choice("layout", "side by side or in turn", "parallel", "sequential"),
            knobs.choice("form", "the paper's, or the code's other softmax", "paper", "code"),
        ),
    ),
    Row(
        "ge",
        lambda: _gather_excite().GatherExcite,
        "Gather-excite",
        "Hu et al. 2018, arXiv:1810.12348",
        "spatial",
        (
            KnobSpec(
                "extent",
                int,
                0,
                "of the neighbourhoods, 0 for the whole map",
                choices=(0, 2, 4, 8),
            ),
            knobs.choice("gather", "means (GE-θ⁻) or convolutions (GE-θ)", "mean", "conv"),
            knobs.switch(
                "mlp", False, "a small network over the channels behind it (with conv: GE-θ⁺)"
            ),
            knobs.reduction(16, "channels divided by that network's hidden width"),
        ),
        fit=_ge,
    ),
)
