"""Networks trained for use, on the report's page: how they came along, and what they score."""

from __future__ import annotations

import html

import plotly.graph_objects as go

from nas_attn import tasks
from nas_attn.analysis import units
from nas_attn.analysis.retrained import Retrained
from nas_attn.analysis.snapshot import Snapshot
from nas_attn.report import tables
from nas_attn.report.axes import measure
from nas_attn.report.figures import PALETTE, blank_figure


def retrained_table(snapshot: Snapshot) -> tables.Table:
    """One row per training."""
    rows = [tables.Row(_row(run)) for run in snapshot.retrained]
    return tables.Table(["placement", "way", "seed", "epochs", "on the validation split"], rows)


def _row(run: Retrained) -> list[tables.Cell]:
    epochs = run.curve[-1].epochs if run.curve else None
    shown = {name: value for name, value in (run.metrics or {}).items() if name != "train_loss_sum"}
    said = ", ".join(f"{units.title(name)} {units.value(name, value)}" for name, value in shown.items())
    return [
        tables.Cell(notation=run.placement, wide=True),
        tables.Cell(run.way),
        tables.number(str(run.seed), run.seed),
        tables.number(units.MISSING if epochs is None else str(epochs), epochs),
        tables.Cell(said or run.reason or ("under way" if epochs else "waiting")),
    ]


def retraining_curves(snapshot: Snapshot) -> list[go.Figure]:
    """Two figures: the score on the validation split, and the training loss, by epochs; a line per training."""
    runs = [run for run in snapshot.retrained if run.curve]
    if not runs:
        return []
    own = tasks.of(snapshot.recipe).metric
    metric = snapshot.primary if all(snapshot.primary in run.curve[-1].metrics for run in runs) else own
    assert metric is not None
    score, loss = blank_figure(height=360), blank_figure(height=320)
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


def _line(figure: go.Figure, run: Retrained, epochs: list[int], values: list[float | None], colour: str) -> None:
    shown = run.placement if len(run.placement) <= 60 else f"{run.placement[:59]}…"
    shown = html.escape(shown)  # plotly takes a name for markup
    style = {"color": colour, "width": 2}
    line = go.Scatter(x=epochs, y=values, mode="lines+markers", line=style, name=f"{shown}, seed {run.seed}")
    figure.add_trace(line)
