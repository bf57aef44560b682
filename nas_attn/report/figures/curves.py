"""The learning curves of all runs."""

from __future__ import annotations

import html
from collections import defaultdict

import plotly.graph_objects as go

from nas_attn.answer.answer import Answer
from nas_attn.answer.snapshot import CandidateView, ScorePoint
from nas_attn.errors import several
from nas_attn.recipe import units
from nas_attn.report.columns import Role, role
from nas_attn.report.figures.style import STYLES, blank_figure, factor, hover, measure, tell

CURVES_HEIGHT = 420
# between two curves of a trace
GAP = (None, None, "", "circle")


def learning_curves(answer: Answer) -> go.Figure | None:
    """The primary metric by epochs, one line per run; a cross ends a pruned run. None with a single
    rung: one point is no curve.
    """
    now = answer.now
    metric = now.primary
    if metric is None or len(now.recipe.training.rungs) < 2:
        return None
    runs: dict[Role, list[tuple[CandidateView, list[ScorePoint]]]] = {one: [] for one in STYLES}
    for view in now.candidates:
        own = defaultdict[tuple[str, int], list[ScorePoint]](list)
        for point in view.scores:
            if metric in point.metrics:
                own[point.purpose, point.seed].append(point)
        runs[role(answer, view)] += [(view, points) for points in own.values()]
    figure = blank_figure(height=CURVES_HEIGHT)
    for of, alike in runs.items():
        if alike:
            figure.add_trace(_curves(answer, metric, of, alike))
    if not figure.data:
        return None
    figure.update_xaxes(title_text="epochs")
    measure(figure, "y", metric)
    how = "A line is one run; a cross ends a run that was stopped early."
    title = units.title(metric)
    return tell(figure, f"{title[:1].upper()}{title[1:]} of each run as it trains.", how)


def _curves(
    answer: Answer, metric: str, of: Role, runs: list[tuple[CandidateView, list[ScorePoint]]]
) -> go.Scatter:
    """Curves of one role as one trace with gaps, because each trace costs the browser time."""
    style = STYLES[of]
    marks: list[tuple[int | None, float | None, str, str]] = []
    for view, points in runs:
        about = hover(answer, view)
        for point in points:
            value = point.metrics[metric]
            reached = f"{units.value(metric, value)} after {several(point.epochs, 'epoch')}"
            text = f"{html.escape(reached)}, seed {point.seed}<br>{about}"
            is_cut = view.state == "pruned" and point is points[-1]
            marks.append((point.epochs, factor(metric) * value, text, "x" if is_cut else "circle"))
        marks.append(GAP)
    x, y, texts, symbols = zip(*marks, strict=True)
    return go.Scatter(
        x=x,
        y=y,
        mode="lines+markers",
        name=of,
        line={"color": style.colour, "width": style.width, "dash": style.dash},
        marker={"symbol": symbols, "size": 5 if style.width < 2 else 7},
        text=texts,
        hovertemplate="%{text}<extra></extra>",
    )
