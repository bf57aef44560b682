"""Rows of the modules in `kernel.py`. No torch."""

from __future__ import annotations

from types import ModuleType

from nas_attn.attention import knobs
from nas_attn.attention.row import Fitting, KnobSpec, Row, hidden_knobs


def _sk(fitting: Fitting) -> None:
    channels = fitting.channels
    hidden = max(fitting.integer("min_hidden"), channels // fitting.integer("reduction"))
    reduction_taken, floor = hidden_knobs(channels, hidden, 32)
    fitting.values["reduction"] = reduction_taken
    fitting.values["min_hidden"] = floor
    fitting.divisor("groups", channels)


def _kernel() -> ModuleType:
    """The file of classes beside these rows. It loads torch, so it is imported when asked for."""
    from nas_attn.attention import kernel

    return kernel


ROWS = (
    Row(
        "lska",
        lambda: _kernel().LargeSeparableKernel,
        "Large separable kernel attention",
        "Lau et al. 2023, arXiv:2309.01439",
        "kernel",
        (
            KnobSpec(
                "kernel_size",
                int,
                11,
                "side of the kernel that the strips stand for",
                choices=(7, 11, 23, 35, 41, 53),
            ),
        ),
    ),
    Row(
        "msca",
        lambda: _kernel().MultiScaleConvolution,
        "Multi-scale convolutional attention of SegNeXt",
        "Guo et al. 2022, arXiv:2209.08575",
        "kernel",
    ),
    Row(
        "lsk",
        lambda: _kernel().LargeSelectiveKernel,
        "Large selective kernel",
        "Li et al. 2023, arXiv:2303.09030",
        "kernel",
        (
            knobs.reduction(2),
            knobs.odd("kernel_size", 7, "odd side of the convolution that selects"),
        ),
    ),
    Row(
        "sk",
        lambda: _kernel().SelectiveKernel,
        "Selective kernel convolution",
        "Li et al. 2019, arXiv:1903.06586",
        "kernel",
        (
            KnobSpec("branches", int, 2, "convolutions of different reach", low=2, high=8),
            knobs.switch("dilated", True, "reach by dilation of a 3×3, or by larger kernels"),
            knobs.divisor("groups", 32, "groups of the convolutions"),
            knobs.reduction(),
            KnobSpec("min_hidden", int, 32, "the hidden width is at least this", low=1, high=4096),
        ),
        fit=_sk,
    ),
    Row(
        "caa",
        lambda: _kernel().ContextAnchor,
        "Context anchor attention",
        "Cai et al. 2024, arXiv:2403.06258",
        "kernel",
        (
            knobs.odd("kernel_size", 11, "odd length of the strips", high=63),
            knobs.odd("pool_size", 7, "odd side of the means before them"),
            knobs.switch(
                "norm",
                True,
                "batch norm and SiLU behind both 1×1 convolutions, as the authors' code has",
            ),
        ),
    ),
    Row(
        "cpca",
        lambda: _kernel().ChannelPrior,
        "Channel prior convolutional attention",
        "Huang et al. 2024, arXiv:2306.05196",
        "kernel",
        (
            knobs.reduction(4),
            knobs.choice(
                "channel_gate", "of the sum, or (code) the sum of sigmoids", "sum", "sigmoids"
            ),
            knobs.switch(
                "projected",
                False,
                "the code's 1×1 convolution and GELU before, and the same 1×1 behind",
            ),
        ),
    ),
)
