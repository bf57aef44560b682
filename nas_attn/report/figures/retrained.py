"""Trainings for use, epoch by epoch."""

from __future__ import annotations

import html

import plotly.graph_objects as go

from nas_attn import tasks
from nas_attn.analysis.facts import Retrained
from nas_attn.analysis.snapshot import Snapshot
from nas_attn.report.figures.drawing import PALETTE, blank_figure, measure
from nas_attn.words import units


def retraining_curves(snapshot: Snapshot) -> list[go.Figure]:
    """Two figures: the score on the validation split, and the training loss, by epochs; a line per
    training.
    """
    runs = [run for run in snapshot.retrained if run.curve]
    if not runs:
        return []
    own = tasks.of(snapshot.recipe).metric
    metric = (
        snapshot.primary if all(snapshot.primary in run.curve[-1].metrics for run in runs) else own
    )
    assert metric is not None
    score = blank_figure(height=360)
    loss = blank_figure(height=320)
    for number, run in enumerate(runs):
        colour = PALETTE[number % len(PALETTE)]
        epochs = [point.epochs for point in run.curve]
        _line(score, run, epochs, [point.metrics.get(metric) for point in run.curve], colour)
        _line(loss, run, epochs, [point.train_loss for point in run.curve], colour)
    measure(score, "y", metric, title=f"{units.title(metric)}, validation split")
    loss.update_yaxes(title="training loss")
    for figure in (score, loss):
        figure.update_xaxes(title="epochs")
    return [score, loss]


def _line(
    figure: go.Figure, run: Retrained, epochs: list[int], values: list[float | None], colour: str
) -> None:
    text = str(run.placement)
    shown = text if len(text) <= 60 else f"{text[:59]}…"
    # plotly reads a name as markup
    shown = html.escape(shown)
    style = {"color": colour, "width": 2}
    line = go.Scatter(
        x=epochs, y=values, mode="lines+markers", line=style, name=f"{shown}, seed {run.seed}"
    )
    figure.add_trace(line)
