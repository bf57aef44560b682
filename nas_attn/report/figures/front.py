"""The front: the first objective against each other one."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from nas_attn.answer.answer import Answer
from nas_attn.answer.candidates import short_name, short_names
from nas_attn.answer.snapshot import CandidateView, Snapshot
from nas_attn.errors import several
from nas_attn.recipe import units
from nas_attn.recipe.recipe import lower_is_better, objective_name
from nas_attn.report.columns import Role, role
from nas_attn.report.figures.style import STYLES, blank_figure, factor, hover, measure, tell

# Pixels, without the title
FRONT_HEIGHT = 460
# A value and the ends of its 95 % interval
Ends = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class FrontPoint:
    """A candidate where it is drawn, with the ends of both intervals."""

    view: CandidateView
    x: Ends
    y: Ends


def front_figures(answer: Answer) -> list[go.Figure]:
    """The first objective against each other one (against the trial's number if there is only one);
    metrics as gains over the bare backbone, where they are known.
    """
    others = answer.now.objectives[1:] or (None,)
    return [_front(answer, other) for other in others]


def _front(answer: Answer, other: str | None) -> go.Figure:
    now = answer.now
    first = now.objectives[0]
    figure = blank_figure(height=FRONT_HEIGHT)
    measure(figure, "y", first, gain=now.compared(first))
    figure.update_xaxes(title_text="trial")
    points = _points(now, other)
    if other is not None:
        gains = now.compared(other)
        measure(figure, "x", other, gain=gains)
        if len(now.objectives) == 2:
            falls = lower_is_better(other) and not gains
            figure.add_trace(_staircase(points, "hv" if falls else "vh"))
    roles: dict[Role, list[FrontPoint]] = {one: [] for one in STYLES}
    for point in points:
        roles[role(answer, point.view)].append(point)
    names = _names(answer, points)
    places = [point.x[0] for point in points]
    for of, members in roles.items():
        if members:
            middle = (min(places) + max(places)) / 2
            figure.add_trace(_trace(answer, of, members, names, middle))
    how = "A point is a candidate, with its 95 % interval; the line is the front."
    return tell(figure, front_message(answer), how)


def front_message(answer: Answer) -> str:
    """What is recommended, or who gains most; or that no gain is shown."""
    now = answer.now
    metric = now.primary or ""
    views = [v for v in now.candidates if v.state == "scored" and metric in v.gains]
    if not views:
        scored = several(now.counts["scored"], "scored candidate")
        return f"Of {scored}, {len(now.front)} on the front."
    taken = now.find(answer.taken_key or "")
    better = [view for view in views if view.gains[metric].low > 0]
    if taken is not None and metric in taken.gains:
        shown = taken
        said = f"Recommended: {short_name(taken)}, "
    elif better:
        shown = max(better, key=lambda view: view.gains[metric].mean)
        said = f"{short_name(shown)} gains most, "
    else:
        return "No candidate is shown to gain: what else looks like it may be chance."
    gain = shown.gains[metric]
    said += units.plus_minus(metric, gain.mean, (gain.high - gain.low) / 2)
    at = "" if shown.latency is None else f" at {units.times(shown.latency.ratio)} latency"
    return f"{said}{at}."


def _points(now: Snapshot, other: str | None) -> list[FrontPoint]:
    points = []
    for view in now.candidates:
        x = (float(view.trial),) * 3 if other is None else _ends(now, view, other)
        y = _ends(now, view, now.objectives[0])
        if view.state == "scored" and x is not None and y is not None:
            points.append(FrontPoint(view, x, y))
    return points


def _ends(now: Snapshot, view: CandidateView, objective: str) -> Ends | None:
    """A candidate's value of an objective, as it is drawn; None if unknown."""
    name = objective_name(objective)
    compared = now.compared(objective)
    value = view.values[now.objectives.index(objective)]
    if compared:
        of: Any = view.gains.get(name)
        value = 0.0 if view.is_bare else of and of.mean
    else:
        of = view.latency if objective == "latency" else view.estimates.get(name)
    if value is None:
        return None
    by = factor(objective, gain=compared)
    return (by * value,) * 3 if of is None else (by * value, by * of.low, by * of.high)


def _trace(
    answer: Answer,
    of: Role,
    points: Sequence[FrontPoint],
    names: Mapping[str, str],
    middle: float,
) -> go.Scatter:
    """The points of a role. Names are written towards the middle, so that none leaves a narrow
    figure.
    """
    style = STYLES[of]
    trace = go.Scatter(
        x=[point.x[0] for point in points],
        y=[point.y[0] for point in points],
        mode="markers+text",
        name=of,
        marker={"color": style.colour, "symbol": style.symbol, "size": style.size},
        text=[html.escape(names.get(point.view.key, "")) for point in points],
        textposition=["top right" if point.x[0] < middle else "top left" for point in points],
        textfont={"size": 12},
        cliponaxis=False,
        hovertext=[hover(answer, point.view) for point in points],
        customdata=[str(point.view.placement) for point in points],
        hovertemplate="%{hovertext}<extra></extra>",
    )
    if of is not Role.SEARCHED:
        trace.error_x = _bars([point.x for point in points], style.colour)
        trace.error_y = _bars([point.y for point in points], style.colour)
    return trace


def _bars(ends: Sequence[Ends], colour: str) -> dict[str, Any]:
    return {
        "symmetric": False,
        "array": [high - mean for mean, _, high in ends],
        "arrayminus": [mean - low for mean, low, _ in ends],
        "color": colour,
        "thickness": 1,
        "width": 3,
    }


def _staircase(points: Sequence[FrontPoint], shape: str) -> go.Scatter:
    steps = sorted((point.x[0], point.y[0]) for point in points if point.view.on_front)
    return go.Scatter(
        x=[x for x, _ in steps],
        y=[y for _, y in steps],
        mode="lines",
        line={"shape": shape, "color": STYLES[Role.FRONT].colour, "width": 1.5},
        hoverinfo="skip",
        showlegend=False,
    )


def _names(answer: Answer, points: Sequence[FrontPoint]) -> dict[str, str]:
    """Key -> name, of the recommended, the bare backbone and both ends of the front; the others are
    read by pointing, and in the table.
    """
    front = sorted((p for p in points if p.view.on_front), key=lambda point: point.x[0])
    ends = {point.view.key for point in (*front[:1], *front[-1:])}
    return short_names(
        [
            p.view
            for p in points
            if p.view.key in ends or role(answer, p.view) in (Role.RECOMMENDED, Role.BARE)
        ]
    )
