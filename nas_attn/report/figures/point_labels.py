"""Names beside points, placed so that no two overlap and none leaves the axes.

A figure has them several times: for a phone, where few fit, and for wider ones. The page's script
shows those that suit its width; elsewhere the middle ones are shown.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import plotly.graph_objects as go

# Pixels between the ends of the x axis for which names are placed, and of these the usual ones
AXIS_WIDTHS = (230, 560, 900)
USUAL_WIDTH = 560
# Pixels of a letter and a line of 12 pixels, rather too many than too few
LABEL_LETTER_WIDTH = 7.2
LINE = 16
# Pixels from a point's middle to its rim
MARK = 7

LABEL_POSITIONS = (
    "top right",
    "bottom right",
    "top left",
    "bottom left",
    "top center",
    "bottom center",
    "middle right",
    "middle left",
)


class Box(NamedTuple):
    """A rectangle in pixels; y goes up."""

    left: float
    bottom: float
    right: float
    top: float

    def meets(self, other: Box) -> bool:
        return (
            self.left < other.right
            and other.left < self.right
            and self.bottom < other.top
            and other.bottom < self.top
        )

    def inside(self, other: Box) -> bool:
        return (
            self.left >= other.left
            and self.right <= other.right
            and self.bottom >= other.bottom
            and self.top <= other.top
        )


@dataclass(frozen=True, slots=True)
class Mark:
    """A point that others' names should not cover; with a name, it gets one where there is room."""

    x: float
    y: float
    name: str = ""
    # pixels across it
    size: float = 2 * MARK
    # ends of its intervals
    x_ends: tuple[float, float] | None = None
    y_ends: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Axes:
    """The ranges of both axes, and their lengths in pixels."""

    x: tuple[float, float]
    y: tuple[float, float]
    width: float
    height: float

    def at(self, x: float, y: float) -> tuple[float, float]:
        """A point in pixels."""
        right = (x - self.x[0]) / (self.x[1] - self.x[0]) * self.width
        up = (y - self.y[0]) / (self.y[1] - self.y[0]) * self.height
        return right, up


def name_points(
    figure: go.Figure,
    marks: Sequence[Mark],
    *,
    x: tuple[float, float],
    y: tuple[float, float],
    height: float,
) -> None:
    """Writes the names of the marks, the first ones first, into a figure.

    Args:
        figure: gets a trace of names for each width of a page.
        marks: with a place in the figure each, and a name or none.
        x: range of the x axis.
        y: range of the y axis.
        height: pixels between the ends of the y axis.
    """
    for width in AXIS_WIDTHS:
        placed = _placed(marks, Axes(x, y, width, height))
        trace = go.Scatter(
            x=[mark.x for mark, _ in placed],
            y=[mark.y for mark, _ in placed],
            text=[html.escape(mark.name) for mark, _ in placed],
            textposition=[position for _, position in placed],
            mode="markers+text",
            # an invisible point keeps the name at its distance
            marker={"size": [mark.size for mark, _ in placed], "opacity": 0},
            textfont={"size": 12},
            hoverinfo="skip",
            showlegend=False,
            cliponaxis=False,
            name="names",
            meta={"names": width},
            visible=width == USUAL_WIDTH,
        )
        figure.add_trace(trace)


def _placed(marks: Sequence[Mark], axes: Axes) -> list[tuple[Mark, str]]:
    """The marks whose names fit, with the side on which they stand."""
    points = [_around(axes, mark) for mark in marks]
    bars = [_bars(axes, mark) for mark in marks]
    names: list[Box] = []
    placed: list[tuple[Mark, str]] = []
    for at, mark in enumerate(marks):
        if not mark.name:
            continue
        others = [*points[:at], *points[at + 1 :], *names]
        position = _free_position(axes, mark, others, [box for both in bars for box in both])
        if position is not None:
            names.append(_box(axes, mark, position))
            placed.append((mark, position))
    return placed


