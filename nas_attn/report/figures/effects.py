"""Maps of what each choice adds at each site."""

from __future__ import annotations

import html
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from nas_attn.analysis.effects import Effect, Effects, average_effects
from nas_attn.analysis.snapshot import Snapshot
from nas_attn.report.figures.drawing import blank_figure
from nas_attn.words import units

GOOD_COLOUR = "rgba(47,129,214,0.7)"
NOTHING = "rgba(128,128,128,0.10)"
BAD = "rgba(224,138,0,0.7)"
"""Colour-blind people can tell blue from orange. Both are translucent, so text on them is
readable.
"""
# With more columns, cells show their numbers only in the hover text
MOST_WRITTEN = 16
# Pixels of a column with numbers
CELL = 78


def effect_maps(snapshot: Snapshot) -> list[tuple[str, go.Figure]]:
    """(metric or `latency`, the map) of the primary metric and the latency, as far as they are
    known.
    """
    asked = [what for what in (snapshot.primary, "latency") if what]
    drawn = [(what, map_of(snapshot, what)) for what in asked]
    return [(what, figure) for what, figure in drawn if figure is not None]


def map_of(snapshot: Snapshot, what: str) -> go.Figure | None:
    """The map of effects on a metric or on `latency`; None if they are not known."""
    effects = average_effects(snapshot, what)
    return effect_map(effects) if effects is not None and effects.at("choice") else None


def effect_map(effects: Effects) -> go.Figure:
    """Sites down, choices across; a cell has the effect and half of its 95 % interval, bold where
    the interval excludes zero.
    """
    rows = effects.at("choice")
    names = column_names(rows)
    sites = sorted(
        {row.site for row in rows},
        key=lambda site: ([int(d) for d in re.findall(r"\d+", site)], site),
    )
    columns = sorted({names[row.site, row.name] for row in rows})
    cells = {(row.site, names[row.site, row.name]): row for row in rows}
    scale = units.unit(effects.of).scale
    most = max(abs(row.mean) for row in rows) * scale or 1.0
    written = len(columns) <= MOST_WRITTEN
    low, high = (GOOD_COLOUR, BAD) if effects.of == "latency" else (BAD, GOOD_COLOUR)
    unit = units.unit(effects.of).of_differences or html.escape(effects.of)
    unit = "% of<br>latency" if effects.of == "latency" else unit
    figure = blank_figure(height=max(220, 54 * len(sites) + 150))

    def each(of: str) -> list[list[str]]:
        made = {"cell": _cell, "hover": _hover_cell}[of]
        return [
            [
                made(effects.of, cells[site, column]) if (site, column) in cells else ""
                for column in columns
            ]
            for site in sites
        ]

    figure.add_trace(
        go.Heatmap(
            z=[
                [scale * cells[s, c].mean if (s, c) in cells else None for c in columns]
                for s in sites
            ],
            x=[html.escape(column) for column in columns],
            y=sites,
            text=each("cell") if written else None,
            texttemplate="%{text}" if written else None,
            hovertext=each("hover"),
            hovertemplate="%{hovertext}<extra></extra>",
            colorscale=[(0.0, low), (0.5, NOTHING), (1.0, high)],
            zmid=0,
            zmin=-most,
            zmax=most,
            xgap=3,
            ygap=3,
            hoverongaps=False,
            colorbar={
                "thickness": 12,
                "outlinewidth": 0,
                "tickformat": "+.3~g",
                "title": {"text": unit},
            },
        )
    )
    figure.update_xaxes(
        type="category", showgrid=False, tickangle=0 if written else -60, side="top"
    )
    figure.update_yaxes(type="category", showgrid=False, autorange="reversed")
    figure.update_layout(
        margin_t=70, margin_b=20, meta={"width": 140 + (CELL if written else 26) * len(columns)}
    )
    return figure


def column_names(rows: Sequence[Effect]) -> Mapping[tuple[str, str], str]:
    """(site, choice) -> name of its column: the type, with the knobs that differ at one site
    (others depend on the channels).
    """
    values: defaultdict[tuple[str, str, str], set[str]] = defaultdict(set)
    for row in rows:
        for knob, value in _knobs(row).items():
            values[row.site, row.type, knob].add(value)
    differ = {(kind, knob) for (_, kind, knob), known in values.items() if len(known) > 1}
    found = {}
    for row in rows:
        kept = ", ".join(
            f"{knob}={value}" for knob, value in _knobs(row).items() if (row.type, knob) in differ
        )
        found[row.site, row.name] = f"{row.type}({kept})" if kept else row.type
    taken = defaultdict(set)
    for (site, name), column in found.items():
        taken[site, column].add(name)
    clash = {column for (_, column), several in taken.items() if len(several) > 1}
    return {key: key[1] if column in clash else column for key, column in found.items()}


def described(of: str, effects: Effects) -> str:
    """A map in one or two sentences, for screen readers."""
    rows = effects.at("choice")
    sure = sorted((row for row in rows if row.sure), key=lambda row: -abs(row.mean))
    said = "; ".join(
        f"{row.name} at {row.site} {units.plus_minus(of, row.mean, row.half)}" for row in sure[:5]
    )
    head = (
        f"Map of effects on {units.title(of)}: {len(rows)} choices at"
        f" {len({row.site for row in rows})} sites."
    )
    return (
        f"{head} Certainly different from zero: {said}."
        if said
        else f"{head} None is certainly different from zero."
    )


def _knobs(row: Effect) -> dict[str, str]:
    pairs = (piece.partition("=") for piece in row.knobs.split(",") if piece)
    return {knob.strip(): value.strip() for knob, _, value in pairs}


def _cell(of: str, row: Effect) -> str:
    shown = units.bare_plus_minus(of, row.mean, row.half).replace(" ±", "<br>±")
    return f"<b>{shown}</b>" if row.sure else shown


def _hover_cell(of: str, row: Effect) -> str:
    between = units.difference_range(of, row.low, row.high)
    return "<br>".join(
        (
            f"<b>{html.escape(f'{row.site} = {row.name}')}</b>",
            f"{html.escape(units.title(of))}: {units.difference(of, row.mean)} (95 %: {between})",
            f"helps with a probability of {units.probability(row.better)}",
            (
                f"{row.observations} candidates have it, {row.elsewhere} more have this type at"
                " another site"
            ),
        )
    )
