"""Plain layers, which a study holds attention against: what else the same latency could buy."""

from __future__ import annotations

from functools import partial

from nas_attn.attention.row import Count, Fitting, KnobSpec, Row


def _fit_conv(f: Fitting) -> Count:
    return Count(f.channels**2 + 2 * f.channels, f.channels**2 * f.pixels)


def _fit_dwconv(f: Fitting) -> Count:
    taps = f.odd("kernel_size") ** 2 * f.channels
    return Count(taps + 2 * f.channels, taps * f.pixels)


_row = partial(Row, family="convolution", paper="He et al. 2016, arXiv:1603.05027", control=True)

ROWS = (
    _row(
        name="dwconv",
        target="nas_attn.attention.residual_conv:DepthwiseConvolution",
        title="Residual depth-wise convolution (no attention: a control)",
        fit=_fit_dwconv,
        knobs=(KnobSpec("kernel_size", int, 3, "odd side of the convolution", low=1, high=31),),
    ),
    _row(
        name="conv",
        target="nas_attn.attention.residual_conv:PointwiseConvolution",
        title="Residual 1×1 convolution (no attention: a control)",
        fit=_fit_conv,
    ),
)
