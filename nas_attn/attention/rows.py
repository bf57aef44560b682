"""The rows of the catalogue, by family: titles, papers, knobs, costs. No torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from nas_attn.attention.row import (
    Count,
    Fitting,
    KnobSpec,
    Row,
    blended,
    hidden_knobs,
    hidden_width,
    largest_divisor,
)
from nas_attn.errors import KnobError
from nas_attn.records import format_knob

ROWS: dict[str, Row] = {}
"""Name -> row of every module of this package, in the order in which they are shown."""
Fit = Callable[[Fitting], Count]


def _row(family: str, at: str, title: str, paper: str, *knobs: KnobSpec) -> Callable[[Fit], None]:
    """Adds a row; the decorated function is its `fit` and has its name. `at`: module of this
    folder, colon, class.
    """

    def add(fit: Fit) -> None:
        name, target = fit.__name__, f"nas_attn.attention.{at}"
        ROWS[name] = Row(name, target, title, paper, family, fit, knobs, family == "convolution")

    return add


_channel, _spatial, _kernel, _direction, _pixels, _control = (
    partial(_row, family)
    for family in ("channel", "spatial", "kernel", "direction", "self-attention", "convolution")
)
REDUCTION = KnobSpec("reduction", int, 16, "channels divided by the hidden width", low=1, high=4096)
BIAS = KnobSpec(
    "bias",
    bool,
    True,
    "whether the two linear layers have biases, as the authors' Caffe file of SE has",
)
ECA_KERNEL = KnobSpec(
    "kernel_size",
    int,
    "auto",
    "odd number of neighbouring channels seen",
    low=1,
    high=63,
    auto=True,
)


@_channel(
    "channel:SqueezeExcitation",
    "Squeeze-and-excitation",
    "Hu et al. 2018, arXiv:1709.01507",
    REDUCTION,
    BIAS,
    KnobSpec(
        "divisor",
        int,
        1,
        "the hidden width is rounded to a multiple of this (timm: 8)",
        choices=(1, 8),
    ),
)
def se(f: Fitting) -> Count:
    reduction, divisor = f.integer("reduction"), f.integer("divisor")
    f.hidden()
    hidden = hidden_width(f.channels, min(reduction, f.channels), divisor)
    if divisor > 1:
        f.values["reduction"], f.values["divisor"] = _unrounded(f.channels, hidden, divisor)
    weights = 2 * f.channels * hidden
    return Count(weights + (hidden + f.channels if f.values["bias"] else 0), weights)


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


@_channel(
    "channel:EfficientChannel",
    "Efficient channel attention",
    "Wang et al. 2020, arXiv:1910.03151",
    ECA_KERNEL,
    KnobSpec(
        "padding",
        str,
        "zeros",
        "beyond the ends (timm's `ceca`: circular)",
        choices=("zeros", "circular"),
    ),
)
def eca(f: Fitting) -> Count:
    size = _eca_kernel(f)
    return Count(size, f.channels * size)


def _eca_kernel(f: Fitting) -> int:
    """The kernel size along the channels; `auto` by the paper's rule: |(log2 C + 1) / 2|, an odd
    integer.
    """
    if f.values["kernel_size"] == "auto":
        size = int((math.log2(f.channels) + 1) / 2)
        f.values["kernel_size"] = size if size % 2 else size + 1
    return f.odd("kernel_size", largest=min(2 * f.channels - 1, 63))


@_channel(
    "channel:EffectiveSqueezeExcitation",
    "Effective squeeze-and-excitation",
    "Lee and Park 2020, arXiv:1911.06667",
)
def ese(f: Fitting) -> Count:
    return Count(f.channels**2 + f.channels, f.channels**2)


@_channel(
    "channel:NormalizationAttention",
    "Normalisation-based attention, channel branch",
    "Liu et al. 2021, arXiv:2111.12419",
    KnobSpec(
        "detach", bool, False, "keep the gradient out of the weights, as the authors' code does"
    ),
)
def nam(f: Fitting) -> Count:
    return blended(Count(2 * f.channels, 0), f.init)


@_channel(
    "channel:StyleRecalibration", "Style-based recalibration", "Lee et al. 2019, arXiv:1903.10829"
)
def srm(f: Fitting) -> Count:
    return Count(4 * f.channels, 0)


@_channel(
    "channel:GatedChannel",
    "Gated channel transformation",
    "Yang et al. 2020, arXiv:1909.11519",
    KnobSpec("norm", str, "l2", "norm over the pixels", choices=("l2", "l1")),
)
def gct(f: Fitting) -> Count:
    return Count(3 * f.channels, 0)


@_channel(
    "channel:GlobalContext",
    "Global context block",
    "Cao et al. 2019, arXiv:1904.11492",
    REDUCTION,
    KnobSpec(
        "pooling", str, "attention", "how pixels are summed up", choices=("attention", "average")
    ),
    KnobSpec("fusion", str, "add", "how the context meets x", choices=("add", "multiply", "both")),
)
def gc(f: Fitting) -> Count:
    # The layer norm of a single hidden value would ignore it.
    hidden = f.hidden(smallest=2)
    copies = 2 if f.values["fusion"] == "both" else 1
    macs = copies * 2 * f.channels * hidden
    parameters = macs + copies * (3 * hidden + f.channels)
    if f.values["pooling"] == "attention":
        parameters, macs = parameters + f.channels + 1, macs + 2 * f.channels * f.pixels
    return Count(parameters, macs)


@_spatial(
    "spatial:ConvolutionalBlockAttention",
    "Convolutional block attention module",
    "Woo et al. 2018, arXiv:1807.06521",
    REDUCTION,
    KnobSpec("spatial_kernel_size", int, 7, "odd side of the spatial convolution", low=1, high=31),
    KnobSpec(
        "gates",
        str,
        "both",
        "which of the two gates there are",
        choices=("both", "channel", "spatial"),
    ),
    BIAS,
    KnobSpec("spatial_norm", bool, True, "whether the spatial gate ends in a batch normalisation"),
)
def cbam(f: Fitting) -> Count:
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


@_spatial(
    "spatial:BottleneckAttention",
    "Bottleneck attention module",
    "Park et al. 2018, arXiv:1807.06514",
    REDUCTION,
    KnobSpec("dilation", int, 4, "of the two 3×3 convolutions", low=1, high=64),
    KnobSpec(
        "combine",
        str,
        "sum",
        "the paper's, or the code's without last norms",
        choices=("sum", "product"),
    ),
)
def bam(f: Fitting) -> Count:
    channels, hidden = f.channels, f.hidden()
    ends = 2 * channels + 2 if f.values["combine"] == "sum" else 0
    spatial = channels * hidden + 18 * hidden**2 + hidden
    parameters = 3 * channels * hidden + 18 * hidden**2 + 13 * hidden + channels + 1 + ends
    return Count(parameters, 2 * channels * hidden + spatial * f.pixels)


@_spatial(
    "spatial:GlobalAttention",
    "Global attention mechanism",
    "Liu et al. 2021, arXiv:2112.05561",
    KnobSpec("reduction", int, 4, "channels divided by the hidden width", low=1, high=4096),
    KnobSpec("groups", int, 1, "groups of the two convolutions", low=1, high=65536),
    KnobSpec("shuffle", bool, True, "mix the spatial gate's channels where there are groups"),
    KnobSpec(
        "channel_sigmoid",
        bool,
        True,
        "whether the channel gate is a sigmoid, as in the paper's figure",
    ),
    KnobSpec("padding", str, "zeros", "of the two convolutions", choices=("zeros", "replicate")),
)
def gam(f: Fitting) -> Count:
    channels, hidden = f.channels, f.hidden()
    groups = f.divisor("groups", math.gcd(channels, hidden), "channels and hidden channels")
    if groups == 1:
        f.ignore("shuffle")
    weights = 2 * channels * hidden + 98 * channels * hidden // groups
    return Count(weights + 4 * hidden + 4 * channels, weights * f.pixels)


@_spatial(
    "spatial:SimAM",
    "Simple parameter-free attention",
    "Yang et al. 2021, ICML 2021",
    KnobSpec("e_lambda", float, 1e-4, "added to the variance", low=1e-12, high=1e3),
    KnobSpec("unbiased", bool, True, "variance over HW - 1 (the authors' code) or HW (the paper)"),
)
def simam(f: Fitting) -> Count:
    return blended(Count(0, 0), f.init)


@_spatial(
    "spatial:SpatialGroupEnhance",
    "Spatial group-wise enhance",
    "Li et al. 2019, arXiv:1905.09646",
    KnobSpec("groups", int, 64, "groups of channels, each with its own map", low=1, high=65536),
)
def sge(f: Fitting) -> Count:
    return Count(2 * f.divisor("groups", f.channels), 0)


@_spatial(
    "spatial:ConcurrentSqueezeExcitation",
    "Concurrent spatial and channel squeeze-and-excitation",
    "Guha Roy et al. 2018, arXiv:1803.02579",
    KnobSpec("reduction", int, 2, "channels divided by the hidden width", low=1, high=4096),
    KnobSpec("combine", str, "max", "how the two gated maps become one", choices=("max", "sum")),
)
def scse(f: Fitting) -> Count:
    channels, hidden = f.channels, f.hidden()
    weights = 2 * channels * hidden
    return Count(weights + hidden + 2 * channels + 1, weights + channels * f.pixels)


@_spatial(
    "spatial:TripletAttention",
    "Triplet attention",
    "Misra et al. 2021, arXiv:2010.03045",
    KnobSpec("kernel_size", int, 7, "odd side of the three convolutions", low=1, high=31),
    KnobSpec("spatial", bool, True, "whether there is a gate over H and W"),
)
def triplet(f: Fitting) -> Count:
    taps = 2 * f.odd("kernel_size") ** 2
    planes = f.channels * (f.height + f.width)
    if not f.values["spatial"]:
        return Count(2 * (taps + 2), taps * planes)
    return Count(3 * (taps + 2), taps * (planes + f.pixels))


@_spatial(
    "spatial:EfficientMultiScale",
    "Efficient multi-scale attention",
    "Ouyang et al. 2023, arXiv:2305.13563",
    KnobSpec("groups", int, 32, "groups of channels, which share their weights", low=1, high=65536),
)
def ema(f: Fitting) -> Count:
    width = f.channels // f.divisor("groups", f.channels)
    macs = f.channels * (width * (f.height + f.width) + (9 * width + 2) * f.pixels)
    return blended(Count(10 * width**2 + 4 * width, macs), f.init)


@_spatial(
    "spatial:ShuffleAttention",
    "Shuffle attention",
    "Zhang and Yang 2021, arXiv:2102.00240",
    KnobSpec("groups", int, 64, "groups of channels, which share weights", low=1, high=65536),
)
def shuffle(f: Fitting) -> Count:
    channels = f.channels
    if channels % 2 == 0:
        groups = f.divisor("groups", channels // 2, "pairs of channels")
    else:
        groups = f.divisor("groups", channels, largest=max(1, channels // 2))
    width = channels // groups
    return Count(2 * (width // 2) + 4 * (width - width // 2), 0)


@_spatial(
    "spatial:MixedLocalChannel",
    "Mixed local channel attention",
    "Wan et al. 2023, doi:10.1016/j.engappai.2023.106442",
    ECA_KERNEL,
    KnobSpec("local_size", int, 5, "cells along each side of the map", low=1, high=16),
    KnobSpec(
        "local_weight", float, 0.5, "share of the cells' gate beside the map's", low=0.05, high=0.95
    ),
)
def mlca(f: Fitting) -> Count:
    channels, size, local = f.channels, _eca_kernel(f), f.integer("local_size")
    pooling = 2 * channels * local * f.height * (f.width + local)
    return Count(2 * size, channels * size * (1 + local**2) + pooling)


@_spatial(
    "polarized:PolarizedSelfAttention",
    "Polarized self-attention",
    "Liu et al. 2021, arXiv:2107.00782",
    KnobSpec("reduction", int, 2, "channels divided by the hidden width", low=1, high=4096),
    KnobSpec(
        "layout", str, "parallel", "side by side or in turn", choices=("parallel", "sequential")
    ),
    KnobSpec(
        "form", str, "paper", "the paper's, or the code's other softmax", choices=("paper", "code")
    ),
)
def psa(f: Fitting) -> Count:
    channels, pixels, hidden = f.channels, f.pixels, f.hidden()
    if f.values["form"] == "paper":
        return Count(
            4 * channels * hidden + 3 * channels, 4 * channels * hidden + 3 * channels * pixels
        )
    if f.values["layout"] == "parallel":
        count = Count(
            4 * channels * hidden + channels, 4 * channels * hidden + 3 * channels * pixels
        )
        return blended(count, f.init)
    narrow = max(1, hidden // 4)
    up = hidden * narrow + narrow * channels
    parameters = 3 * channels * hidden + channels + up + 3 * narrow + channels
    macs = 2 * channels * hidden + up + (channels * hidden + 2 * channels + hidden) * pixels
    return Count(parameters, macs)


@_spatial(
    "gather_excite:GatherExcite",
    "Gather-excite",
    "Hu et al. 2018, arXiv:1810.12348",
    KnobSpec("extent", int, 0, "of the neighbourhoods, 0 for the whole map", choices=(0, 2, 4, 8)),
    KnobSpec(
        "gather", str, "mean", "means (GE-θ⁻) or convolutions (GE-θ)", choices=("mean", "conv")
    ),
    KnobSpec("mlp", bool, False, "a small network over the channels behind it (with conv: GE-θ⁺)"),
    KnobSpec(
        "reduction", int, 16, "channels divided by that network's hidden width", low=1, high=4096
    ),
)
def ge(f: Fitting) -> Count:
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


@_kernel(
    "kernel:LargeSeparableKernel",
    "Large separable kernel attention",
    "Lau et al. 2023, arXiv:2309.01439",
    KnobSpec(
        "kernel_size",
        int,
        11,
        "side of the kernel that the strips stand for",
        choices=(7, 11, 23, 35, 41, 53),
    ),
)
def lska(f: Fitting) -> Count:
    channels = f.channels
    dense, dilated, _ = lska_sizes(f.integer("kernel_size"))
    taps = 2 * (dense + dilated) * channels + channels**2
    return Count(taps + 5 * channels, taps * f.pixels)


def lska_sizes(kernel_size: int) -> tuple[int, int, int]:
    """(dense taps, dilated taps, dilation) of the strips that stand for a large kernel."""
    dilation = 2 if kernel_size < 23 else 3
    return 2 * dilation - 1, kernel_size // dilation, dilation


@_kernel(
    "kernel:LargeSelectiveKernel",
    "Large selective kernel",
    "Li et al. 2023, arXiv:2303.09030",
    KnobSpec("reduction", int, 2, "channels divided by the hidden width", low=1, high=4096),
    KnobSpec("kernel_size", int, 7, "odd side of the convolution that selects", low=1, high=31),
)
def lsk(f: Fitting) -> Count:
    channels, hidden, taps = f.channels, f.hidden(), 4 * f.odd("kernel_size") ** 2
    weights = 74 * channels + 3 * channels * hidden + taps
    return Count(weights + 3 * channels + 2 * hidden + 2, weights * f.pixels)


@_kernel(
    "kernel:SelectiveKernel",
    "Selective kernel convolution",
    "Li et al. 2019, arXiv:1903.06586",
    KnobSpec("branches", int, 2, "convolutions of different reach", low=2, high=8),
    KnobSpec("dilated", bool, True, "reach by dilation of a 3×3, or by larger kernels"),
    KnobSpec("groups", int, 32, "groups of the convolutions", low=1, high=65536),
    KnobSpec("reduction", int, 16, "channels divided by the hidden width", low=1, high=4096),
    KnobSpec("min_hidden", int, 32, "the hidden width is at least this", low=1, high=4096),
)
def sk(f: Fitting) -> Count:
    channels, branches = f.channels, f.integer("branches")
    hidden = max(f.integer("min_hidden"), channels // f.integer("reduction"))
    f.values["reduction"], f.values["min_hidden"] = hidden_knobs(channels, hidden, 32)
    sides = [3 if f.values["dilated"] else 2 * i + 1 for i in range(1, branches + 1)]
    convolutions = (
        channels * (channels // f.divisor("groups", channels)) * sum(side**2 for side in sides)
    )
    linear = (branches + 1) * channels * hidden
    parameters = convolutions + 2 * branches * channels + linear + 2 * hidden
    return blended(Count(parameters, convolutions * f.pixels + linear), f.init)


@_kernel(
    "kernel:ContextAnchor",
    "Context anchor attention",
    "Cai et al. 2024, arXiv:2403.06258",
    KnobSpec("kernel_size", int, 11, "odd length of the strips", low=1, high=63),
    KnobSpec("pool_size", int, 7, "odd side of the means before them", low=1, high=31),
    KnobSpec(
        "norm",
        bool,
        True,
        "batch norm and SiLU behind both 1×1 convolutions, as the authors' code has",
    ),
)
def caa(f: Fitting) -> Count:
    channels = f.channels
    weights = 2 * channels**2 + 2 * f.odd("kernel_size") * channels
    f.odd("pool_size")
    return Count(weights + (6 if f.values["norm"] else 4) * channels, weights * f.pixels)


@_kernel(
    "kernel:ChannelPrior",
    "Channel prior convolutional attention",
    "Huang et al. 2024, arXiv:2306.05196",
    KnobSpec("reduction", int, 4, "channels divided by the hidden width", low=1, high=4096),
    KnobSpec(
        "channel_gate",
        str,
        "sum",
        "of the sum, or (code) the sum of sigmoids",
        choices=("sum", "sigmoids"),
    ),
    KnobSpec(
        "projected",
        bool,
        False,
        "the code's 1×1 convolution and GELU before, and the same 1×1 behind",
    ),
)
def cpca(f: Fitting) -> Count:
    channels, hidden = f.channels, f.hidden()
    strips = 103 * channels  # 5x5, and twice 7, 11 and 21
    parameters = (
        strips + 7 * channels + channels**2 + channels + 2 * channels * hidden + hidden + channels
    )
    maps = strips + channels**2 * (3 if f.values["projected"] else 1)
    count = Count(parameters, 4 * channels * hidden + maps * f.pixels)
    return blended(count, f.init) if f.values["projected"] else count


@_direction(
    "direction:CoordinateAttention",
    "Coordinate attention",
    "Hou et al. 2021, arXiv:2103.02907",
    KnobSpec("reduction", int, 32, "channels divided by the hidden width", low=1, high=4096),
    KnobSpec("min_hidden", int, 8, "the hidden width is at least this", low=1, high=4096),
)
def coord(f: Fitting) -> Count:
    channels, reduction, floor = f.channels, f.integer("reduction"), f.integer("min_hidden")
    if reduction > channels:
        f.refuse(
            "reduction", f"is more than the {channels} channels, the largest possible is {channels}"
        )
    hidden = max(floor, channels // reduction)
    f.values["reduction"], f.values["min_hidden"] = hidden_knobs(channels, hidden, 8)
    macs = (channels * hidden) * (f.height + f.width) * 2
    return Count(3 * channels * hidden + 3 * hidden + 2 * channels, macs)


VARIANTS = {"T": (5, 1, 32), "B": (7, 1, 16), "S": (5, 8, 16), "L": (7, 8, 16)}
"""ELA's published sizes: kernel, channels per convolution group, groups of the normalisation."""


