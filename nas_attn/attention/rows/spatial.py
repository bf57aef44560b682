"""Modules whose gate differs between pixels."""

from __future__ import annotations

from nas_attn.attention.row import Count, Fitting, KnobSpec, Row, blended
from nas_attn.attention.rows.channel import BIAS, REDUCTION


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


def _fit_simam(f: Fitting) -> Count:
    return blended(Count(0, 0), f.init)


ROWS = (
    Row(
        name="cbam",
        target="nas_attn.attention.cbam:ConvolutionalBlockAttention",
        title="Convolutional block attention module",
        paper="Woo et al. 2018, arXiv:1807.06521",
        family="spatial",
        fit=_fit_cbam,
        identity="gate",
        knobs=(
            REDUCTION,
            KnobSpec("spatial_kernel_size", int, 7, "odd side of the spatial convolution", low=1, high=31),
            KnobSpec("gates", str, "both", "which of the two gates there are", choices=("both", "channel", "spatial")),
            BIAS,
            KnobSpec("spatial_norm", bool, True, "whether the spatial gate ends in a batch normalisation"),
        ),
        flow=(
            "x -> mean over H, W -> shared MLP C to h to C -> + -> sigmoid -> × per channel",
            "x -> max over H, W -> shared MLP C to h to C",
            "x -> × per channel -> max over C -> conv k×k 2 to 1 -> batch norm -> sigmoid of the map -> × per pixel -> y",
            "× per channel -> mean over C -> conv k×k 2 to 1",
            "× per channel -> × per pixel",
        ),
    ),
    Row(
        name="simam",
        target="nas_attn.attention.simam:SimAM",
        title="Simple parameter-free attention",
        paper="Yang et al. 2021, ICML 2021",
        family="spatial",
        fit=_fit_simam,
        identity="blend",
        knobs=(
            KnobSpec("e_lambda", float, 1e-4, "added to the variance", low=1e-12, high=1e3),
            KnobSpec("unbiased", bool, True, "variance over HW - 1 (the authors' code) or HW (the paper)"),
        ),
        flow=(
            "x -> d = (x - mean over H, W)² -> d / (4(variance + λ)) + ½ -> sigmoid -> × -> y",
            "d = (x - mean over H, W)² -> variance -> d / (4(variance + λ)) + ½",
            "x -> ×",
        ),
    ),
)
