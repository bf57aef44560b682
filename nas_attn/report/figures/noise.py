"""Each candidate's runs next to its estimate."""

from __future__ import annotations

import html

import plotly.graph_objects as go

from nas_attn.analysis.fronts import sign_of
from nas_attn.analysis.snapshot import Snapshot
from nas_attn.report.figures.drawing import (
    BLUE,
    GREY,
    blank_figure,
    error_bars,
    hover,
    measure,
    style_of,
)
from nas_attn.words import units


def noise_figure(snapshot: Snapshot) -> go.Figure | None:
    """Each run's gain over the bare backbone's run of the same seed, beside the candidate's
    estimate; None without gains.
    """
    metric = snapshot.primary
    last = len(snapshot.recipe.training.rungs) - 1
    bare = next((view for view in snapshot.candidates if view.baseline == "none"), None)
    if metric is None or bare is None:
        return None
    views = [view for view in snapshot.ordered(snapshot.candidates) if metric in view.gains]
    repeated = [
        len({point.seed for point in view.scores if point.rung == view.rung}) > 1 for view in views
    ]
    views = [
        view
        for view, more in zip(views, repeated, strict=True)
        if view.on_front or view.baseline or more
    ][:40]
    if not views:
        return None
    sign = sign_of(snapshot.recipe, metric)
    level = {
        p.seed: p.metrics[metric] for p in bare.scores if p.rung == last and metric in p.metrics
    }
    runs = [
        (view, p, sign * (p.metrics[metric] - level[p.seed]))
        for view in views
        for p in view.scores
        if p.rung == last and metric in p.metrics and p.seed in level
    ]
    figure = blank_figure(height=max(240, 26 * len(views) + 130))
    figure.add_trace(
        go.Scatter(
            x=[gain for _, _, gain in runs],
            y=[html.escape(view.label) for view, _, _ in runs],
            mode="markers",
            name="one run, compared with the bare backbone's of the same seed",
            marker={"color": GREY, "size": 8, "symbol": "line-ns-open", "line": {"width": 2}},
            text=[
                f"{units.difference(metric, gain)}<br>{hover(snapshot, view)}<br>seed {p.seed}"
                for view, p, gain in runs
            ],
            hovertemplate="%{text}<extra></extra>",
        )
    )
    gains = [view.gains[metric] for view in views]
    figure.add_trace(
        go.Scatter(
            x=[gain.mean for gain in gains],
            y=[html.escape(view.label) for view in views],
            mode="markers",
            name="estimate, 95 %",
            marker={"color": [style_of(snapshot, view)[1] for view in views], "size": 10},
            error_x={
                **error_bars([(g.mean, g.low, g.high) for g in gains]),
                "color": BLUE,
                "thickness": 1.5,
            },
            text=[hover(snapshot, view) for view in views],
            hovertemplate="%{text}<extra></extra>",
        )
    )
    figure.add_vline(x=0, line={"width": 1, "color": GREY})
    measure(figure, "x", metric, gain=True)
    figure.update_yaxes(autorange="reversed", type="category")
    return figure
