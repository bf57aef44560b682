"""Trainings for use, epoch by epoch."""

from __future__ import annotations

import html
from collections.abc import Sequence

import plotly.graph_objects as go

from nas_attn.answer.facts import Retrained
from nas_attn.answer.snapshot import Snapshot
from nas_attn.report.figure_facts import retrained_facts
from nas_attn.report.figures.drawing import (
    BLUE,
    GREEN,
    ORANGE,
    RED,
    Told,
    blank_figure,
    factor,
    measure,
    padded,
    tell,
)
from nas_attn.report.figures.labels import End, name_ends
from nas_attn.report.messages import HOW_RETRAINED, loss_message, run_name, score_message

# No two lines have the same colour and dash
CURVE_COLOURS = (BLUE, ORANGE, GREEN, RED)
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
# Lines with a name beside their end, at most
RETRAINED_NAMES = 6
# Pixels above the axes, and beside them for the names
TOP_MARGIN = 20
RETRAINED_BESIDE = 120


def retraining_curves(snapshot: Snapshot) -> list[go.Figure]:
    """Two figures: the score on the validation split, and the training loss, by epochs; a line per
    training.
    """
    facts = retrained_facts(snapshot)
    if facts is None:
        return []
    metric = facts.metric
    by = factor(metric)
    score = blank_figure(height=380)
    loss = blank_figure(height=340)
    for number, run in enumerate(facts.runs):
        values = [point.metrics.get(metric) for point in run.curve]
        scores = [None if value is None else by * value for value in values]
        score.add_trace(_line(run, number, scores))
        loss.add_trace(_line(run, number, [point.train_loss for point in run.curve]))
    measure(score, "y", metric)
    loss.update_yaxes(title_text="training loss")
    for figure in (score, loss):
        figure.update_xaxes(title_text="epochs")
        _name(figure)
    tell(score, Told(score_message(snapshot), HOW_RETRAINED))
    tell(loss, Told(loss_message(snapshot), HOW_RETRAINED))
    return [score, loss]


def _name(figure: go.Figure) -> None:
    """Names beside the lines' ends; a legend below, where there are too many."""
    values = [value for trace in figure.data for value in trace.y if value is not None]
    if len(figure.data) > RETRAINED_NAMES or not values:
        figure.update_layout(legend={"y": -0.2, "yanchor": "top"}, showlegend=True)
        return
    limits = padded(values)
    inside = figure.layout.height - TOP_MARGIN - figure.layout.margin.b
    ends = [
        End(trace.name.replace(", ", "<br>"), trace.y[-1])
        for trace in figure.data
        if trace.y[-1] is not None
    ]
    figure.update_yaxes(range=limits)
    figure.update_layout(showlegend=False, margin={"t": TOP_MARGIN, "r": RETRAINED_BESIDE})
    name_ends(figure, ends, limits, height=inside, lines=2)


def _line(run: Retrained, number: int, values: Sequence[float | None]) -> go.Scatter:
    return go.Scatter(
        x=[point.epochs for point in run.curve],
        y=values,
        mode="lines+markers",
        line={
            "color": CURVE_COLOURS[number % len(CURVE_COLOURS)],
            "dash": DASHES[number % len(DASHES)],
            "width": 2,
        },
        # plotly reads a name as markup
        name=html.escape(run_name(run)),
    )
