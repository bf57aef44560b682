"""What the figures have in common: colours, axes, titles, what a point says."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import plotly.graph_objects as go

from nas_attn.answer.answer import Answer
from nas_attn.answer.candidates import candidate_label, objective_with_spread
from nas_attn.answer.snapshot import CandidateView, Snapshot
from nas_attn.recipe import units
from nas_attn.recipe.recipe import objective_name

# Each stands out from a light and a dark page, and from the others for the colour-blind, too:
# tests/report/test_report_colours.py measures both. Lines differ by their dashes as well.
BLUE = "#1f77d0"
ORANGE = "#c98300"
GREEN = "#12a07a"
RED = "#c4314b"
GREY = "#7d8590"
COLOURS = (BLUE, ORANGE, GREEN, RED, GREY)
# Where no page gives a figure its colours: in the dashboard, in a notebook, in a file
BACKGROUND = "#ffffff"
TEXT = "#1f2328"

BARE_LABEL = "bare backbone"
# Letters of a line of a point's hover text
HOVER_LETTERS = 90
# Letters of a line of an axis' title, and of a figure's title
AXIS_LETTERS = 44
TITLE_LETTERS = 62
# Pixels above the axes, for the legend, and those of a line of the title
TITLE_HEIGHT = 64
TITLE_LINE = 22
# Pixels from a figure's upper edge to the foot of its title's first line
TITLE_FOOT = 24
# Beside the values on an axis, as a share of their range
RIM = 0.08
# A value and the ends of its 95 % interval
Ends = tuple[float, float, float]
# The ends of an axis
Range = tuple[float, float]


def blank_figure(*, height: int) -> go.Figure:
    """A figure without data, dark on white; a page gives it its own colours."""
    axis: dict[str, Any] = {
        "gridcolor": "rgba(128,128,128,0.2)",
        "zeroline": False,
        "automargin": True,
        "title": {"font": {"size": 13}, "standoff": 10},
    }
    # One layout, given at once: each update of a figure takes as long as the figure itself.
    return go.Figure(
        layout={
            "template": "none",
            "height": height,
            "margin": {"l": 60, "r": 16, "t": TITLE_HEIGHT, "b": 60},
            "paper_bgcolor": BACKGROUND,
            "plot_bgcolor": "rgba(0,0,0,0)",
            "legend": {
                "orientation": "h",
                "y": 1.02,
                "yanchor": "bottom",
                "x": 0,
                "font": {"size": 12},
            },
            "font": {"family": "system-ui, sans-serif", "size": 13, "color": TEXT},
            "hoverlabel": {"align": "left"},
            "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": GREY, "activecolor": BLUE},
            "hovermode": "closest",
            "xaxis": axis,
            "yaxis": axis,
        }
    )


@dataclass(frozen=True, slots=True)
class Told:
    """What is said of a figure beside its data."""

    # its title, in one or two sentences
    message: str
    # how it is read
    how: str = ""


def tell(figure: go.Figure, told: Told, *, letters: int = TITLE_LETTERS) -> go.Figure:
    """Gives a figure its title, above its legend; `letters`: of a line of the title."""
    lines = textwrap.wrap(told.message, letters)
    figure.update_layout(
        title={
            "text": "<br>".join(html.escape(line) for line in lines),
            "x": 0,
            "xref": "paper",
            "xanchor": "left",
            "y": 1,
            "yref": "container",
            # plotly places the first of several lines by its foot only
            "yanchor": "bottom",
            "pad": {"b": -TITLE_FOOT},
            "font": {"size": 16},
        },
        meta={
            "message": told.message,
            "how": told.how,
        },
    )
    higher = TITLE_LINE * len(lines) + 6
    figure.update_layout(margin_t=(figure.layout.margin.t or TITLE_HEIGHT) + higher)
    if figure.layout.height is not None:
        figure.update_layout(height=figure.layout.height + higher)
    return figure


def untold(figure: go.Figure) -> tuple[go.Figure, Told]:
    """A copy without its title and background, for a page that shows both in its own way."""
    bare = go.Figure(figure)
    meta = figure.layout.meta or {}
    told = Told(meta.get("message", ""), meta.get("how", ""))
    if told.message:
        lines = len(textwrap.wrap(told.message, TITLE_LETTERS))
        higher = TITLE_LINE * lines + 6
        bare.update_layout(
            title=None,
            margin_t=bare.layout.margin.t - higher,
            height=bare.layout.height - higher,
        )
    bare.update_layout(paper_bgcolor="rgba(0,0,0,0)")
    return bare, told


def broken(text: str, letters: int = AXIS_LETTERS) -> str:
    """A text in lines, as plotly takes it."""
    lines: list[str] = []
    for line in text.splitlines():
        lines += textwrap.wrap(line, letters, break_long_words=False, break_on_hyphens=False)
    return "<br>".join(html.escape(line) for line in lines)


def unbroken(text: str) -> str:
    """A title of plotly as plain text in one line."""
    return html.unescape(text.replace("<br>", " · "))


def factor(objective: str, *, gain: bool = False) -> float:
    """By what an objective's values, or gains, are multiplied before they are drawn. (Plotly's own
    format of shares has no space before the percent sign.)
    """
    unit = units.unit(objective)
    if gain:
        return unit.scale
    return 100.0 if unit is units.SHARE_UNIT else 1.0


def measure(
    figure: go.Figure, axis: Literal["x", "y"], objective: str, *, gain: bool = False
) -> None:
    """Names an objective's axis.

    Args:
        figure: that has the axis.
        axis: `x` or `y`.
        objective: as in the recipe.
        gain: whether the axis is of gains over the bare backbone (positive is better), not of
            values.
    """
    unit = units.unit(objective)
    suffix = " %" if unit is units.SHARE_UNIT and not gain else None
    title = f"{units.title(objective)}\n{units.direction(objective)}"
    if gain:
        of = f"gain in {units.title(objective)}"
        title = f"{of}, {unit.of_differences}" if unit.of_differences else of
    figure.update_layout(
        {
            f"{axis}axis": {
                "title": {"text": broken(title)},
                "tickformat": "+.3~g" if gain else unit.ticks,
                "ticksuffix": suffix,
            }
        }
    )


def padded(values: Sequence[float]) -> Range:
    """The range of an axis that shows all values, with a rim."""
    low = min(values, default=0.0)
    high = max(values, default=0.0)
    length = (high - low) or abs(high) or 1.0
    return low - RIM * length, high + RIM * length


def error_bars(ends: Sequence[Ends]) -> dict[str, Any]:
    up = [high - mean for mean, _, high in ends]
    down = [mean - low for mean, low, _ in ends]
    return {"symmetric": False, "array": up, "arrayminus": down}


def hover(snapshot: Snapshot, view: CandidateView) -> str:
    """A candidate in a few lines; the placement can be pasted back."""
    lines = textwrap.wrap(
        str(view.placement), HOVER_LETTERS, break_long_words=False, break_on_hyphens=False
    )
    for index, objective in enumerate(snapshot.objectives):
        name = objective_name(objective)
        lines.append(f"{name}: {objective_with_spread(snapshot, view, index)}")
        gain = view.gains.get(name)
        if gain is not None:
            ends = units.difference_range(objective, gain.low, gain.high)
            size = units.difference(objective, gain.mean)
            lines.append(f"gain over the bare backbone: {size} ({ends})")
    if view.cost is not None:
        lines.append(units.counted(view.cost))
    said = "<br>".join(map(html.escape, lines))
    return f"<b>{html.escape(candidate_label(view))}</b><br>{said}"


@dataclass(frozen=True, slots=True)
class Style:
    """How the lines and points of a kind of candidate are drawn."""

    kind: str
    colour: str
    width: float
    dash: str = "solid"


RECOMMENDED_STYLE = Style("recommended", GREEN, 3)
BARE_STYLE = Style(BARE_LABEL, RED, 2.5, "dash")
CONTROL_STYLE = Style("larger or smaller", GREY, 1.5, "longdashdot")
UNIFORM_STYLE = Style("same everywhere", ORANGE, 1.5, "dashdot")
FRONT_STYLE = Style("front", BLUE, 2, "longdash")
PRUNED_STYLE = Style("stopped early", GREY, 1, "dot")
SEARCHED_STYLE = Style("searched", GREY, 1)


def style_of(answer: Answer, view: CandidateView) -> Style:
    """By the first of its roles."""
    if view.key == answer.taken_key:
        return RECOMMENDED_STYLE
    if view.is_bare:
        return BARE_STYLE
    if view.control:
        return CONTROL_STYLE
    if view.baseline is not None:
        return UNIFORM_STYLE
    if view.on_front:
        return FRONT_STYLE
    return PRUNED_STYLE if view.state == "pruned" else SEARCHED_STYLE
