"""Rows of the modules in `convolution.py`. No torch."""

from __future__ import annotations

from types import ModuleType

from nas_attn.attention import knobs
from nas_attn.attention.row import Row

PAPER = "He et al. 2016, arXiv:1603.05027"


def _convolution() -> ModuleType:
    """The file of classes beside these rows. It loads torch, so it is imported when asked for."""
    from nas_attn.attention import convolution

    return convolution


ROWS = (
    Row(
        "dwconv",
        lambda: _convolution().DepthwiseConvolution,
        "Residual depth-wise convolution (a control, not attention)",
        PAPER,
        "convolution",
        (knobs.odd("kernel_size", 3, "odd side of the convolution"),),
        control=True,
    ),
    Row(
        "conv",
        lambda: _convolution().PointwiseConvolution,
        "Residual 1×1 convolution (a control, not attention)",
        PAPER,
        "convolution",
        control=True,
    ),
)
