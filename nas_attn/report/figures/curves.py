"""The learning curves of all runs."""

from __future__ import annotations

import html
from collections import defaultdict
from collections.abc import Iterator, Sequence

import plotly.graph_objects as go

from nas_attn.answer.answer import Answer
from nas_attn.answer.snapshot import CandidateView, ScorePoint
from nas_attn.errors import several
from nas_attn.recipe import units
from nas_attn.report.columns import Role, role
from nas_attn.report.figures.style import STYLES, blank_figure, factor, hover, measure, tell

CURVES_HEIGHT = 420
# epochs, value, what is said of it, and its symbol
Mark = tuple[int | None, float | None, str, str]
# between two curves of a trace
GAP: Mark = (None, None, "", "circle")


def learning_curves(answer: Answer) -> go.Figure | None:
    """The primary metric by epochs, one line per run; a cross ends a pruned run. None with a single
    rung: one point is no curve.
    """
    now = answer.now
    metric = now.primary
    if metric is None or len(now.recipe.training.rungs) < 2:
        return None
    figure = blank_figure(height=CURVES_HEIGHT)
    for of in STYLES:
        views = [view for view in now.candidates if role(answer, view) is of]
        marks = [mark for view in views for mark in _marks(answer, metric, view)]
        if marks:
            figure.add_trace(_curves(of, marks))
    if not figure.data:
        return None
    figure.update_xaxes(title_text="epochs")
    measure(figure, "y", metric)
    how = "A line is one run; a cross ends a run that was stopped early."
    title = units.title(metric)
    return tell(figure, f"{title[:1].upper()}{title[1:]} of each run as it trains.", how)


def _marks(answer: Answer, metric: str, view: CandidateView) -> Iterator[Mark]:
    """The points of a candidate's runs, each run with a gap at its end."""
    runs = defaultdict[tuple[str, int], list[ScorePoint]](list)
    for point in view.scores:
        if metric in point.metrics:
            runs[point.purpose, point.seed].append(point)
    about = hover(answer, view)
    for points in runs.values():
        for point in points:
            value = point.metrics[metric]
            reached = f"{units.value(metric, value)} after {several(point.epochs, 'epoch')}"
            text = f"{html.escape(reached)}, seed {point.seed}<br>{about}"
            is_cut = view.state == "pruned" and point is points[-1]
            yield (point.epochs, factor(metric) * value, text, "x" if is_cut else "circle")
        yield GAP


def _curves(of: Role, marks: Sequence[Mark]) -> go.Scatter:
    """Curves of one role as one trace with gaps, because each trace costs the browser time."""
    style = STYLES[of]
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
