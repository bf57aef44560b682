"""Maps of what each choice adds at each site."""

from __future__ import annotations

import html
import re
from collections import defaultdict
from collections.abc import Mapping
from statistics import fmean

import plotly.graph_objects as go

from nas_attn.answer.answer import Answer
from nas_attn.answer.effects import Effect, Effects, average_effects
from nas_attn.answer.effects_text import effects_message, short_names
from nas_attn.recipe import units
from nas_attn.report.figures.drawing import TEXT, Told, blank_figure, tell

# Blue and orange are told apart by the colour-blind, too. All are translucent, so that text on
# them can be read on a light and on a dark page.
GOOD_COLOUR = "rgba(31,119,208,0.55)"
BAD = "rgba(201,131,0,0.55)"
NOTHING = "rgba(128,128,128,0.10)"
# with more sites, cells show their numbers only in the hover text
MOST_WRITTEN = 16
# pixels of a row
ROW_HEIGHT = 44


def map_of(answer: Answer, what: str) -> go.Figure | None:
    """The map of effects on a metric or on `latency`; None if they are not known, or if none can be
    told from zero.
    """
    effects = average_effects(answer.now, what)
    return effect_map(effects) if effects is not None and effects.sure else None


def effect_map(effects: Effects) -> go.Figure:
    """Choices down, sites across; a cell has the effect and half of its 95 % interval, and a colour
    where the interval excludes zero.
    """
    rows = effects.at("choice")
    names = short_names(rows)
    sites = sorted({row.site for row in rows}, key=_site_order)
    cells = {(names[row], row.site): row for row in rows}
    choices = _ranked(cells)
    table = [[cells.get((choice, site)) for site in sites] for choice in choices]
    scale = units.unit(effects.of).scale
    most = max((abs(row.mean) for row in effects.sure), default=0.0) * scale or 1.0
    low, high = (GOOD_COLOUR, BAD) if effects.of == "latency" else (BAD, GOOD_COLOUR)
    figure = blank_figure(height=max(160, ROW_HEIGHT * len(choices) + 70))
    figure.add_trace(
        go.Heatmap(
            z=[[row and (scale * row.mean if row.sure else 0.0) for row in line] for line in table],
            x=[html.escape(site) for site in sites],
            y=[_in_lines(choice) for choice in choices],
            text=[[_cell(effects.of, row) if row else "" for row in line] for line in table],
            texttemplate="%{text}" if len(sites) <= MOST_WRITTEN else None,
            # else plotly picks a paler one
            textfont={"color": TEXT},
            hovertemplate="%{y} at %{x}: %{text}<extra></extra>",
            colorscale=[(0.0, low), (0.5, NOTHING), (1.0, high)],
            zmid=0,
            zmin=-most,
            zmax=most,
            # the numbers in the cells say more than a scale
            showscale=False,
            xgap=3,
            ygap=3,
            hoverongaps=False,
        )
    )
    figure.update_xaxes(type="category", showgrid=False, side="top")
    figure.update_yaxes(type="category", showgrid=False, autorange="reversed")
    figure.update_layout(margin={"t": 40, "b": 10, "l": 10})
    colours = "Blue is better, orange is worse, grey may be chance."
    if effects.of == "latency":
        colours = "Orange is slower, blue is faster, grey may be nothing."
    how = "A number is what a choice adds at a site on average, with half of its 95 % interval."
    return tell(figure, Told(effects_message(effects), f"{how} {colours}"))


def _ranked(cells: Mapping[tuple[str, str], Effect]) -> list[str]:
    """The choices, the best on average first."""
    means = defaultdict[str, list[float]](list)
    for (choice, _), row in cells.items():
        means[choice].append(row.mean)
    return sorted(means, key=lambda choice: (-fmean(means[choice]), choice))


def _site_order(site: str) -> tuple[list[int], str]:
    return [int(digits) for digits in re.findall(r"\d+", site)], site


def _in_lines(choice: str) -> str:
    """A choice in lines that are broken before its knobs, and between them."""
    return html.escape(choice).replace("(", "<br>(").replace(", ", ",<br>")


def _cell(of: str, row: Effect) -> str:
    shown = units.bare_plus_minus(of, row.mean, row.half).replace(" ±", "<br>±")
    return f"<b>{shown}</b>" if row.sure else shown
