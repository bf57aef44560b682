"""Modules whose gate comes from convolutions over large kernels, or over several of which it selects."""

from __future__ import annotations

from functools import partial

from nas_attn.attention.row import Count, Fitting, KnobSpec, Row, blended, hidden_knobs


def _fit_lska(f: Fitting) -> Count:
    channels = f.channels
    dense, dilated, _ = lska_sizes(f.integer("kernel_size"))
    taps = 2 * (dense + dilated) * channels + channels**2
    return Count(taps + 5 * channels, taps * f.pixels)


LSKA_KERNELS = (7, 11, 23, 35, 41, 53)
"""The authors' kernel sizes."""


def lska_sizes(kernel_size: int) -> tuple[int, int, int]:
    """(dense taps, dilated taps, dilation) of the strips that stand for a large kernel."""
    dilation = 2 if kernel_size < 23 else 3
    return 2 * dilation - 1, kernel_size // dilation, dilation


def _fit_lsk(f: Fitting) -> Count:
    channels, hidden, taps = f.channels, f.hidden(), 4 * f.odd("kernel_size") ** 2
    weights = 74 * channels + 3 * channels * hidden + taps
    return Count(weights + 3 * channels + 2 * hidden + 2, weights * f.pixels)


def _fit_sk(f: Fitting) -> Count:
    channels, branches = f.channels, f.integer("branches")
    hidden = max(f.integer("min_hidden"), channels // f.integer("reduction"))
    f.values["reduction"], f.values["min_hidden"] = hidden_knobs(channels, hidden, 32)
    sides = [3 if f.values["dilated"] else 2 * i + 1 for i in range(1, branches + 1)]
    convolutions = channels * (channels // f.divisor("groups", channels)) * sum(side**2 for side in sides)
    linear = (branches + 1) * channels * hidden
    parameters = convolutions + 2 * branches * channels + linear + 2 * hidden
    return blended(Count(parameters, convolutions * f.pixels + linear), f.init)


def _fit_caa(f: Fitting) -> Count:
    channels = f.channels
    weights = 2 * channels**2 + 2 * f.odd("kernel_size") * channels
    f.odd("pool_size")
    return Count(weights + (6 if f.values["norm"] else 4) * channels, weights * f.pixels)


def _fit_cpca(f: Fitting) -> Count:
    channels, hidden = f.channels, f.hidden()
    strips = 103 * channels  # 5x5, and twice 7, 11 and 21
    parameters = strips + 7 * channels + channels**2 + channels + 2 * channels * hidden + hidden + channels
    maps = strips + channels**2 * (3 if f.values["projected"] else 1)
    count = Count(parameters, 4 * channels * hidden + maps * f.pixels)
    return blended(count, f.init) if f.values["projected"] else count


_row = partial(Row, family="kernel")

ROWS = (
    _row(
        name="lska",
        target="nas_attn.attention.lsk:LargeSeparableKernel",
        title="Large separable kernel attention",
        paper="Lau et al. 2023, arXiv:2309.01439",
        fit=_fit_lska,
        knobs=(KnobSpec("kernel_size", int, 11, "side of the kernel that the strips stand for", choices=LSKA_KERNELS),),
    ),
    _row(
        name="lsk",
        target="nas_attn.attention.lsk:LargeSelectiveKernel",
        title="Large selective kernel",
        paper="Li et al. 2023, arXiv:2303.09030",
        fit=_fit_lsk,
        knobs=(
            KnobSpec("reduction", int, 2, "channels divided by the hidden width", low=1, high=4096),
            KnobSpec("kernel_size", int, 7, "odd side of the convolution that selects", low=1, high=31),
        ),
    ),
    _row(
        name="sk",
        target="nas_attn.attention.sk:SelectiveKernel",
        title="Selective kernel convolution",
        paper="Li et al. 2019, arXiv:1903.06586",
        fit=_fit_sk,
        knobs=(
            KnobSpec("branches", int, 2, "convolutions of different reach", low=2, high=8),
            KnobSpec("dilated", bool, True, "reach by dilation of a 3×3, or by larger kernels"),
            KnobSpec("groups", int, 32, "groups of the convolutions", low=1, high=65536),
            KnobSpec("reduction", int, 16, "channels divided by the hidden width", low=1, high=4096),
            KnobSpec("min_hidden", int, 32, "the hidden width is at least this", low=1, high=4096),
        ),
    ),
    _row(
        name="caa",
        target="nas_attn.attention.caa:ContextAnchor",
        title="Context anchor attention",
        paper="Cai et al. 2024, arXiv:2403.06258",
        fit=_fit_caa,
        knobs=(
            KnobSpec("kernel_size", int, 11, "odd length of the strips", low=1, high=63),
            KnobSpec("pool_size", int, 7, "odd side of the means before them", low=1, high=31),
            KnobSpec("norm", bool, True, "batch norm and SiLU behind both 1×1 convolutions, as the authors' code has"),
        ),
    ),
    _row(
        name="cpca",
        target="nas_attn.attention.cpca:ChannelPrior",
        title="Channel prior convolutional attention",
        paper="Huang et al. 2024, arXiv:2306.05196",
        fit=_fit_cpca,
        knobs=(
            KnobSpec("reduction", int, 4, "channels divided by the hidden width", low=1, high=4096),
            KnobSpec(
                "channel_gate", str, "sum", "of the sum, or (code) the sum of sigmoids", choices=("sum", "sigmoids")
            ),
            KnobSpec("projected", bool, False, "the code's 1×1 convolution and GELU before, and the same 1×1 behind"),
        ),
    ),
)
