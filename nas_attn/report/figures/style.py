"""What the figures have in common: colours, axes, titles, what a point says."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import plotly.graph_objects as go

from nas_attn.answer.answer import Answer
from nas_attn.answer.candidates import candidate_label
from nas_attn.answer.snapshot import CandidateView
from nas_attn.recipe import units
from nas_attn.report.columns import Role, judged

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

# Letters of a line: of a point's text, of an axis' title, of a figure's title
HOVER_LETTERS = 90
AXIS_LETTERS = 44
TITLE_LETTERS = 62
# Pixels above the axes, for the legend, and those of a line of the title
LEGEND_HEIGHT = 64
TITLE_LINE = 22


@dataclass(frozen=True, slots=True)
class Style:
    """How the lines and points of candidates of a role are drawn."""

    colour: str
    width: float
    dash: str
    symbol: str
    size: int


STYLES: Mapping[Role, Style] = {
    Role.SEARCHED: Style(GREY, 1, "solid", "circle", 7),
    Role.PRUNED: Style(GREY, 1, "dot", "circle", 5),
    Role.UNIFORM: Style(ORANGE, 1.5, "dashdot", "diamond", 10),
    Role.OTHER: Style(GREY, 1.5, "longdashdot", "x", 9),
    Role.FRONT: Style(BLUE, 2, "longdash", "circle", 11),
    Role.BARE: Style(RED, 2.5, "dash", "square", 11),
    Role.RECOMMENDED: Style(GREEN, 3, "solid", "star", 16),
}
"""In this order, so that what matters lies above."""


def blank_figure(*, height: int) -> go.Figure:
    """A figure without data, dark on white; a page gives it its own colours."""
    axis = {"gridcolor": "rgba(128,128,128,0.2)", "zeroline": False, "automargin": True}
    layout: dict[str, Any] = {
        "template": "none",
        "height": height,
        "margin": {"l": 60, "r": 16, "t": LEGEND_HEIGHT, "b": 60},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": TEXT},
        "hoverlabel": {"align": "left"},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": GREY, "activecolor": BLUE},
        "hovermode": "closest",
        "xaxis": axis,
        "yaxis": axis,
    }
    # given at once: each update of a figure takes as long as the figure itself
    return go.Figure(layout=layout)


def tell(figure: go.Figure, message: str, how: str) -> go.Figure:
    """Gives a figure what is said of it: what it shows, and how it is read."""
    return figure.update_layout(meta={"message": message, "how": how})


def titled(figure: go.Figure, *, letters: int = TITLE_LETTERS) -> go.Figure:
    """A copy, on white and with what is said of it as its title, for where no page says it.

    Args:
        figure: of `blank_figure`, told.
        letters: of a line of the title.

    Returns:
        The copy, higher by its title.
    """
    lines = textwrap.wrap(figure.layout.meta["message"], letters)
    higher = TITLE_LINE * len(lines) + 6
    return go.Figure(figure).update_layout(
        title={
            "text": "<br>".join(map(html.escape, lines)),
            "x": 0,
            "xref": "paper",
            "xanchor": "left",
            "y": 1,
            "yref": "container",
            # plotly places the first of several lines by its foot only
            "yanchor": "bottom",
            "pad": {"b": -TITLE_LINE - 2},
            "font": {"size": 16},
        },
        paper_bgcolor=BACKGROUND,
        margin_t=LEGEND_HEIGHT + higher,
        height=figure.layout.height + higher,
    )


def broken(text: str, letters: int = AXIS_LETTERS) -> str:
    """A text in lines, as plotly takes it."""
    lines = [
        part
        for line in text.splitlines()
        for part in textwrap.wrap(line, letters, break_long_words=False, break_on_hyphens=False)
    ]
    return "<br>".join(map(html.escape, lines))


def unbroken(text: str) -> str:
    """A title of plotly as plain text in one line."""
    return html.unescape(text.replace("<br>", " · "))


def factor(objective: str, *, gain: bool = False) -> float:
    """By what an objective's values, or gains, are multiplied before they are drawn. (Plotly's own
    format of shares has no space before the percent sign.)
    """
    unit = units.unit(objective)
    return unit.scale if gain or unit is units.SHARE_UNIT else 1.0


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
    title = f"{units.title(objective)}\n{units.direction(objective)}"
    if gain:
        title = f"gain in {units.title(objective)}"
        title += f", {unit.of_differences}" if unit.of_differences else ""
    figure.layout[f"{axis}axis"].update(
        title_text=broken(title),
        tickformat="+.3~g" if gain else unit.ticks,
        ticksuffix=" %" if unit is units.SHARE_UNIT and not gain else None,
    )


def hover(answer: Answer, view: CandidateView) -> str:
    """A candidate in a few lines; the placement can be pasted back."""
    lines = [broken(str(view.placement), HOVER_LETTERS)]
    lines += [html.escape(f"{one.head}: {one.text}") for one in judged(answer, view) if one.text]
    if view.cost is not None:
        lines.append(units.counted(view.cost))
    return "<br>".join([f"<b>{html.escape(candidate_label(view))}</b>", *lines])
