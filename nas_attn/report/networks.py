"""Placements drawn on the backbone: its stages to scale of their time, the modules where they sit."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from nas_attn.analysis.effects import fit_effects
from nas_attn.analysis.snapshot import CandidateView, Snapshot
from nas_attn.analysis.stages import Stage
from nas_attn.report.figures import PALETTE, blank_figure, natural
from nas_attn.space import parse

MOST = 24
"""Networks drawn at most."""
SHADES = ("rgba(128,140,155,0.55)", "rgba(128,140,155,0.30)")
"""Of the backbone's parts, in turn."""
UNKNOWN = "Stages are drawn equally wide: this study has no times for them."
Added = Mapping[str, float]
"""`stage1=se(reduction=8)` -> what it adds to the latency, as a share of the bare backbone's."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a network's time."""

    part: str
    """`stage2`, `stem`."""
    choice: str
    """Of a module; empty for the backbone's own."""
    start: float
    length: float
    """Milliseconds, or where stages have no times, shares of the whole."""
    share: float = 1.0
    """Of the module, which sits at several blocks."""


def parts(snapshot: Snapshot) -> tuple[Stage, ...]:
    """The backbone's parts; where a study of an earlier version has none, the sites that its candidates use."""
    if snapshot.stages:
        return snapshot.stages
    sites = {a.site for v in snapshot.candidates for a in parse(v.placement).assignments if not a.choice.is_none}
    used = {site.partition(".")[0] for site in sites}
    return tuple(Stage(name, None) for name in sorted(used, key=natural))


def added(snapshot: Snapshot) -> Added:
    """What the study's additive model says of each choice at each site; empty with too few measured candidates."""
    found = fit_effects(snapshot, "latency")
    return {} if found is None else {f"{row.site}={row.name}": row.effect for row in found.at("choice")}


def pieces(stages: Sequence[Stage], view: CandidateView, model: Added, extra: float | None) -> list[Piece]:
    """A network's time from its beginning to its end.

    Args:
        model: divides what all modules add among them; without, they share it evenly.
        extra: what they add, as a share of the bare backbone's time; None: as the model says.
    """
    timed = all(stage.ms is not None for stage in stages)
    whole = sum(stage.ms or 0.0 for stage in stages) if timed else 1.0
    weights = {site: max(model.get(f"{site}={choice}", 0.0), 0.0) for site, choice in view.choices.items()}
    if not all(weights.values()):
        weights = dict.fromkeys(view.choices, 1.0)
    total = sum(weights.values())
    if extra is None:
        extra = sum(max(model.get(f"{site}={choice}", 0.0), 0.0) for site, choice in view.choices.items())
    found: list[Piece] = []
    at = 0.0

    def put(part: str, choice: str, length: float, share: float = 1.0) -> None:
        nonlocal at
        found.append(Piece(part, choice, at, length, share))
        at += length

    for stage in stages:
        length = stage.ms if timed and stage.ms is not None else whole / len(stages)
        if not any(_times(site, stage, block) for site in view.choices for block in range(1, stage.blocks + 1)):
            put(stage.name, "", length)
            continue
        for block in range(1, stage.blocks + 1):
            put(stage.name, "", length / stage.blocks, 1 / stage.blocks)
            for site, choice in view.choices.items():
                times = _times(site, stage, block)
                if times:
                    put(stage.name, choice, max(extra, 0.0) * whole * weights[site] / total / times, 1 / times)
    return found


def _times(site: str, stage: Stage, block: int) -> int:
    """Among how many blocks a module that sits behind this one is shared out; 0: it does not sit there."""
    where, _, position = site.partition("@")
    if where == f"{stage.name}.block{block}":
        return 1
    if where != stage.name:
        return 0
    if position == "stage":
        return int(block == stage.blocks)
    return stage.blocks


def networks_figure(snapshot: Snapshot) -> go.Figure | None:
    """No attention, the front and the recommended one below each other, each a bar from its first layer to its last."""
    stages, model = parts(snapshot), added(snapshot)
    best = snapshot.recommendation.key if snapshot.recommendation else None
    shown = [v for v in snapshot.candidates if v.baseline == "none" or v.on_front or v.key == best]
    views = snapshot.ordered(shown)[:MOST]
    if not stages or not any(view.choices for view in views):
        return None
    timed = all(stage.ms is not None for stage in stages)
    whole = sum(stage.ms or 0.0 for stage in stages) if timed else 1.0
    drawn = [
        (_name(view, best), piece)
        for view in views
        for piece in pieces(stages, view, model, None if view.latency is None else view.latency.ratio - 1)
    ]
    figure = blank_figure(height=max(220, 34 * len(views) + 150))
    own = [(name, piece) for name, piece in drawn if not piece.choice]
    order = {stage.name: index for index, stage in enumerate(stages)}
    figure.add_trace(
        _bars(own, "backbone", [SHADES[order[piece.part] % 2] for _, piece in own], timed, whole).update(
            text=[piece.part if piece.share == 1 else "" for _, piece in own],
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
        )
    )
    types = sorted({piece.choice.partition("(")[0] for _, piece in drawn if piece.choice})
    for index, kind in enumerate(types):
        mine = [(name, piece) for name, piece in drawn if piece.choice.partition("(")[0] == kind]
        figure.add_trace(_bars(mine, kind, [PALETTE[index % len(PALETTE)]] * len(mine), timed, whole))
    figure.update_layout(barmode="overlay", bargap=0.35)
    figure.update_xaxes(title="milliseconds" if timed else "share of the backbone (times of stages are not known)")
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False)
    return figure


def _name(view: CandidateView, best: str | None) -> str:
    return html.escape(f"{'★ ' if view.key == best else ''}{view.label}")


def _bars(drawn: Sequence[tuple[str, Piece]], name: str, colours: list[str], timed: bool, whole: float) -> go.Bar:
    def said(piece: Piece) -> str:
        what = f"{piece.part}: {piece.choice}" if piece.choice else piece.part
        time = f"{piece.length:.3g} ms, " if timed else ""
        return f"<b>{html.escape(what)}</b><br>{time}{100 * piece.length / whole:.1f} % of the bare backbone's time"

    return go.Bar(
        orientation="h",
        name=html.escape(name),
        y=[name for name, _ in drawn],
        x=[piece.length for _, piece in drawn],
        base=[piece.start for _, piece in drawn],
        marker={"color": colours, "line": {"width": 0}},
        hovertext=[said(piece) for _, piece in drawn],
        hovertemplate="%{hovertext}<extra></extra>",
    )
