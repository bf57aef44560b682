"""Modules whose gate differs between pixels."""

from __future__ import annotations

import math
from functools import partial

from nas_attn.attention.row import Count, Fitting, KnobSpec, Row, blended
from nas_attn.attention.rows.channel import BIAS, ECA_KERNEL, REDUCTION, fit_eca_kernel


def _fit_cbam(f: Fitting) -> Count:
    parameters = macs = 0
    if f.values["gates"] != "spatial":
        hidden = f.hidden()
        weights = 2 * f.channels * hidden
        parameters += weights + (hidden + f.channels if f.values["bias"] else 0)
        macs += 2 * weights
    else:
        f.ignore("reduction", "bias")
    if f.values["gates"] != "channel":
        taps = 2 * f.odd("spatial_kernel_size") ** 2
        parameters += taps + (2 if f.values["spatial_norm"] else 0)
        macs += taps * f.pixels
    else:
        f.ignore("spatial_kernel_size", "spatial_norm")
    return Count(parameters, macs)


def _fit_bam(f: Fitting) -> Count:
    channels, hidden = f.channels, f.hidden()
    ends = 2 * channels + 2 if f.values["combine"] == "sum" else 0
    spatial = channels * hidden + 18 * hidden**2 + hidden
    parameters = 3 * channels * hidden + 18 * hidden**2 + 13 * hidden + channels + 1 + ends
    return Count(parameters, 2 * channels * hidden + spatial * f.pixels)


def _fit_gam(f: Fitting) -> Count:
    channels, hidden = f.channels, f.hidden()
    groups = f.divisor("groups", math.gcd(channels, hidden), "channels and hidden channels")
    if groups == 1:
        f.ignore("shuffle")
    weights = 2 * channels * hidden + 98 * channels * hidden // groups
    return Count(weights + 4 * hidden + 4 * channels, weights * f.pixels)


def _fit_sge(f: Fitting) -> Count:
    return Count(2 * f.divisor("groups", f.channels), 0)


def _fit_scse(f: Fitting) -> Count:
    channels, hidden = f.channels, f.hidden()
    weights = 2 * channels * hidden
    return Count(weights + hidden + 2 * channels + 1, weights + channels * f.pixels)


def _fit_triplet(f: Fitting) -> Count:
    taps = 2 * f.odd("kernel_size") ** 2
    planes = f.channels * (f.height + f.width)
    if not f.values["spatial"]:
        return Count(2 * (taps + 2), taps * planes)
    return Count(3 * (taps + 2), taps * (planes + f.pixels))


def _fit_ema(f: Fitting) -> Count:
    width = f.channels // f.divisor("groups", f.channels)
    macs = f.channels * (width * (f.height + f.width) + (9 * width + 2) * f.pixels)
    return blended(Count(10 * width**2 + 4 * width, macs), f.init)


def _fit_simam(f: Fitting) -> Count:
    return blended(Count(0, 0), f.init)