@_direction(
    "direction:EfficientLocalAttention",
    "Efficient local attention",
    "Xu and Wan 2024, arXiv:2403.01123",
    KnobSpec(
        "variant",
        str,
        "B",
        "the paper's sizes for auto knobs",
        choices=tuple(VARIANTS),
        preset=True,
    ),
    KnobSpec(
        "kernel_size", int, "auto", "odd length of the convolutions", low=1, high=63, auto=True
    ),
    KnobSpec("groups", int, "auto", "groups of the convolution", low=1, high=65536, auto=True),
    KnobSpec(
        "norm_groups",
        int,
        "auto",
        "groups of the group normalisation",
        low=1,
        high=65536,
        auto=True,
    ),
    KnobSpec(
        "shared",
        bool,
        True,
        "one convolution and norm for both directions, as in all copies (paper: two)",
    ),
    KnobSpec(
        "activation", str, "none", "before the sigmoid (timm: silu)", choices=("none", "silu")
    ),
)
def ela(f: Fitting) -> Count:
    _expand_variant(f)
    channels, size = f.channels, f.odd("kernel_size")
    groups = f.divisor("groups", channels)
    f.divisor("norm_groups", channels)
    weights = channels * (channels // groups) * size
    copies = 1 if f.values["shared"] else 2
    return Count(copies * (weights + 2 * channels), weights * (f.height + f.width))


def _expand_variant(f: Fitting) -> None:
    """Uses the variant's sizes for all knobs that are not given."""
    variant = str(f.values["variant"])
    size, width, norm = VARIANTS[variant]
    for name, preset in (
        ("kernel_size", size),
        ("groups", max(1, f.channels // width)),
        ("norm_groups", norm),
    ):
        fitted = preset if name == "kernel_size" else largest_divisor(f.channels, preset)
        asked = f.given.get(name, "auto")
        if asked == "auto":
            f.values[name] = fitted
            if fitted != preset and f.strict and "variant" in f.given:
                f.warn(
                    f"variant={variant} has {name}={preset}, which does not divide {f.channels}"
                    f" channels: {fitted} was taken"
                )
        elif "variant" in f.given and asked not in (preset, fitted):
            means = f"variant={variant} means {name}={fitted} on {f.channels} channels"
            raise KnobError(
                f"ela: {means}, and {name}={format_knob(asked)} contradicts it: leave one out"
            )


@_direction(
    "direction:SynergisticAttention",
    "Spatial and channel synergistic attention",
    "Si et al. 2025, arXiv:2407.05128",
    KnobSpec("heads", int, 8, "heads in which channels attend to channels", low=1, high=4096),
    KnobSpec(
        "window_size",
        int,
        7,
        "side of the windows whose means they are compared by",
        low=1,
        high=64,
    ),
    KnobSpec("groups", int, 4, "groups of channels with strips of 3, 5, 7 and 9", low=1, high=4),
)
def scsa(f: Fitting) -> Count:
    channels, width = f.channels, f.channels // f.divisor("heads", f.channels)
    groups = f.divisor("groups", channels)
    side = f.values["window_size"] = min(f.integer("window_size"), max(f.height, f.width))
    windows = (f.height // min(side, f.height)) * (f.width // min(side, f.width))
    taps = channels // groups * sum((3, 5, 7, 9)[:groups])
    macs = taps * (f.height + f.width) + (3 + width) * channels * windows + channels * width
    return Count(taps + 10 * channels, macs)


DOWNSAMPLE = KnobSpec(
    "downsample", int, 1, "side of the cells whose means are keys and values", low=1, high=64
)


@_pixels(
    "self_attention:ScaledDotProduct",
    "Scaled dot-product attention, one head",
    "Vaswani et al. 2017, arXiv:1706.03762; on maps Wang et al. 2018, arXiv:1711.07971",
    KnobSpec("reduction", int, 2, "channels divided by the head's width", low=1, high=4096),
    DOWNSAMPLE,
)
def sdpa(f: Fitting) -> Count:
    channels, hidden = f.channels, f.hidden()
    rows, columns = _grid(f)
    cells = rows * columns
    macs = 2 * channels * hidden * (f.pixels + cells) + 2 * hidden * f.pixels * cells
    return Count(4 * channels * hidden + channels, macs)


@_pixels(
    "self_attention:MultiHead",
    "Multi-head self-attention",
    "Srinivas et al. 2021, arXiv:2101.11605",
    KnobSpec("heads", int, 4, "number of heads", low=1, high=4096),
    KnobSpec(
        "position", str, "relative", "learned position", choices=("relative", "absolute", "none")
    ),
    DOWNSAMPLE,
    KnobSpec("residual", bool, True, "add to x by a projection; false: attention alone (BoTNet)"),
)
def mhsa(f: Fitting) -> Count:
    channels, width = f.channels, f.channels // f.divisor("heads", f.channels)
    rows, columns = _grid(f)
    cells = rows * columns
    parameters = 3 * channels**2
    macs = channels**2 * (f.pixels + 2 * cells) + 2 * channels * f.pixels * cells
    if f.values["position"] == "relative":
        parameters += (2 * rows + 2 * columns - 2) * width
        macs += channels * f.pixels * (rows + columns)
    elif f.values["position"] == "absolute":
        parameters += (rows + columns) * width
    if not f.values["residual"]:
        return blended(Count(parameters, macs), f.init)
    return Count(parameters + channels**2, macs + channels**2 * f.pixels)


def _grid(f: Fitting) -> tuple[int, int]:
    """Rows and columns of the cells, each at most as large as the map."""
    side = min(f.integer("downsample"), max(f.height, f.width))
    f.values["downsample"] = side
    return -(-f.height // side), -(-f.width // side)


RESIDUAL = "He et al. 2016, arXiv:1603.05027"


@_control(
    "convolution:DepthwiseConvolution",
    "Residual depth-wise convolution (a control, not attention)",
    RESIDUAL,
    KnobSpec("kernel_size", int, 3, "odd side of the convolution", low=1, high=31),
)
def dwconv(f: Fitting) -> Count:
    taps = f.odd("kernel_size") ** 2 * f.channels
    return Count(taps + 2 * f.channels, taps * f.pixels)


@_control(
    "convolution:PointwiseConvolution",
    "Residual 1×1 convolution (a control, not attention)",
    RESIDUAL,
)
def conv(f: Fitting) -> Count:
    return Count(f.channels**2 + 2 * f.channels, f.channels**2 * f.pixels)