def _free_position(axes: Axes, mark: Mark, taken: Sequence[Box], bars: Sequence[Box]) -> str | None:
    """The first side without anything there, else the first that only covers ends of intervals."""
    frame = Box(0, 0, axes.width, axes.height)
    for obstacles in ([*taken, *bars], taken):
        for position in LABEL_POSITIONS:
            box = _box(axes, mark, position)
            if box.inside(frame) and not any(box.meets(other) for other in obstacles):
                return position
    return None


def _around(axes: Axes, mark: Mark) -> Box:
    right, up = axes.at(mark.x, mark.y)
    half = mark.size / 2
    return Box(right - half, up - half, right + half, up + half)


def _bars(axes: Axes, mark: Mark) -> list[Box]:
    boxes = []
    if mark.x_ends is not None:
        left, up = axes.at(mark.x_ends[0], mark.y)
        right, _ = axes.at(mark.x_ends[1], mark.y)
        boxes.append(Box(left, up - 2, right, up + 2))
    if mark.y_ends is not None:
        middle, low = axes.at(mark.x, mark.y_ends[0])
        _, high = axes.at(mark.x, mark.y_ends[1])
        boxes.append(Box(middle - 2, low, middle + 2, high))
    return boxes


def _box(axes: Axes, mark: Mark, position: str) -> Box:
    """Where a name stands."""
    right, up = axes.at(mark.x, mark.y)
    width = LABEL_LETTER_WIDTH * len(mark.name)
    gap = mark.size / 2 + 2
    across = position.partition(" ")[2]
    side = position.partition(" ")[0]
    left = {"right": right + gap, "left": right - gap - width, "center": right - width / 2}[across]
    bottom = {"top": up + gap, "bottom": up - gap - LINE, "middle": up - LINE / 2}[side]
    return Box(left, bottom, left + width, bottom + LINE)


class End(NamedTuple):
    """The end of a line: its name, as plotly takes it, and its height."""

    name: str
    y: float


def name_ends(
    figure: go.Figure,
    ends: Sequence[End],
    limits: tuple[float, float],
    *,
    height: float,
) -> None:
    """Writes each name beside the end of its line, to the right of the axes.

    Args:
        figure: gets an annotation for each name.
        ends: the lines' ends, in any order.
        limits: the range of the y axis.
        height: pixels between the ends of the y axis.
    """
    pixel = (limits[1] - limits[0]) / height
    places = spread_out([end.y for end in ends], LINE * pixel)
    for end, y in zip(ends, places, strict=True):
        figure.add_annotation(
            x=1,
            xref="paper",
            xanchor="left",
            xshift=6,
            y=y,
            yref="y",
            align="left",
            text=end.name,
            showarrow=False,
            font={"size": 12},
        )


def spread_out(values: Sequence[float], distance: float) -> list[float]:
    """Values moved apart so that each is at least so far from the next, in their order, and little
    farther than needed from where they were.
    """
    order = sorted(range(len(values)), key=lambda at: values[at])
    groups: list[list[int]] = []
    centres: list[float] = []
    for at in order:
        groups.append([at])
        centres.append(values[at])
        # a group that meets the one before joins it, around their common middle
        while len(groups) > 1 and _meet(groups, centres, distance):
            joined = groups.pop()
            centres.pop()
            groups[-1] += joined
            centres[-1] = sum(values[member] for member in groups[-1]) / len(groups[-1])
    moved = [0.0] * len(values)
    for group, centre in zip(groups, centres, strict=True):
        for place, at in enumerate(group):
            moved[at] = centre + (place - (len(group) - 1) / 2) * distance
    return moved


def _meet(groups: Sequence[Sequence[int]], centres: Sequence[float], distance: float) -> bool:
    reach = (len(groups[-1]) + len(groups[-2])) / 2 * distance
    return centres[-1] - centres[-2] < reach
