"""A snapshot's figures (plotly). Colours suit a light and a dark page; the page sets the text's colour."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

import plotly.graph_objects as go

from nas_attn.analysis import units
from nas_attn.analysis.evidence import Estimate
from nas_attn.analysis.snapshot import CandidateView, ScorePoint, Snapshot
from nas_attn.recipe import lower_is_better, objective_name
from nas_attn.report import words
from nas_attn.report.axes import measure

BLUE, ORANGE, GREEN, RED, GREY = "#2f81d6", "#e08a00", "#1a9e77", "#d1495b", "#8a919c"
PALETTE = ("#2f81d6", "#e08a00", "#1a9e77", "#d1495b", "#8f6bd1", "#3fb8c9", "#b8a200", "#c76bb0", "#7a8f3c", "#a06a42")
"""One colour per attention type, in turn."""
WIDTH = 90
"""Letters of a line of what is shown at a point."""
_MOST_CURVES = 150
"""Learning curves drawn at most; the front, the baselines and the newest go first."""


def front_figures(snapshot: Snapshot) -> list[go.Figure]:
    """The first objective against each other one (against the trial's number where it is alone)."""
    others = range(1, len(snapshot.objectives)) if len(snapshot.objectives) > 1 else [None]
    return [_front(snapshot, other) for other in others]


def _front(snapshot: Snapshot, other: int | None) -> go.Figure:
    figure = blank_figure(height=460)
    best = snapshot.recommendation.key if snapshot.recommendation else None
    scored = [view for view in snapshot.candidates if view.state == "scored" and _drawable(view, other)]
    groups = (
        ("searched", [v for v in scored if v.baseline is None and not v.on_front], GREY, "circle", 7, False),
        ("uniform baselines", [v for v in scored if v.baseline not in (None, "none")], ORANGE, "diamond", 10, True),
        ("front", [v for v in scored if v.on_front and v.baseline is None], BLUE, "circle", 11, True),
        ("no attention", [v for v in scored if v.baseline == "none"], RED, "square", 11, True),
    )
    if len(snapshot.objectives) == 2:
        figure.add_trace(_staircase(snapshot, [view for view in scored if view.on_front]))
        if snapshot.told_front_differs:
            figure.add_trace(_told_staircase(snapshot))
    for name, views, colour, symbol, size, bars in groups:
        if views:
            figure.add_trace(_points(snapshot, views, other, name, colour, symbol, size, bars))
    chosen = [view for view in scored if view.key == best]
    if chosen:
        ring = _points(snapshot, chosen, other, "recommended", GREEN, "circle-open", 22, False)
        figure.add_trace(ring.update(marker_line_width=3, hoverinfo="skip", hovertemplate=None))
    measure(figure, "y", snapshot.objectives[0])
    if other is None:
        figure.update_xaxes(title="trial")
    else:
        measure(figure, "x", snapshot.objectives[other])
    return figure


def _points(
    snapshot: Snapshot,
    views: Sequence[CandidateView],
    other: int | None,
    name: str,
    colour: str,
    symbol: str,
    size: int,
    bars: bool,
) -> go.Scatter:
    trace = go.Scatter(
        x=[_x(view, other) for view in views],
        y=[view.values[0] for view in views],
        mode="markers",
        name=name,
        marker={"color": colour, "symbol": symbol, "size": size},
        text=[hover(snapshot, view) for view in views],
        customdata=[view.placement for view in views],
        hovertemplate="%{text}<extra></extra>",
    )
    if bars:
        bar = {"color": colour, "thickness": 1, "width": 3}
        trace.error_y = {"array": [_half_width(snapshot, view, 0) for view in views], **bar}
        if other is not None:
            trace.error_x = {"array": [_half_width(snapshot, view, other) for view in views], **bar}
    return trace


def hover(snapshot: Snapshot, view: CandidateView) -> str:
    """A candidate in a few lines; the placement can be pasted back."""
    placement = [view.placement]
    if len(view.placement) > WIDTH:
        placement = textwrap.wrap(view.placement, WIDTH, break_long_words=False, break_on_hyphens=False)
    lines = [f"<b>{html.escape(view.label)}</b>", *(html.escape(line) for line in placement)]
    for index, objective in enumerate(snapshot.objectives):
        lines.append(f"{html.escape(objective_name(objective))}: {words.with_spread(snapshot, view, index)}")
    if view.cost is not None:
        lines.append(f"{units.count(view.cost.parameters)} parameters, {units.count(view.cost.macs)} MACs")
    return "<br>".join(lines)


def _staircase(snapshot: Snapshot, front: Sequence[CandidateView]) -> go.Scatter:
    return _steps(snapshot, [(view.values[1], view.values[0]) for view in front], "front", BLUE, "solid")


def _told_staircase(snapshot: Snapshot) -> go.Scatter:
    told = [view.told for view in snapshot.candidates if view.told_on_front and view.told is not None]
    return _steps(snapshot, [(values[1], values[0]) for values in told], "front as told to Optuna", GREY, "dot")


def _steps(
    snapshot: Snapshot, points: Iterable[tuple[float | None, float | None]], name: str, colour: str, dash: str
) -> go.Scatter:
    known = sorted((x, y) for x, y in points if x is not None and y is not None)
    shape = "hv" if lower_is_better(snapshot.objectives[1]) else "vh"
    return go.Scatter(
        x=[x for x, _ in known],
        y=[y for _, y in known],
        mode="lines",
        name=name,
        line={"shape": shape, "color": colour, "dash": dash, "width": 1.5},
        hoverinfo="skip",
        showlegend=dash != "solid",
    )


def learning_curves(snapshot: Snapshot) -> go.Figure | None:
    """The primary metric by epochs, one line per run, those that were pruned ending in a cross."""
    metric = snapshot.primary
    if metric is None:
        return None
    runs: dict[tuple[str, str, float], list[tuple[CandidateView, list[ScorePoint]]]] = {}
    for view in _for_curves(snapshot):
        for run in _runs(view.scores):
            points = [point for point in run if metric in point.metrics]
            if points:
                runs.setdefault(_kind(snapshot, view), []).append((view, points))
    if not runs:
        return None
    figure = blank_figure(height=420)
    figure.add_traces([_curves(snapshot, alike, metric, style) for style, alike in runs.items()])
    own = range(snapshot.recipe.search.seed, snapshot.recipe.search.seed + snapshot.recipe.training.backbones)
    start = {p.seed: p.metrics[metric] for p in snapshot.backbone if p.seed in own and metric in p.metrics}  # not fresh
    if start:
        level = fmean(start.values())
        note = f"trained backbone before the search ({units.value(metric, level)})"
        figure.add_hline(
            y=level,
            line={"dash": "dot", "width": 1, "color": GREY},
            annotation_text=note,
            annotation_position="bottom left",
        )
    figure.update_xaxes(title="epochs")
    measure(figure, "y", metric)
    return figure


def _for_curves(snapshot: Snapshot) -> list[CandidateView]:
    """What is drawn, the important last, so that it lies on top."""
    weight = {view.key: (view.on_front, view.baseline is not None, view.trial) for view in snapshot.candidates}
    views = sorted((view for view in snapshot.candidates if view.scores), key=lambda view: weight[view.key])
    return views[-_MOST_CURVES:]


def _kind(snapshot: Snapshot, view: CandidateView) -> tuple[str, str, float]:
    if snapshot.recommendation is not None and view.key == snapshot.recommendation.key:
        return "recommended", GREEN, 3
    if view.baseline == "none":
        return "no attention", RED, 2
    if view.baseline is not None:
        return "uniform baselines", ORANGE, 1.5
    if view.on_front:
        return "front", BLUE, 2
    return ("pruned", GREY, 0.8) if view.state == "pruned" else ("searched", "#9db7d5", 1)


def _curves(
    snapshot: Snapshot,
    runs: Sequence[tuple[CandidateView, Sequence[ScorePoint]]],
    metric: str,
    style: tuple[str, str, float],
) -> go.Scatter:
    """Curves of one kind, a gap after each: one trace, as a browser and plotly take their time over each."""
    kind, colour, width = style
    x: list[int | None] = []
    y: list[float | None] = []
    texts, symbols = list[str](), list[str]()
    for view, points in runs:
        said = hover(snapshot, view)
        for point in points:
            x.append(point.epochs)
            y.append(point.metrics[metric])
            texts.append(
                f"{units.value(metric, point.metrics[metric])} after {point.epochs} epochs, seed {point.seed}<br>{said}"
            )
        x.append(None)
        y.append(None)
        texts.append("")
        symbols += [*["circle"] * (len(points) - 1), "x" if view.state == "pruned" else "circle", "circle"]
    return go.Scatter(
        x=x,
        y=y,
        mode="lines+markers",
        name=kind,
        line={"color": colour, "width": width, "dash": "dot" if kind == "pruned" else "solid"},
        marker={"symbol": symbols, "size": 5 if width < 2 else 7},
        text=texts,
        hovertemplate="%{text}<extra></extra>",
    )


def noise_figure(snapshot: Snapshot) -> go.Figure | None:
    """Each run of the primary metric at the last rung as a dot, the estimate and its interval as a bar."""
    metric, last = snapshot.primary, len(snapshot.recipe.training.rungs) - 1
    if metric is None:
        return None
    views = [
        view
        for view in snapshot.ordered(snapshot.candidates)
        if view.rung == last and metric in view.estimates and (view.on_front or view.baseline or _repeated(view))
    ][:40]
    if not views:
        return None
    figure = blank_figure(height=max(240, 26 * len(views) + 130))
    runs = [(view, p) for view in views for p in view.scores if p.rung == last and metric in p.metrics]
    figure.add_trace(
        go.Scatter(
            x=[point.metrics[metric] for _, point in runs],
            y=[html.escape(view.label) for view, _ in runs],
            mode="markers",
            name="one run (seed)",
            marker={"color": GREY, "size": 8, "symbol": "line-ns-open", "line": {"width": 2}},
            text=[
                f"{units.value(metric, p.metrics[metric])}<br>{hover(snapshot, view)}<br>seed {p.seed}"
                for view, p in runs
            ],
            hovertemplate="%{text}<extra></extra>",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=[view.estimates[metric].mean for view in views],
            y=[html.escape(view.label) for view in views],
            mode="markers",
            name="estimate, 95 %",
            marker={"color": [_kind(snapshot, view)[1] for view in views], "size": 10},
            error_x={**_bars([view.estimates[metric] for view in views]), "color": BLUE, "thickness": 1.5},
            text=[hover(snapshot, view) for view in views],
            customdata=[view.placement for view in views],
            hovertemplate="%{text}<extra></extra>",
        )
    )
    measure(figure, "x", metric)
    figure.update_yaxes(autorange="reversed", type="category")
    return figure


def _bars(estimates: Sequence[Estimate]) -> dict[str, Any]:
    """Error bars to the ends of the 95 % intervals, which need not lie evenly about the means."""
    up = [estimate.high - estimate.mean for estimate in estimates]
    return {"symmetric": False, "array": up, "arrayminus": [e.mean - e.low for e in estimates]}


def _repeated(view: CandidateView) -> bool:
    return len({point.seed for point in view.scores if point.rung == view.rung}) > 1


def _runs(points: Iterable[ScorePoint]) -> list[list[ScorePoint]]:
    runs: dict[tuple[str, int], list[ScorePoint]] = {}
    for point in points:
        runs.setdefault((point.purpose, point.seed), []).append(point)
    return list(runs.values())


# ------------------------------------------------------------------------------------------- small parts


def blank_figure(*, height: int) -> go.Figure:
    """A figure without data, in the pages' looks."""
    figure = go.Figure()
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 70, "r": 20, "t": 30, "b": 60},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        font={"family": "system-ui, sans-serif", "size": 13, "color": "#7d8590"},
        hoverlabel={"align": "left"},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": "#7d8590", "activecolor": BLUE},
        hovermode="closest",
    )
    grid = {"gridcolor": "rgba(128,128,128,0.2)", "zeroline": False, "automargin": True}
    figure.update_xaxes(**grid)
    figure.update_yaxes(**grid)
    return figure


def _x(view: CandidateView, other: int | None) -> float | None:
    return view.trial if other is None else view.values[other]


def _drawable(view: CandidateView, other: int | None) -> bool:
    return view.values[0] is not None and _x(view, other) is not None


def _half_width(snapshot: Snapshot, view: CandidateView, index: int) -> float:
    objective = snapshot.objectives[index]
    if objective == "latency" and view.latency is not None:
        return (view.latency.high - view.latency.low) / 2
    estimate = view.estimates.get(objective_name(objective))
    return (estimate.high - estimate.low) / 2 if estimate else 0.0


def natural(site: str) -> tuple[object, ...]:
    """A key that sorts sites by their numbers."""
    digits = "".join(c if c.isdigit() else " " for c in site).split()
    return (tuple(int(d) for d in digits), site)
