"""A study in a notebook: the answer, the front as figure and table, without scripts or styles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import plotly.graph_objects as go
from markupsafe import Markup

from nas_attn.analysis.snapshot import Snapshot
from nas_attn.report import tables
from nas_attn.report.answer import drawn_card
from nas_attn.report.figures.drawing import BLUE, unbroken, untold
from nas_attn.report.figures.front import front_figures
from nas_attn.report.mistakes import Wrong, mistakes_parts
from nas_attn.report.templating import code, templates

PICTURE_WIDTH = 680
PICTURE_HEIGHT = 360
# Entries of a row of the legend
LEGEND_COLUMNS = 4
# Pixels beside the axes
AXIS_PIXELS = 64
RIGHT = 12
AXIS_TOP = 40
BOTTOM = 48


def summary(snapshot: Snapshot, wrong: Wrong | None = None) -> str:
    """The answer, the front as figure and table, and the networks' mistakes."""
    drawn = Markup("")
    message = ""
    if snapshot.front:
        figure, told = untold(front_figures(snapshot)[0])
        template = templates().get_template("drawing.svg")
        drawn = Markup(template.render(drawing(figure), label=told.message))
        message = told.message
    return (
        templates()
        .get_template("summary.html")
        .render(
            now=snapshot,
            answer=drawn_card(snapshot),
            best=snapshot.find(snapshot.taken) if snapshot.taken else None,
            drawn=drawn,
            message=message,
            front=tables.front_table(snapshot),
            mistakes=mistakes_parts(snapshot, wrong),
            explain=code,
        )
    )


class Axis(NamedTuple):
    """Maps values to pixels."""

    low: float
    high: float
    begin: float
    end: float
    title: str

    def at(self, value: float) -> float:
        return round(
            self.begin + (value - self.low) / (self.high - self.low) * (self.end - self.begin), 1
        )

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """(pixel, number) at about five round numbers."""
        rough = (self.high - self.low) / 5
        step = next(
            s
            for s in (m * 10.0 ** math.floor(math.log10(rough)) for m in (1, 2, 5, 10))
            if s >= rough
        )
        first = math.ceil(self.low / step)
        last = math.floor(self.high / step)
        return [(self.at(number * step), f"{number * step:g}") for number in range(first, last + 1)]


def drawing(figure: go.Figure) -> dict[str, Any]:
    """The data of `templates/drawing.svg`, from a figure with points and one stepped line."""
    points = [trace for trace in figure.data if trace.mode == "markers"]
    x, y = (_drawn_axis(figure, points, axis) for axis in ("x", "y"))
    marks = [
        {
            "x": x.at(trace.x[i]),
            "y": y.at(trace.y[i]),
            "x_ends": tuple(map(x.at, _ends(trace, "x", i))),
            "y_ends": tuple(map(y.at, _ends(trace, "y", i))),
            "colour": trace.marker.color,
            "open": trace.marker.symbol == "circle-open",
            "said": trace.text[i].replace("<br>", "\n").replace("<b>", "").replace("</b>", ""),
        }
        for trace in points
        for i in range(len(trace.x))
    ]
    corners: list[tuple[float, float]] = []
    for line in (trace for trace in figure.data if trace.mode == "lines"):
        for at in zip(line.x, line.y, strict=True):
            if corners:
                corners.append(
                    (at[0], corners[-1][1]) if line.line.shape == "hv" else (corners[-1][0], at[1])
                )
            corners.append(at)
    return {
        "width": PICTURE_WIDTH,
        "height": PICTURE_HEIGHT,
        "x": x,
        "y": y,
        "marks": marks,
        "steps": " ".join(f"{x.at(a)},{y.at(b)}" for a, b in corners),
        "legend": [(trace.name, trace.marker.color) for trace in points],
        "columns": LEGEND_COLUMNS,
        "line": BLUE,
    }


def _drawn_axis(figure: go.Figure, points: Sequence[Any], name: str) -> Axis:
    ends = [
        end for trace in points for i in range(len(trace[name])) for end in _ends(trace, name, i)
    ] or [0.0]
    low = min(ends)
    high = max(ends)
    pad = 0.06 * (high - low) or 1.0
    title = unbroken(figure.layout[f"{name}axis"].title.text or "")
    place = (
        (AXIS_PIXELS, PICTURE_WIDTH - RIGHT) if name == "x" else (PICTURE_HEIGHT - BOTTOM, AXIS_TOP)
    )
    return Axis(low - pad, high + pad, *place, title)


def _ends(trace: Any, name: str, i: int) -> tuple[float, float]:
    bars = trace[f"error_{name}"]
    value = float(trace[name][i])
    return (
        (value, value)
        if bars.array is None
        else (value - bars.arrayminus[i], value + bars.array[i])
    )
