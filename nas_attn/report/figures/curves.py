"""The learning curves of all runs."""

from __future__ import annotations

import html
from collections.abc import Sequence
from statistics import fmean

import plotly.graph_objects as go

from nas_attn.answer.answer import Answer
from nas_attn.answer.candidates import short_name
from nas_attn.answer.snapshot import CandidateView, ScorePoint, Snapshot
from nas_attn.errors import several
from nas_attn.model import Gain
from nas_attn.recipe import units
from nas_attn.report.estimates import Provenance, provenance
from nas_attn.report.figures.drawing import (
    GREY,
    PRUNED_STYLE,
    Style,
    Told,
    blank_figure,
    factor,
    hover,
    measure,
    padded,
    style_of,
    tell,
)
from nas_attn.report.figures.point_labels import End, name_ends

# Learning curves drawn at most; the front, the baselines and the newest go first
_MOST_CURVES = 150
# Pixels; and of them between the ends of the y axis, and beside it for the names
CURVES_HEIGHT = 420
CURVES_INSIDE = 300
CURVES_BESIDE = 130

Run = tuple[CandidateView, list[ScorePoint]]


def learning_curves(answer: Answer) -> go.Figure | None:
    """The primary metric by epochs, one line per run; a cross ends a pruned run. None with a single
    rung: one point is no curve.
    """
    snapshot = answer.now
    metric = snapshot.primary
    if metric is None or len(snapshot.recipe.training.rungs) < 2:
        return None
    runs = _runs(answer, metric)
    if not runs:
        return None
    figure = blank_figure(height=CURVES_HEIGHT)
    figure.update_layout(margin={"r": CURVES_BESIDE, "t": 20}, showlegend=False)
    figure.add_traces([_curves(snapshot, alike, metric, style) for style, alike in runs.items()])
    by = factor(metric)
    drawn = [
        by * point.metrics[metric]
        for alike in runs.values()
        for _, points in alike
        for point in points
    ]
    ends = [
        End(
            f"<b>{style.kind}</b>" if style.width >= 2 else style.kind,
            by * fmean(points[-1].metrics[metric] for _, points in alike),
        )
        for style, alike in runs.items()
        # a cross says it where they end
        if style is not PRUNED_STYLE
    ]
    level = _start(snapshot, metric)
    if level is not None:
        drawn.append(by * level)
        ends.append(End(f"start: {units.value(metric, level)}", by * level))
        figure.add_hline(y=by * level, line={"dash": "dot", "width": 1, "color": GREY})
    limits = padded(drawn)
    figure.update_yaxes(range=limits)
    name_ends(figure, ends, limits, height=CURVES_INSIDE)
    figure.update_xaxes(title_text="epochs")
    measure(figure, "y", metric)
    how = "A line is one run; a cross ends a run that was stopped early."
    return tell(figure, Told(curves_message(answer, metric), how))


def _runs(answer: Answer, metric: str) -> dict[Style, list[Run]]:
    """Style -> the runs that are drawn in it."""
    runs: dict[Style, list[Run]] = {}
    for view in _for_curves(answer.now):
        own: dict[tuple[str, int], list[ScorePoint]] = {}
        for point in view.scores:
            if metric in point.metrics:
                own.setdefault((point.purpose, point.seed), []).append(point)
        if own:
            style = style_of(answer, view)
            runs.setdefault(style, []).extend((view, points) for points in own.values())
    return runs


def _start(snapshot: Snapshot, metric: str) -> float | None:
    """The mean score of the trained backbones before the search; None without them."""
    first = snapshot.recipe.first_seed
    seeds = range(first, first + snapshot.recipe.training.backbones)
    scores = {
        point.seed: point.metrics[metric]
        for point in snapshot.backbone
        if point.seed in seeds and metric in point.metrics
    }
    return fmean(scores.values()) if scores else None


def _for_curves(snapshot: Snapshot) -> list[CandidateView]:
    weight = {
        view.key: (view.on_front, view.baseline is not None, view.trial)
        for view in snapshot.candidates
    }
    views = sorted(
        (view for view in snapshot.candidates if view.scores), key=lambda view: weight[view.key]
    )
    return views[-_MOST_CURVES:]


def _curves(snapshot: Snapshot, runs: Sequence[Run], metric: str, style: Style) -> go.Scatter:
    """Curves of one kind as one trace with gaps, because each trace costs the browser time."""
    x: list[int | None] = []
    y: list[float | None] = []
    texts = list[str]()
    symbols = list[str]()
    by = factor(metric)
    for view, points in runs:
        about_run = hover(snapshot, view)
        for point in points:
            x.append(point.epochs)
            y.append(by * point.metrics[metric])
            score = units.value(metric, point.metrics[metric])
            reached = f"{score} after {several(point.epochs, 'epoch')}, seed {point.seed}"
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


def curves_message(answer: Answer, metric: str) -> str:
    """Where the curves of the recommended network and of the bare backbone end."""
    now = answer.now
    rungs = now.recipe.training.rungs
    ends: dict[str, float] = {}
    for view in now.candidates:
        evidence = now.searched.get(view.key)
        if view.rung == len(rungs) - 1 and evidence is not None:
            ends[view.key] = evidence.estimates[view.key].mean
    if not ends:
        return "No run has reached the last rung yet."
    after = f"After {several(rungs[-1], 'epoch')}"
    bare = next((ends[v.key] for v in now.candidates if v.is_bare and v.key in ends), None)
    taken = now.find(answer.taken_key or "")
    if taken is not None and not taken.is_bare and taken.key in ends:
        gain = _gain_of_search(now, metric, taken)
        half = 0.0 if gain is None else (gain.high - gain.low) / 2

        def score(end: float) -> str:
            # with as many digits as the interval of the gain supports
            return units.value_within(metric, end, end - half, end + half)

        reached = f"{after}, {short_name(taken)} is at {score(ends[taken.key])}"
        return f"{reached}." if bare is None else f"{reached}, the bare backbone at {score(bare)}."
    if bare is not None:
        return f"{after}, the bare backbone is at {units.value(metric, bare)}."
    pruned = now.counts["pruned"]
    stopped = f"; {pruned} were stopped early" if pruned else ""
    return f"{after} the scores are known{stopped}."


def _gain_of_search(now: Snapshot, metric: str, view: CandidateView) -> Gain | None:
    """The gain over the bare backbone at the search's last rung."""
    if provenance(now, metric) is Provenance.SEARCH:
        return view.gains.get(metric)
    evidence = now.searched[view.key]
    bare = next((one.key for one in now.candidates if one.is_bare), "")
    return evidence.gains(bare).get(view.key) if bare in evidence.ran else None
