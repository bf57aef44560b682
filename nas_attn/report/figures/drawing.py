"""What the figures have in common: colours, axes, what a point says."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Sequence
from typing import Any, Literal

import plotly.graph_objects as go

from nas_attn.analysis.snapshot import CandidateView, Snapshot
from nas_attn.recipe import objective_name
from nas_attn.words import units
from nas_attn.words.candidates import candidate_label, objective_with_spread

BLUE = "#2f81d6"
ORANGE = "#e08a00"
GREEN = "#1a9e77"
RED = "#d1495b"
GREY = "#8a919c"

PALETTE = (
    BLUE,
    ORANGE,
    GREEN,
    RED,
    "#8f6bd1",
    "#3fb8c9",
    "#b8a200",
    "#c76bb0",
    "#7a8f3c",
    "#a06a42",
)

BARE = "bare backbone"
# Letters of a line of a point's hover text
LETTERS = 90
# A value and the ends of its 95 % interval
Ends = tuple[float, float, float]


def blank_figure(*, height: int) -> go.Figure:
    """A figure without data; its colours suit a light and a dark page, and the page sets the text's
    colour.
    """
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


def measure(
    figure: go.Figure,
    axis: Literal["x", "y"],
    objective: str,
    title: str = "",
    *,
    gain: bool = False,
) -> None:
    """Puts an objective on an axis, in its display unit, as values or as gains (positive is
    better).
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
    """Multiplies the drawn values. Plotly's own format of shares has no space before the percent
    sign.
    """

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


def error_bars(ends: Sequence[Ends]) -> dict[str, Any]:
    up = [high - mean for mean, _, high in ends]
    down = [mean - low for mean, low, _ in ends]
    return {"symmetric": False, "array": up, "arrayminus": down}


def hover(snapshot: Snapshot, view: CandidateView) -> str:
    """A candidate in a few lines; the placement can be pasted back."""
    placement = [str(view.placement)]
    if len(placement[0]) > LETTERS:
        placement = textwrap.wrap(
            placement[0], LETTERS, break_long_words=False, break_on_hyphens=False
        )
    lines = [
        f"<b>{html.escape(candidate_label(view))}</b>",
        *(html.escape(line) for line in placement),
    ]
    for index, objective in enumerate(snapshot.objectives):
        lines.append(
            f"{html.escape(objective_name(objective))}:"
            f" {objective_with_spread(snapshot, view, index)}"
        )
        gain = view.gains.get(objective_name(objective))
        if gain is not None:
            ends = units.difference_range(objective, gain.low, gain.high)
            lines.append(
                f"gain over the bare backbone: {units.difference(objective, gain.mean)} ({ends})"
            )
    if view.cost is not None:
        lines.append(units.counted(view.cost))
    return "<br>".join(lines)


def style_of(snapshot: Snapshot, view: CandidateView) -> tuple[str, str, float]:
    if view.key == snapshot.taken:
        return "recommended", GREEN, 3
    if view.baseline == "none":
        return BARE, RED, 2
    if view.control:
        return "controls", GREY, 1.5
    if view.baseline is not None:
        return "uniform baselines", ORANGE, 1.5
    if view.on_front:
        return "front", BLUE, 2
    return ("pruned", GREY, 0.8) if view.state == "pruned" else ("searched", "#9db7d5", 1)
