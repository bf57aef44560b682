"""A snapshot's figures (plotly)."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any, Literal

import plotly.graph_objects as go

from nas_attn import tasks
from nas_attn.analysis import units
from nas_attn.analysis.snapshot import CandidateView, Retrained, ScorePoint, Snapshot
from nas_attn.recipe import lower_is_better, objective_name
from nas_attn.report import words
from nas_attn.report.axes import BLUE, GREEN, GREY, ORANGE, RED, blank_figure, measure

PALETTE = ("#2f81d6", "#e08a00", "#1a9e77", "#d1495b", "#8f6bd1", "#3fb8c9", "#b8a200", "#c76bb0", "#7a8f3c", "#a06a42")
"""One colour per attention type, in turn."""
BARE = "bare backbone"
WIDTH = 90
"""Letters of a line of what is shown at a point."""
_MOST_CURVES = 150
"""Learning curves drawn at most; the front, the baselines and the newest go first."""


def front_figures(snapshot: Snapshot, *, absolute: bool = False) -> list[go.Figure]:
    """The first objective against each other one (against the trial's number where it is alone).

    Args:
        absolute: whether metrics are drawn as they are, and not as gains over the bare backbone.
    """
    others = range(1, len(snapshot.objectives)) if len(snapshot.objectives) > 1 else [None]
    return [_front(snapshot, other, absolute) for other in others]


Ends = tuple[float, float, float]
"""A value and the ends of its 95 % interval."""


def _ends(snapshot: Snapshot, view: CandidateView, index: int, absolute: bool) -> Ends | None:
    """What a candidate has in an objective, as it is drawn; None where it is not known."""
    objective, value = snapshot.objectives[index], view.values[index]
    name = objective_name(objective)
    if not absolute and snapshot.compared(objective):
        gain = view.gains.get(name)
        if gain is not None:
            return gain.mean, gain.low, gain.high
        return (0.0, 0.0, 0.0) if view.baseline == "none" else None
    if value is None:
        return None
    if objective == "latency" and view.latency is not None:
        return value, view.latency.low, view.latency.high
    estimate = view.estimates.get(name)
    return (value, estimate.low, estimate.high) if estimate else (value, value, value)


Point = tuple[CandidateView, Ends, Ends]
"""A candidate with its x and y."""


def _front(snapshot: Snapshot, other: int | None, absolute: bool) -> go.Figure:
    figure = blank_figure(height=460)
    best = snapshot.recommendation.key if snapshot.recommendation else None
    points: list[Point] = []
    for view in snapshot.candidates:
        x: Ends | None = (view.trial,) * 3 if other is None else _ends(snapshot, view, other, absolute)
        y = _ends(snapshot, view, 0, absolute)
        if view.state == "scored" and x is not None and y is not None:
            points.append((view, x, y))
    others = [point for point in points if not point[0].control]
    groups = (
        ("searched", [p for p in others if p[0].baseline is None and not p[0].on_front], GREY, "circle", 7, False),
        ("uniform baselines", [p for p in others if p[0].baseline not in (None, "none")], ORANGE, "diamond", 10, True),
        ("controls: more network", [p for p in points if p[0].control], GREY, "x", 9, True),
        ("front", [p for p in points if p[0].on_front and p[0].baseline is None], BLUE, "circle", 11, True),
        (BARE, [p for p in points if p[0].baseline == "none"], RED, "square", 11, True),
    )
    if other is not None and len(snapshot.objectives) == 2:
        x_gains = not absolute and snapshot.compared(snapshot.objectives[other])
        falls = lower_is_better(snapshot.objectives[other]) and not x_gains
        figure.add_trace(_staircase([p for p in points if p[0].on_front], "hv" if falls else "vh"))
    for name, group, colour, symbol, size, bars in groups:
        if group:
            figure.add_trace(_points(snapshot, group, name, colour, symbol, size, bars))
    chosen = [p for p in points if p[0].key == best]
    if chosen:
        ring = _points(snapshot, chosen, "recommended", GREEN, "circle-open", 22, False)
        figure.add_trace(ring.update(marker_line_width=3, hoverinfo="skip", hovertemplate=None))
    _axis(snapshot, figure, "y", 0, absolute)
    if other is None:
        figure.update_xaxes(title="trial")
    else:
        _axis(snapshot, figure, "x", other, absolute)
    return figure


def _axis(snapshot: Snapshot, figure: go.Figure, axis: Literal["x", "y"], index: int, absolute: bool) -> None:
    objective = snapshot.objectives[index]
    measure(figure, axis, objective, gain=not absolute and snapshot.compared(objective))


def _points(
    snapshot: Snapshot, points: Sequence[Point], name: str, colour: str, symbol: str, size: int, bars: bool
) -> go.Scatter:
    trace = go.Scatter(
        x=[x[0] for _, x, _ in points],
        y=[y[0] for _, _, y in points],
        mode="markers",
        name=name,
        marker={"color": colour, "symbol": symbol, "size": size},
        text=[hover(snapshot, view) for view, _, _ in points],
        customdata=[view.placement for view, _, _ in points],
        hovertemplate="%{text}<extra></extra>",
    )
    if bars:
        bar = {"color": colour, "thickness": 1, "width": 3}
        trace.error_x = {**_bars([x for _, x, _ in points]), **bar}
        trace.error_y = {**_bars([y for _, _, y in points]), **bar}
    return trace


def _bars(ends: Sequence[Ends]) -> dict[str, Any]:
    """Error bars to the ends of the 95 % intervals, which may be asymmetric."""
    up, down = [high - mean for mean, _, high in ends], [mean - low for mean, low, _ in ends]
    return {"symmetric": False, "array": up, "arrayminus": down}


def hover(snapshot: Snapshot, view: CandidateView) -> str:
    """A candidate in a few lines; the placement can be pasted back."""
    placement = [view.placement]
    if len(view.placement) > WIDTH:
        placement = textwrap.wrap(view.placement, WIDTH, break_long_words=False, break_on_hyphens=False)
    lines = [f"<b>{html.escape(words.label(view))}</b>", *(html.escape(line) for line in placement)]
    for index, objective in enumerate(snapshot.objectives):
        lines.append(f"{html.escape(objective_name(objective))}: {words.with_spread(snapshot, view, index)}")
        gain = view.gains.get(objective_name(objective))
        if gain is not None:
            ends = units.difference_range(objective, gain.low, gain.high)
            lines.append(f"gain over the bare backbone: {units.difference(objective, gain.mean)} ({ends})")
    if view.cost is not None:
        lines.append(units.counted(view.cost))
    return "<br>".join(lines)


def _staircase(front: Sequence[Point], shape: str) -> go.Scatter:
    steps = sorted((x[0], y[0]) for _, x, y in front)
    return go.Scatter(
        x=[x for x, _ in steps],
        y=[y for _, y in steps],
        mode="lines",
        name="front",
        line={"shape": shape, "color": BLUE, "width": 1.5},
        hoverinfo="skip",
        showlegend=False,
    )


def learning_curves(snapshot: Snapshot) -> go.Figure | None:
    """The primary metric by epochs, one line per run; a cross ends a pruned run."""
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
    """The candidates that are drawn; the important ones come last and lie on top."""
    weight = {view.key: (view.on_front, view.baseline is not None, view.trial) for view in snapshot.candidates}
    views = sorted((view for view in snapshot.candidates if view.scores), key=lambda view: weight[view.key])
    return views[-_MOST_CURVES:]


def _kind(snapshot: Snapshot, view: CandidateView) -> tuple[str, str, float]:
    if snapshot.recommendation is not None and view.key == snapshot.recommendation.key:
        return "recommended", GREEN, 3
    if view.baseline == "none":
        return BARE, RED, 2
    if view.control:
        return "controls", GREY, 1.5
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
    """Curves of one kind as one trace with gaps, because each trace costs the browser time."""
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
    """Each run beside the estimate and its interval: what the candidate gains over the bare backbone; None without gains.

    A run is compared with the bare backbone's run of the same seed; runs without one are left out.
    """
    metric, last = snapshot.primary, len(snapshot.recipe.training.rungs) - 1
    bare = next((view for view in snapshot.candidates if view.baseline == "none"), None)
    if metric is None or bare is None:
        return None
    views = [view for view in snapshot.ordered(snapshot.candidates) if metric in view.gains]
    views = [view for view in views if view.on_front or view.baseline or _repeated(view)][:40]
    if not views:
        return None
    sign = -1.0 if lower_is_better(metric) else 1.0
    level = {p.seed: p.metrics[metric] for p in bare.scores if p.rung == last and metric in p.metrics}
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
            marker={"color": [_kind(snapshot, view)[1] for view in views], "size": 10},
            error_x={**_bars([(g.mean, g.low, g.high) for g in gains]), "color": BLUE, "thickness": 1.5},
            text=[hover(snapshot, view) for view in views],
            hovertemplate="%{text}<extra></extra>",
        )
    )
    figure.add_vline(x=0, line={"width": 1, "color": GREY})
    measure(figure, "x", metric, gain=True)
    figure.update_yaxes(autorange="reversed", type="category")
    return figure


def _repeated(view: CandidateView) -> bool:
    return len({point.seed for point in view.scores if point.rung == view.rung}) > 1


def _runs(points: Iterable[ScorePoint]) -> list[list[ScorePoint]]:
    runs: dict[tuple[str, int], list[ScorePoint]] = {}
    for point in points:
        runs.setdefault((point.purpose, point.seed), []).append(point)
    return list(runs.values())


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
