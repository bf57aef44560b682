"""A figure's looks and axes: what is measured, and its values as they are written everywhere, `70.4 %`."""

from __future__ import annotations

import html
from typing import Literal

import plotly.graph_objects as go

from nas_attn.analysis import units

BLUE, ORANGE, GREEN, RED, GREY = "#2f81d6", "#e08a00", "#1a9e77", "#d1495b", "#8a919c"


def blank_figure(*, height: int) -> go.Figure:
    """A figure without data; its colours suit a light and a dark page, and the page sets the text's colour."""
    figure = go.Figure()
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 70, "r": 20, "t": 30, "b": 60},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        font={"family": "system-ui, sans-serif", "size": 13, "color": "#7d8590"},
        hoverlabel={"align": "left"},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": "#7d8590", "activecolor": BLUE},
        hovermode="closest",
    )
    grid = {"gridcolor": "rgba(128,128,128,0.2)", "zeroline": False, "automargin": True}
    return figure.update_xaxes(**grid).update_yaxes(**grid)


def measure(figure: go.Figure, axis: Literal["x", "y"], objective: str, title: str = "", *, gain: bool = False) -> None:
    """Puts an objective on an axis whose values have been drawn, in the unit that people read.

    Args:
        title: in place of the objective's name and which way is better.
        gain: whether gains over the bare backbone were drawn; positive is better.
    """
    unit = units.unit(objective)
    if gain:
        said = f"gain in {units.title(objective)} over the bare backbone"
        title = html.escape(", ".join(filter(None, (said, unit.of_differences))))
        _scale(figure, axis, unit.scale)
    else:
        title = title or html.escape(f"{units.title(objective)} · {units.direction(objective)}")
        if unit is units.SHARE:
            _scale(figure, axis, 100)
            figure.update_layout({f"{axis}axis": {"ticksuffix": " %"}})
    ticks = "+.3~g" if gain else unit.ticks
    figure.update_layout({f"{axis}axis": {"title": {"text": title}, "tickformat": ticks}})


def _scale(figure: go.Figure, axis: Literal["x", "y"], factor: float) -> None:
    """Multiplies what was drawn. Plotly's own format of shares has no space before its sign."""

    def scaled(value: float) -> float:
        return round(factor * float(value), 6)

    for trace in figure.data:
        bars = trace[f"error_{axis}"]
        for holder, name in ((trace, axis), (bars, "array"), (bars, "arrayminus")):
            if holder[name] is not None:
                holder[name] = [None if value is None else scaled(value) for value in holder[name]]
    lines = [(shape, f"{axis}{end}") for shape in figure.layout.shapes for end in (0, 1)]
    for holder, name in [*lines, *((note, axis) for note in figure.layout.annotations)]:
        if holder[f"{axis}ref"] == axis:
            holder[name] = scaled(holder[name])
