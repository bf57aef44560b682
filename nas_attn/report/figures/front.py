"""The front: the first objective against each other one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import plotly.graph_objects as go

from nas_attn.analysis.snapshot import CandidateView, Snapshot
from nas_attn.recipe import lower_is_better, objective_name
from nas_attn.report.figures.drawing import (
    BARE,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    Ends,
    blank_figure,
    error_bars,
    hover,
    measure,
)

# A candidate with its x and y
Point = tuple[CandidateView, Ends, Ends]


def front_figures(snapshot: Snapshot, *, absolute: bool = False) -> list[go.Figure]:
    """The first objective against each other one (against the trial's number if there is only one);
    metrics as gains over the bare backbone, or as they are (`absolute`).
    """
    others = range(1, len(snapshot.objectives)) if len(snapshot.objectives) > 1 else [None]
    return [_front(snapshot, other, absolute) for other in others]


def _ends(snapshot: Snapshot, view: CandidateView, index: int, absolute: bool) -> Ends | None:
    """A candidate's value of an objective, as it is drawn; None if unknown."""
    objective = snapshot.objectives[index]
    value = view.values[index]
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


def _front(snapshot: Snapshot, other: int | None, absolute: bool) -> go.Figure:
    figure = blank_figure(height=460)
    points: list[Point] = []
    for view in snapshot.candidates:
        x: Ends | None = (
            (view.trial,) * 3 if other is None else _ends(snapshot, view, other, absolute)
        )
        y = _ends(snapshot, view, 0, absolute)
        if view.state == "scored" and x is not None and y is not None:
            points.append((view, x, y))
    others = [point for point in points if not point[0].control]
    groups = (
        (
            "searched",
            [p for p in others if p[0].baseline is None and not p[0].on_front],
            GREY,
            "circle",
            7,
            False,
        ),
        (
            "uniform baselines",
            [p for p in others if p[0].baseline not in (None, "none")],
            ORANGE,
            "diamond",
            10,
            True,
        ),
        ("controls without attention", [p for p in points if p[0].control], GREY, "x", 9, True),
        (
            "front",
            [p for p in points if p[0].on_front and p[0].baseline is None],
            BLUE,
            "circle",
            11,
            True,
        ),
        (BARE, [p for p in points if p[0].baseline == "none"], RED, "square", 11, True),
    )
    if other is not None and len(snapshot.objectives) == 2:
        x_gains = not absolute and snapshot.compared(snapshot.objectives[other])
        falls = lower_is_better(snapshot.objectives[other]) and not x_gains
        figure.add_trace(_staircase([p for p in points if p[0].on_front], "hv" if falls else "vh"))
    for name, group, colour, symbol, size, bars in groups:
        if group:
            figure.add_trace(_points(snapshot, group, name, colour, symbol, size, bars))
    chosen = [p for p in points if p[0].key == snapshot.taken]
    if chosen:
        ring = _points(snapshot, chosen, "recommended", GREEN, "circle-open", 22, False)
        figure.add_trace(ring.update(marker_line_width=3, hoverinfo="skip", hovertemplate=None))
    _measure_axis(snapshot, figure, "y", 0, absolute)
    if other is None:
        figure.update_xaxes(title="trial")
    else:
        _measure_axis(snapshot, figure, "x", other, absolute)
    return figure


def _measure_axis(
    snapshot: Snapshot, figure: go.Figure, axis: Literal["x", "y"], index: int, absolute: bool
) -> None:
    objective = snapshot.objectives[index]
    measure(figure, axis, objective, gain=not absolute and snapshot.compared(objective))


def _points(
    snapshot: Snapshot,
    points: Sequence[Point],
    name: str,
    colour: str,
    symbol: str,
    size: int,
    bars: bool,
) -> go.Scatter:
    trace = go.Scatter(
        x=[x[0] for _, x, _ in points],
        y=[y[0] for _, _, y in points],
        mode="markers",
        name=name,
        marker={"color": colour, "symbol": symbol, "size": size},
        text=[hover(snapshot, view) for view, _, _ in points],
        customdata=[str(view.placement) for view, _, _ in points],
        hovertemplate="%{text}<extra></extra>",
    )
    if bars:
        bar = {"color": colour, "thickness": 1, "width": 3}
        trace.error_x = {**error_bars([x for _, x, _ in points]), **bar}
        trace.error_y = {**error_bars([y for _, _, y in points]), **bar}
    return trace


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
