"""A figure of points as SVG, which needs no script: for notebooks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import plotly.graph_objects as go

WIDTH, HEIGHT = 680, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 24, 48
"""Pixels beside the axes."""


class Mark(NamedTuple):
    """A point with the ends of its intervals, in pixels; the ends are the point's where there are none."""

    x: float
    y: float
    x_ends: tuple[float, ...]
    y_ends: tuple[float, ...]
    colour: str
    open: bool
    said: str
    """What hovering shows."""


class Axis(NamedTuple):
    """From values to pixels."""

    low: float
    high: float
    begin: float
    end: float
    title: str

    def at(self, value: float) -> float:
        """Pixels."""
        return round(self.begin + (value - self.low) / (self.high - self.low) * (self.end - self.begin), 1)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """(pixel, number) at about five round numbers."""
        rough = (self.high - self.low) / 5
        step = next(s for s in (m * 10.0 ** math.floor(math.log10(rough)) for m in (1, 2, 5, 10)) if s >= rough)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [(self.at(number * step), f"{number * step:g}") for number in range(first, last + 1)]


def drawing(figure: go.Figure) -> dict[str, Any]:
    """What `templates/drawing.svg` draws of a figure of points and one stepped line."""
    points = [trace for trace in figure.data if trace.mode == "markers"]
    x, y = (_axis(figure, points, axis) for axis in ("x", "y"))
    marks = [
        Mark(
            x.at(trace.x[i]),
            y.at(trace.y[i]),
            tuple(map(x.at, _values(trace, "x", i))),
            tuple(map(y.at, _values(trace, "y", i))),
            trace.marker.color,
            trace.marker.symbol == "circle-open",
            trace.text[i].replace("<br>", "\n").replace("<b>", "").replace("</b>", ""),
        )
        for trace in points
        for i in range(len(trace.x))
    ]
    corners: list[tuple[float, float]] = []
    for line in (trace for trace in figure.data if trace.mode == "lines"):
        for at in zip(line.x, line.y, strict=True):
            if corners:
                corners.append((at[0], corners[-1][1]) if line.line.shape == "hv" else (corners[-1][0], at[1]))
            corners.append(at)
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "x": x,
        "y": y,
        "marks": marks,
        "steps": " ".join(f"{x.at(a)},{y.at(b)}" for a, b in corners),
        "legend": [(trace.name, trace.marker.color) for trace in points],
    }


def _axis(figure: go.Figure, points: Sequence[Any], name: str) -> Axis:
    ends = [end for trace in points for i in range(len(trace[name])) for end in _values(trace, name, i)] or [0.0]
    low, high = min(ends), max(ends)
    pad = 0.06 * (high - low) or 1.0
    title = figure.layout[f"{name}axis"].title.text or ""
    place = (LEFT, WIDTH - RIGHT) if name == "x" else (HEIGHT - BOTTOM, TOP)
    return Axis(low - pad, high + pad, *place, title)


def _values(trace: Any, name: str, i: int) -> tuple[float, float]:
    """The ends of a point's interval."""
    bars = trace[f"error_{name}"]
    value = float(trace[name][i])
    return (value, value) if bars.array is None else (value - bars.arrayminus[i], value + bars.array[i])
