"""How the front grew: over trials and over the time of training, beside what nobody had to search for."""

from __future__ import annotations

from collections.abc import Iterable

import plotly.graph_objects as go

from nas_attn.analysis.snapshot import CandidateView, Snapshot
from nas_attn.recipe import lower_is_better
from nas_attn.report import words
from nas_attn.report.figures import BLUE, ORANGE, blank_figure

Point = tuple[float, float]


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
    seconds, spent = [], 0.0
    for view in views:
        spent += sum(point.wall_s for point in view.scores)
        seconds.append(spent)
    trials = [view.trial for view in views]
    figure = blank_figure(height=340)
    for name, wanted, colour, dash in (
        ("everything tried", views, BLUE, "solid"),
        ("no attention and the uniform baselines alone", [v for v in views if v.baseline], ORANGE, "dot"),
    ):
        keys = {view.key for view in wanted}
        grown = [
            area([costs[v.key] for v in views[: n + 1] if v.key in keys], worst) / whole for n in range(len(views))
        ]
        figure.add_trace(
            go.Scatter(
                x=trials,
                y=grown,
                mode="lines+markers",
                name=name,
                line={"shape": "hv", "color": colour, "dash": dash, "width": 2},
                marker={"size": 4},
                text=[
                    f"trial {v.trial}, after {words.duration(s)} of training"
                    for v, s in zip(views, seconds, strict=True)
                ],
                hovertemplate="%{y:.1%}<br>%{text}<extra></extra>",
            )
        )
    minutes = [s / 60 for s in seconds]
    buttons = [
        {"label": label, "method": "update", "args": [{"x": [x, x]}, {"xaxis.title.text": title}]}
        for label, x, title in (
            ("trials", trials, "trial"),
            ("time", minutes, "minutes of training, all workers together"),
        )
    ]
    figure.update_layout(
        updatemenus=[
            {"type": "buttons", "direction": "right", "x": 1, "xanchor": "right", "y": 1.18, "buttons": buttons}
        ]
    )
    figure.update_xaxes(title="trial")
    figure.update_yaxes(title="dominated area, share of now", tickformat=".0%", rangemode="tozero")
    return figure


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
