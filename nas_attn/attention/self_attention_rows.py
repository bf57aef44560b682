"""Rows of the modules in `self_attention.py`. No torch."""

from __future__ import annotations

from nas_attn.attention import knobs
from nas_attn.attention.row import KnobSpec, Row

DOWNSAMPLE = KnobSpec(
    "downsample",
    int,
    1,
    "side of the cells whose means are keys and values",
    low=1,
    high=64,
    fit=lambda fitting: fitting.at_most("downsample", max(fitting.height, fitting.width)),
)

ROWS = (
    Row(
        "sdpa",
        "nas_attn.attention.self_attention:ScaledDotProduct",
        "Scaled dot-product attention, one head",
        "Vaswani et al. 2017, arXiv:1706.03762; on maps Wang et al. 2018, arXiv:1711.07971",
        "self-attention",
        (knobs.reduction(2, "channels divided by the head's width"), DOWNSAMPLE),
    ),
    Row(
        "mhsa",
        "nas_attn.attention.self_attention:MultiHead",
        "Multi-head self-attention",
        "Srinivas et al. 2021, arXiv:2101.11605",
        "self-attention",
        (
            knobs.divisor("heads", 4, "number of heads", high=4096),
            knobs.choice("position", "learned position", "relative", "absolute", "none"),
            DOWNSAMPLE,
            knobs.switch(
                "residual", True, "add to x by a projection; false: attention alone (BoTNet)"
            ),
        ),
    ),
)
