"""How the front grew: over trials and over the time of training, beside what nobody had to search for."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import plotly.graph_objects as go

from nas_attn.analysis.snapshot import CandidateView, Snapshot
from nas_attn.recipe import lower_is_better
from nas_attn.report import words
from nas_attn.report.axes import per_cent
from nas_attn.report.figures import BLUE, ORANGE, blank_figure

Point = tuple[float, float]
MOST = 500
"""Candidates up to which each is a point of the curves."""


def growth_figure(snapshot: Snapshot) -> go.Figure | None:
    """The share of the area that the front dominates now, after each trial; None but for two objectives.

    By today's estimates throughout: the area between the front and the worst scored value of each objective.
    """
    views = [v for v in snapshot.candidates if v.state == "scored" and None not in v.values]
    if len(snapshot.objectives) != 2 or len(views) < 3:
        return None
    costs = {view.key: _costs(snapshot, view) for view in views}
    worst = (max(x for x, _ in costs.values()), max(y for _, y in costs.values()))
    whole = area(costs.values(), worst)
    if not whole:
        return None
    curves = [
        _grown([costs[view.key] if everything or view.baseline else None for view in views], worst, whole)
        for everything in (True, False)
    ]
    seconds = list(itertools.accumulate(sum(point.wall_s for point in view.scores) for view in views))
    shown = [i for i in range(len(views)) if i in (0, len(views) - 1) or any(c[i] != c[i - 1] for c in curves)]
    if len(views) > MOST:  # a curve of steps is known by where it steps
        views, seconds = [views[i] for i in shown], [seconds[i] for i in shown]
        curves = [[curve[i] for i in shown] for curve in curves]
    figure = blank_figure(height=340)
    hover = [f"trial {v.trial}, after {words.duration(s)} of training" for v, s in zip(views, seconds, strict=True)]
    trials = [view.trial for view in views]
    for name, grown, colour, dash in (
        ("everything tried", curves[0], BLUE, "solid"),
        ("no attention and the uniform baselines alone", curves[1], ORANGE, "dot"),
    ):
        figure.add_trace(_curve(name, trials, grown, hover, {"color": colour, "dash": dash}))
    figure.update_layout(updatemenus=[_axes(trials, seconds)])
    figure.update_xaxes(title="trial")
    per_cent(figure, "y")
    figure.update_yaxes(title="dominated area, share of now", rangemode="tozero")
    return figure


def _curve(name: str, x: list[int], y: list[float], hover: list[str], line: dict[str, str]) -> go.Scatter:
    return go.Scatter(
        x=x,
        y=y,
        mode="lines+markers",
        name=name,
        line={"shape": "hv", "width": 2, **line},
        marker={"size": 4},
        text=[f"{100 * share:.1f} %<br>{at}" for share, at in zip(y, hover, strict=True)],
        hovertemplate="%{text}<extra></extra>",
    )


def _axes(trials: list[int], seconds: list[float]) -> dict[str, Any]:
    """Two buttons: over trials, or over the time of training."""
    minutes = [s / 60 for s in seconds]
    buttons = [
        {"label": label, "method": "update", "args": [{"x": [x, x]}, {"xaxis.title.text": title}]}
        for label, x, title in (
            ("trials", trials, "trial"),
            ("time", minutes, "minutes of training, all workers together"),
        )
    ]
    return {"type": "buttons", "direction": "right", "x": 1, "xanchor": "right", "y": 1.18, "buttons": buttons}


def _grown(points: Iterable[Point | None], worst: Point, whole: float) -> list[float]:
    """The share of `whole` that the points so far dominate, after each; None adds nothing."""
    front: list[Point] = []
    shares, now = [], 0.0
    for point in points:
        if point is not None and not any(x <= point[0] and y <= point[1] for x, y in front):
            front = [(x, y) for x, y in front if not (point[0] <= x and point[1] <= y)] + [point]
            now = area(front, worst) / whole
        shares.append(now)
    return shares


def area(points: Iterable[Point], worst: Point) -> float:
    """The area that points dominate, both coordinates being costs, up to the corner `worst`."""
    total, height = 0.0, worst[1]
    for x, y in sorted(points):
        if y < height and x < worst[0]:
            total += (worst[0] - x) * (height - y)
            height = y
    return total


def _costs(snapshot: Snapshot, view: CandidateView) -> Point:
    x, y = (
        (1.0 if lower_is_better(objective) else -1.0) * (value or 0.0)
        for objective, value in zip(snapshot.objectives, view.values, strict=True)
    )
    return x, y
