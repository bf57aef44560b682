"""Maps of what each choice adds at each site."""

from __future__ import annotations

import html
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

import plotly.graph_objects as go

from nas_attn.answer.answer import Answer
from nas_attn.answer.effects import Effect, Effects, average_effects
from nas_attn.recipe import units
from nas_attn.report.figures.drawing import TEXT, Told, blank_figure, tell
from nas_attn.report.figures.effects_message import described_effects, effects_message

# Blue and orange are told apart by the colour-blind, too. All are translucent, so that text on
# them can be read on a light and on a dark page.
GOOD_COLOUR = "rgba(31,119,208,0.55)"
BAD = "rgba(201,131,0,0.55)"
NOTHING = "rgba(128,128,128,0.10)"
# With more sites, cells show their numbers only in the hover text
MOST_WRITTEN = 16
# Pixels of a column with numbers, of a narrow one, and of a letter of the names before them
CELL = 62
NARROW_CELL = 26
CELL_LETTER_WIDTH = 7.5
# Pixels of a row
ROW_HEIGHT = 44


def map_of(answer: Answer, what: str) -> go.Figure | None:
    """The map of effects on a metric or on `latency`; None if they are not known, or if none can be
    told from zero.
    """
    effects = average_effects(answer.now, what)
    return None if effects is None else sure_map(effects)


def sure_map(effects: Effects) -> go.Figure | None:
    """The map, if an effect in it is sure."""
    rows = effects.at("choice")
    return effect_map(effects) if any(row.sure for row in rows) else None


def effect_map(effects: Effects) -> go.Figure:
    """Choices down, sites across; a cell has the effect and half of its 95 % interval, and a colour
    where the interval excludes zero.
    """
    rows = effects.at("choice")
    names = choice_names(rows)
    sites = sorted({row.site for row in rows}, key=_site_order)
    cells = {(names[row.site, row.name], row.site): row for row in rows}
    choices = _ranked(cells)
    written = len(sites) <= MOST_WRITTEN
    figure = blank_figure(height=max(160, ROW_HEIGHT * len(choices) + 70))
    figure.add_trace(
        go.Heatmap(
            z=_table(cells, choices, sites, lambda row: _shade(effects.of, row), None),
            x=[_site_name(site) for site in sites],
            y=[_choice_name(choice) for choice in choices],
            text=_table(cells, choices, sites, lambda row: _cell(effects.of, row), "")
            if written
            else None,
            texttemplate="%{text}" if written else None,
            # else plotly picks a paler one
            textfont={"color": TEXT},
            hovertext=_table(cells, choices, sites, lambda row: _hover_cell(effects.of, row), ""),
            hovertemplate="%{hovertext}<extra></extra>",
            xgap=3,
            ygap=3,
            hoverongaps=False,
            **_colours(effects, with_scale=not written),
        )
    )
    figure.update_xaxes(
        type="category", showgrid=False, tickangle=0 if written else -60, side="top"
    )
    figure.update_yaxes(type="category", showgrid=False, autorange="reversed")
    figure.update_layout(margin={"t": 40, "b": 10, "l": 10})
    colours = "Blue is better, orange is worse, grey may be chance."
    if effects.of == "latency":
        colours = "Orange is slower, blue is faster, grey may be nothing."
    how = "A number is what a choice adds at a site on average, with half of its 95 % interval."
    told = Told(effects_message(effects), f"{how} {colours}", described_effects(effects))
    lines = [line for choice in choices for line in _choice_name(choice).split("<br>")]
    beside = round(CELL_LETTER_WIDTH * max(map(len, lines))) + 40
    cell = CELL if written else NARROW_CELL
    return tell(figure, told, width=beside + cell * len(sites))


def _site_order(site: str) -> tuple[list[int], str]:
    return [int(digits) for digits in re.findall(r"\d+", site)], site


def _ranked(cells: Mapping[tuple[str, str], Effect]) -> list[str]:
    """The choices, the best on average first."""
    means = defaultdict[str, list[float]](list)
    for (choice, _), row in cells.items():
        means[choice].append(row.mean)
    return sorted(means, key=lambda choice: (-fmean(means[choice]), choice))


