"""Modules in which every pixel looks at every other."""

from __future__ import annotations

from functools import partial

from nas_attn.attention.row import Count, Fitting, KnobSpec, Row, blended

DOWNSAMPLE = KnobSpec("downsample", int, 1, "side of the cells whose means are keys and values", low=1, high=64)


def _fit_sdpa(f: Fitting) -> Count:
    channels, hidden = f.channels, f.hidden()
    rows, columns = _grid(f)
    cells = rows * columns
    macs = 2 * channels * hidden * (f.pixels + cells) + 2 * hidden * f.pixels * cells
    return Count(4 * channels * hidden + channels, macs)


def _fit_mhsa(f: Fitting) -> Count:
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


_row = partial(Row, family="self-attention")

ROWS = (
    _row(
        name="sdpa",
        target="nas_attn.attention.self_attention:ScaledDotProduct",
        title="Scaled dot-product attention, one head",
        paper="Vaswani et al. 2017, arXiv:1706.03762; on maps Wang et al. 2018, arXiv:1711.07971",
        fit=_fit_sdpa,
        knobs=(KnobSpec("reduction", int, 2, "channels divided by the head's width", low=1, high=4096), DOWNSAMPLE),
    ),
    _row(
        name="mhsa",
        target="nas_attn.attention.self_attention:MultiHead",
        title="Multi-head self-attention",
        paper="Srinivas et al. 2021, arXiv:2101.11605",
        fit=_fit_mhsa,
        knobs=(
            KnobSpec("heads", int, 4, "number of heads", low=1, high=4096),
            KnobSpec("position", str, "relative", "learned position", choices=("relative", "absolute", "none")),
            DOWNSAMPLE,
            KnobSpec("residual", bool, True, "add to x by a projection; false: attention alone (BoTNet)"),
        ),
    ),
)
