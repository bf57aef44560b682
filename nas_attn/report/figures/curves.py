"""The learning curves of all runs."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence

import plotly.graph_objects as go

from nas_attn.answer.answer import Answer
from nas_attn.answer.snapshot import CandidateView, ScorePoint
from nas_attn.errors import several
from nas_attn.recipe import units
from nas_attn.report.figures.drawing import (
    Style,
    Told,
    blank_figure,
    factor,
    hover,
    measure,
    style_of,
    tell,
)

CURVES_HEIGHT = 420


def learning_curves(answer: Answer) -> go.Figure | None:
    """The primary metric by epochs, one line per run; a cross ends a pruned run. None with a single
    rung: one point is no curve.
    """
    now = answer.now
    metric = now.primary
    if metric is None or len(now.recipe.training.rungs) < 2:
        return None
    runs: dict[Style, list[tuple[CandidateView, list[ScorePoint]]]] = {}
    for view in now.candidates:
        alike = runs.setdefault(style_of(answer, view), [])
        alike += [(view, points) for points in _runs(view, metric)]
    figure = blank_figure(height=CURVES_HEIGHT)
    for style, alike in runs.items():
        if alike:
            figure.add_trace(_curves(answer, metric, style, alike))
    if not figure.data:
        return None
    figure.update_xaxes(title_text="epochs")
    measure(figure, "y", metric)
    how = "A line is one run; a cross ends a run that was stopped early."
    return tell(figure, Told(_message(answer, metric), how))


def _runs(view: CandidateView, metric: str) -> Iterator[list[ScorePoint]]:
    """The scores of each run."""
    runs: dict[tuple[str, int], list[ScorePoint]] = {}
    for point in view.scores:
        if metric in point.metrics:
            runs.setdefault((point.purpose, point.seed), []).append(point)
    yield from runs.values()


def _curves(
    answer: Answer,
    metric: str,
    style: Style,
    runs: Sequence[tuple[CandidateView, Sequence[ScorePoint]]],
) -> go.Scatter:
    """Curves of one kind as one trace with gaps, because each trace costs the browser time."""
    x: list[int | None] = []
    y: list[float | None] = []
    texts: list[str] = []
    symbols: list[str] = []
    for view, points in runs:
        about_run = hover(answer.now, view)
        for point in points:
            score = units.value(metric, point.metrics[metric])
            reached = f"{score} after {several(point.epochs, 'epoch')}, seed {point.seed}"
            x.append(point.epochs)
            y.append(factor(metric) * point.metrics[metric])
            texts.append(f"{html.escape(reached)}<br>{about_run}")
        x.append(None)
        y.append(None)
        texts.append("")
        last = "x" if view.state == "pruned" else "circle"
        symbols += [*["circle"] * (len(points) - 1), last, "circle"]
    return go.Scatter(
        x=x,
        y=y,
        mode="lines+markers",
        name=style.kind,
        line={"color": style.colour, "width": style.width, "dash": style.dash},
        marker={"symbol": symbols, "size": 5 if style.width < 2 else 7},
        text=texts,
        hovertemplate="%{text}<extra></extra>",
    )


def _message(answer: Answer, metric: str) -> str:
    """Where the curves of the recommended network and of the bare backbone end."""
    now = answer.now
    rungs = now.recipe.training.rungs
    parts = []
    for view in (now.find(answer.taken_key or ""), now.bare):
        evidence = None if view is None else now.searched.get(view.key)
        if view is None or evidence is None or view.rung != len(rungs) - 1:
            continue
        name = "the bare backbone" if view.is_bare else "the recommended network"
        one = f"{name} is at {units.value(metric, evidence.estimates[view.key].mean)}"
        if one not in parts:
            parts.append(one)
    if not parts:
        return "No compared run has reached the last rung yet."
    return f"After {several(rungs[-1], 'epoch')}, {', '.join(parts)}."