def _fit_shuffle(f: Fitting) -> Count:
    channels = f.channels
    if channels % 2 == 0:
        groups = f.divisor("groups", channels // 2, "pairs of channels")
    else:
        groups = f.divisor("groups", channels, largest=max(1, channels // 2))
    width = channels // groups
    return Count(2 * (width // 2) + 4 * (width - width // 2), 0)


def _fit_mlca(f: Fitting) -> Count:
    channels, size, local = f.channels, fit_eca_kernel(f), f.integer("local_size")
    pooling = 2 * channels * local * f.height * (f.width + local)
    return Count(2 * size, channels * size * (1 + local**2) + pooling)


def _fit_psa(f: Fitting) -> Count:
    channels, pixels, hidden = f.channels, f.pixels, f.hidden()
    if f.values["form"] == "paper":
        return Count(4 * channels * hidden + 3 * channels, 4 * channels * hidden + 3 * channels * pixels)
    if f.values["layout"] == "parallel":
        count = Count(4 * channels * hidden + channels, 4 * channels * hidden + 3 * channels * pixels)
        return blended(count, f.init)
    narrow = max(1, hidden // 4)
    up = hidden * narrow + narrow * channels
    parameters = 3 * channels * hidden + channels + up + 3 * narrow + channels
    macs = 2 * channels * hidden + up + (channels * hidden + 2 * channels + hidden) * pixels
    return Count(parameters, macs)


def _fit_ge(f: Fitting) -> Count:
    channels, height, width = f.channels, f.height, f.width
    extent, convolves = f.integer("extent"), f.values["gather"] == "conv"
    parameters = macs = 0
    if extent == 0:
        if convolves:
            parameters, macs = channels * f.pixels + 2 * channels, channels * f.pixels
        height = width = 1
    elif convolves:
        for _ in range(extent.bit_length() - 1):
            height, width = -(-height // 2), -(-width // 2)
            parameters, macs = parameters + 11 * channels, macs + 9 * channels * height * width
    else:
        height, width = -(-height // extent), -(-width // extent)
    if not f.values["mlp"]:
        f.ignore("reduction")
        return Count(parameters, macs) if convolves else blended(Count(parameters, macs), f.init)
    hidden = f.hidden()
    weights = 2 * channels * hidden
    return Count(parameters + weights + hidden + channels, macs + weights * height * width)


_row = partial(Row, family="spatial")

ROWS = (
    _row(
        name="cbam",
        target="nas_attn.attention.cbam:ConvolutionalBlockAttention",
        title="Convolutional block attention module",
        paper="Woo et al. 2018, arXiv:1807.06521",
        fit=_fit_cbam,
        knobs=(
            REDUCTION,
            KnobSpec("spatial_kernel_size", int, 7, "odd side of the spatial convolution", low=1, high=31),
            KnobSpec("gates", str, "both", "which of the two gates there are", choices=("both", "channel", "spatial")),
            BIAS,
            KnobSpec("spatial_norm", bool, True, "whether the spatial gate ends in a batch normalisation"),
        ),
    ),
    _row(
        name="bam",
        target="nas_attn.attention.cbam:BottleneckAttention",
        title="Bottleneck attention module",
        paper="Park et al. 2018, arXiv:1807.06514",
        fit=_fit_bam,
        knobs=(
            REDUCTION,
            KnobSpec("dilation", int, 4, "of the two 3×3 convolutions", low=1, high=64),
            KnobSpec(
                "combine", str, "sum", "the paper's, or the code's without last norms", choices=("sum", "product")
            ),
        ),
    ),
    _row(
        name="gam",
        target="nas_attn.attention.gam:GlobalAttention",
        title="Global attention mechanism",
        paper="Liu et al. 2021, arXiv:2112.05561",
        fit=_fit_gam,
        knobs=(
            KnobSpec("reduction", int, 4, "channels divided by the hidden width", low=1, high=4096),
            KnobSpec("groups", int, 1, "groups of the two convolutions", low=1, high=65536),
            KnobSpec("shuffle", bool, True, "mix the spatial gate's channels where there are groups"),
            KnobSpec("channel_sigmoid", bool, True, "whether the channel gate is a sigmoid, as in the paper's figure"),
            KnobSpec("padding", str, "zeros", "of the two convolutions", choices=("zeros", "replicate")),
        ),
    ),
    _row(
        name="simam",
        target="nas_attn.attention.simam:SimAM",
        title="Simple parameter-free attention",
        paper="Yang et al. 2021, ICML 2021",
        fit=_fit_simam,
        knobs=(
            KnobSpec("e_lambda", float, 1e-4, "added to the variance", low=1e-12, high=1e3),
            KnobSpec("unbiased", bool, True, "variance over HW - 1 (the authors' code) or HW (the paper)"),
        ),
    ),
    _row(
        name="sge",
        target="nas_attn.attention.sge:SpatialGroupEnhance",
        title="Spatial group-wise enhance",
        paper="Li et al. 2019, arXiv:1905.09646",
        fit=_fit_sge,
        knobs=(KnobSpec("groups", int, 64, "groups of channels, each with its own map", low=1, high=65536),),
    ),
    _row(
        name="scse",
        target="nas_attn.attention.se:ConcurrentSqueezeExcitation",
        title="Concurrent spatial and channel squeeze-and-excitation",
        paper="Guha Roy et al. 2018, arXiv:1803.02579",
        fit=_fit_scse,
        knobs=(
            KnobSpec("reduction", int, 2, "channels divided by the hidden width", low=1, high=4096),
            KnobSpec("combine", str, "max", "how the two gated maps become one", choices=("max", "sum")),
        ),
    ),
    _row(
        name="triplet",
        target="nas_attn.attention.cbam:TripletAttention",
        title="Triplet attention",
        paper="Misra et al. 2021, arXiv:2010.03045",
        fit=_fit_triplet,
        knobs=(
            KnobSpec("kernel_size", int, 7, "odd side of the three convolutions", low=1, high=31),
            KnobSpec("spatial", bool, True, "whether there is a gate over H and W"),
        ),
    ),
    _row(
        name="ema",
        target="nas_attn.attention.ema:EfficientMultiScale",
        title="Efficient multi-scale attention",
        paper="Ouyang et al. 2023, arXiv:2305.13563",
        fit=_fit_ema,
        knobs=(KnobSpec("groups", int, 32, "groups of channels, which share their weights", low=1, high=65536),),
    ),
    _row(
        name="shuffle",
        target="nas_attn.attention.shuffle:ShuffleAttention",
        title="Shuffle attention",
        paper="Zhang and Yang 2021, arXiv:2102.00240",
        fit=_fit_shuffle,
        knobs=(KnobSpec("groups", int, 64, "groups of channels, which share weights", low=1, high=65536),),
    ),
    _row(
        name="mlca",
        target="nas_attn.attention.eca:MixedLocalChannel",
        title="Mixed local channel attention",
        paper="Wan et al. 2023, doi:10.1016/j.engappai.2023.106442",
        fit=_fit_mlca,
        knobs=(
            ECA_KERNEL,
            KnobSpec("local_size", int, 5, "cells along each side of the map", low=1, high=16),
            KnobSpec("local_weight", float, 0.5, "share of the cells' gate beside the map's", low=0.05, high=0.95),
        ),
    ),
    _row(
        name="psa",
        target="nas_attn.attention.psa:PolarizedSelfAttention",
        title="Polarized self-attention",
        paper="Liu et al. 2021, arXiv:2107.00782",
        fit=_fit_psa,
        knobs=(
            KnobSpec("reduction", int, 2, "channels divided by the hidden width", low=1, high=4096),
            KnobSpec("layout", str, "parallel", "side by side or in turn", choices=("parallel", "sequential")),
            KnobSpec("form", str, "paper", "the paper's, or the code's other softmax", choices=("paper", "code")),
        ),
    ),
    _row(
        name="ge",
        target="nas_attn.attention.ge:GatherExcite",
        title="Gather-excite",
        paper="Hu et al. 2018, arXiv:1810.12348",
        fit=_fit_ge,
        knobs=(
            KnobSpec("extent", int, 0, "of the neighbourhoods, 0 for the whole map", choices=(0, 2, 4, 8)),
            KnobSpec("gather", str, "mean", "means (GE-θ⁻) or convolutions (GE-θ)", choices=("mean", "conv")),
            KnobSpec("mlp", bool, False, "a small network over the channels behind it (with conv: GE-θ⁺)"),
            KnobSpec("reduction", int, 16, "channels divided by that network's hidden width", low=1, high=4096),
        ),
    ),
)
