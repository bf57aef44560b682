"""The learning curves of all runs."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import plotly.graph_objects as go

from nas_attn.analysis.snapshot import CandidateView, ScorePoint, Snapshot
from nas_attn.errors import several
from nas_attn.report.figures.drawing import GREY, blank_figure, hover, measure, style_of
from nas_attn.words import units

# Learning curves drawn at most; the front, the baselines and the newest go first
_MOST_CURVES = 150


def learning_curves(snapshot: Snapshot) -> go.Figure | None:
    """The primary metric by epochs, one line per run; a cross ends a pruned run."""
    metric = snapshot.primary
    if metric is None:
        return None
    runs: dict[tuple[str, str, float], list[tuple[CandidateView, list[ScorePoint]]]] = {}
    for view in _for_curves(snapshot):
        own: dict[tuple[str, int], list[ScorePoint]] = {}
        for point in view.scores:
            if metric in point.metrics:
                own.setdefault((point.purpose, point.seed), []).append(point)
        runs.setdefault(style_of(snapshot, view), []).extend(
            (view, points) for points in own.values()
        )
    runs = {kind: found for kind, found in runs.items() if found}
    if not runs:
        return None
    figure = blank_figure(height=420)
    figure.add_traces([_curves(snapshot, alike, metric, style) for style, alike in runs.items()])
    first = snapshot.recipe.first_seed
    seeds = range(first, first + snapshot.recipe.training.backbones)
    # not fresh
    start = {
        p.seed: p.metrics[metric]
        for p in snapshot.backbone
        if p.seed in seeds and metric in p.metrics
    }
    if start:
        level = fmean(start.values())
        note = f"trained backbone before the search ({units.value(metric, level)})"
        figure.add_hline(
            y=level,
            line={"dash": "dot", "width": 1, "color": GREY},
            annotation_text=note,
            annotation_position="bottom left",
        )
    figure.update_xaxes(title="epochs")
    measure(figure, "y", metric)
    return figure


def _for_curves(snapshot: Snapshot) -> list[CandidateView]:
    weight = {
        view.key: (view.on_front, view.baseline is not None, view.trial)
        for view in snapshot.candidates
    }
    views = sorted(
        (view for view in snapshot.candidates if view.scores), key=lambda view: weight[view.key]
    )
    return views[-_MOST_CURVES:]


def _curves(
    snapshot: Snapshot,
    runs: Sequence[tuple[CandidateView, Sequence[ScorePoint]]],
    metric: str,
    style: tuple[str, str, float],
) -> go.Scatter:
    """Curves of one kind as one trace with gaps, because each trace costs the browser time."""
    kind, colour, width = style
    x: list[int | None] = []
    y: list[float | None] = []
    texts = list[str]()
    symbols = list[str]()
    for view, points in runs:
        said = hover(snapshot, view)
        for point in points:
            x.append(point.epochs)
            y.append(point.metrics[metric])
            texts.append(
                f"{units.value(metric, point.metrics[metric])} after"
                f" {several(point.epochs, 'epoch')}, seed {point.seed}<br>{said}"
            )
        x.append(None)
        y.append(None)
        texts.append("")
        symbols += [
            *["circle"] * (len(points) - 1),
            "x" if view.state == "pruned" else "circle",
            "circle",
        ]
    return go.Scatter(
        x=x,
        y=y,
        mode="lines+markers",
        name=kind,
        line={"color": colour, "width": width, "dash": "dot" if kind == "pruned" else "solid"},
        marker={"symbol": symbols, "size": 5 if width < 2 else 7},
        text=texts,
        hovertemplate="%{text}<extra></extra>",
    )
