"""Maps of what each choice adds at each site."""

from __future__ import annotations

import html
import re

import plotly.graph_objects as go

from nas_attn.answer.effects import Effect, Effects
from nas_attn.answer.effects_text import effects_message, short_names
from nas_attn.recipe import units
from nas_attn.report.figures.style import TEXT, blank_figure, tell

# Blue and orange are told apart by the colour-blind, too. All are translucent, so that text on
# them can be read on a light and on a dark page.
GOOD_COLOUR = "rgba(31,119,208,0.55)"
BAD = "rgba(201,131,0,0.55)"
NOTHING = "rgba(128,128,128,0.10)"
# with more sites, cells show their numbers only in the hover text
MOST_WRITTEN = 16
# pixels of a row
ROW_HEIGHT = 44


def effect_map(effects: Effects) -> go.Figure:
    """Choices down, sites across; a cell has the effect and half of its 95 % interval, and a colour
    where the interval excludes zero.
    """
    rows = effects.at("choice")
    names = short_names(rows)
    cells = {(names[row], row.site): row for row in rows}
    choices = sorted(set(names.values()))
    sites = sorted({row.site for row in rows}, key=_numbers)
    table = [[cells.get((choice, site)) for site in sites] for choice in choices]
    scale = units.unit(effects.of).scale
    most = max((abs(row.mean) for row in effects.sure), default=0.0) * scale or 1.0
    slow = effects.of == "latency"
    low, high = (GOOD_COLOUR, BAD) if slow else (BAD, GOOD_COLOUR)
    figure = blank_figure(height=ROW_HEIGHT * len(choices) + 80)
    figure.add_trace(
        go.Heatmap(
            z=[[row and scale * row.mean * row.sure for row in line] for line in table],
            x=[html.escape(site) for site in sites],
            # broken before a choice's knobs, and between them
            y=[html.escape(c).replace("(", "<br>(").replace(", ", ",<br>") for c in choices],
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
    figure.update_layout(margin_b=10)
    figure.update_xaxes(type="category", showgrid=False, side="top")
    figure.update_yaxes(type="category", showgrid=False, autorange="reversed")
    colours = "Orange is slower, blue is faster" if slow else "Blue is better, orange is worse"
    how = "A number is what a choice adds at a site on average, with half of its 95 % interval."
    return tell(figure, effects_message(effects), f"{how} {colours}, grey may be nothing.")


def _numbers(site: str) -> list[int]:
    """By which stage10 comes after stage9."""
    return [int(digits) for digits in re.findall(r"\d+", site)]


def _cell(of: str, row: Effect) -> str:
    shown = units.bare_plus_minus(of, row.mean, row.half).replace(" ±", "<br>±")
    return f"<b>{shown}</b>" if row.sure else shown