def _table(
    cells: Mapping[tuple[str, str], Effect],
    choices: Sequence[str],
    sites: Sequence[str],
    content: Callable[[Effect], object],
    empty: object,
) -> list[list[object]]:
    """What a function makes of each cell; `empty` where a choice was not tried at a site."""
    table: list[list[object]] = []
    for choice in choices:
        line = [cells.get((choice, site)) for site in sites]
        table.append([empty if row is None else content(row) for row in line])
    return table


def _colours(effects: Effects, *, with_scale: bool) -> dict[str, Any]:
    """Of the map: both ends alike, nothing in the middle."""
    rows = [row for row in effects.at("choice") if row.sure]
    scale = units.unit(effects.of).scale
    most = max((abs(row.mean) for row in rows), default=0.0) * scale or 1.0
    low, high = (GOOD_COLOUR, BAD) if effects.of == "latency" else (BAD, GOOD_COLOUR)
    return {
        "colorscale": [(0.0, low), (0.5, NOTHING), (1.0, high)],
        "zmid": 0,
        "zmin": -most,
        "zmax": most,
        # the numbers in the cells say more than a scale
        "showscale": with_scale,
        "colorbar": {
            "thickness": 12,
            "outlinewidth": 0,
            "tickformat": "+.3~g",
            "title": {"text": units.unit(effects.of).of_differences},
        },
    }


def _shade(of: str, row: Effect) -> float | None:
    """What decides a cell's colour: nothing, if it may be zero."""
    return units.unit(of).scale * row.mean if row.sure else 0.0


def _site_name(site: str) -> str:
    return html.escape(site).replace(".", "<br>").replace("@", "<br>@")


def _choice_name(choice: str) -> str:
    """In lines that are broken before the settings, and between them."""
    kind, _, knobs = choice.partition("(")
    lines = [kind, *(knob.strip() for knob in knobs.removesuffix(")").split(",") if knob)]
    return "<br>".join(html.escape(line) for line in lines)


def choice_names(rows: Sequence[Effect]) -> Mapping[tuple[str, str], str]:
    """(site, choice) -> name of its row: the type, with the knobs that differ at one site
    (others depend on the channels).
    """
    values: defaultdict[tuple[str, str, str], set[str]] = defaultdict(set)
    for row in rows:
        for knob, value in _knobs(row).items():
            values[row.site, row.type, knob].add(value)
    differ = {(kind, knob) for (_, kind, knob), different in values.items() if len(different) > 1}
    labels = {}
    for row in rows:
        kept = ", ".join(
            f"{knob}={value}" for knob, value in _knobs(row).items() if (row.type, knob) in differ
        )
        labels[row.site, row.name] = f"{row.type}({kept})" if kept else row.type
    taken = defaultdict[tuple[str, str], set[str]](set)
    for (site, name), label in labels.items():
        taken[site, label].add(name)
    clash = {label for (_, label), names in taken.items() if len(names) > 1}
    return {key: key[1] if label in clash else label for key, label in labels.items()}


def _knobs(row: Effect) -> dict[str, str]:
    pairs = (piece.partition("=") for piece in row.knobs.split(",") if piece)
    return {knob.strip(): value.strip() for knob, _, value in pairs}


def _cell(of: str, row: Effect) -> str:
    shown = units.bare_plus_minus(of, row.mean, row.half).replace(" ±", "<br>±")
    return f"<b>{shown}</b>" if row.sure else shown


def _hover_cell(of: str, row: Effect) -> str:
    between = units.difference_range(of, row.low, row.high)
    lines = [
        f"{units.title(of)}: {units.difference(of, row.mean)} (95 %: {between})",
        f"helps with a probability of {units.probability(row.better)}",
        f"{row.observations} candidates have it; {row.elsewhere} more have the type elsewhere",
    ]
    head = f"<b>{html.escape(f'{row.site} = {row.name}')}</b>"
    return "<br>".join([head, *map(html.escape, lines)])
