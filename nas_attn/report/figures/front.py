"""The front: the first objective against each other one."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import plotly.graph_objects as go

from nas_attn.answer.answer import Answer
from nas_attn.answer.candidates import front_in_words, short_name, short_names
from nas_attn.answer.snapshot import CandidateView, Means, Snapshot
from nas_attn.errors import several
from nas_attn.recipe import units
from nas_attn.recipe.recipe import lower_is_better, objective_name
from nas_attn.report.figures.drawing import (
    BARE_LABEL,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    Ends,
    Range,
    Told,
    blank_figure,
    error_bars,
    factor,
    hover,
    measure,
    padded,
    tell,
)

# Pixels, without the title
FRONT_HEIGHT = 460
# Pixels across the ring around the recommended
RING = 22
# Names beside points at most; the others are read by pointing, and in the table
FRONT_NAMES = 4
# A name that is nearer to another one, as shares of both axes, is left out
NEAR = (0.35, 0.06)


@dataclass(frozen=True, slots=True)
class FrontPoint:
    """A candidate where it is drawn, with the ends of both intervals."""

    view: CandidateView
    x: Ends
    y: Ends


@dataclass(frozen=True, slots=True)
class PointGroup:
    """Points that look alike."""

    name: str
    colour: str
    symbol: str
    size: int
    bars: bool = True
    # A group whose points all have names beside them needs no entry
    in_legend: bool = True


SEARCHED = PointGroup("searched", GREY, "circle", 7, bars=False)
UNIFORM = PointGroup("same everywhere", ORANGE, "diamond", 10)
OTHER = PointGroup("another network", GREY, "x", 9)
OTHER_ON_FRONT = PointGroup("another network, on the front", BLUE, "x", 11)
FRONT_POINTS = PointGroup("front", BLUE, "circle", 11)
BARE_GROUP = PointGroup(BARE_LABEL, RED, "square", 11, in_legend=False)


def front_figures(answer: Answer, *, absolute: bool = False) -> list[go.Figure]:
    """The first objective against each other one (against the trial's number if there is only one);
    metrics as gains over the bare backbone, or as they are (`absolute`).
    """
    objectives = len(answer.now.objectives)
    others = range(1, objectives) if objectives > 1 else [None]
    return [_front(answer, other, absolute) for other in others]


def _front(answer: Answer, other: int | None, absolute: bool) -> go.Figure:
    snapshot = answer.now
    points = _points(snapshot, other, absolute)
    figure = blank_figure(height=FRONT_HEIGHT)
    if other is not None and len(snapshot.objectives) == 2:
        x_gains = not absolute and snapshot.compared(snapshot.objectives[other])
        falls = lower_is_better(snapshot.objectives[other]) and not x_gains
        on_front = [point for point in points if point.view.on_front]
        figure.add_trace(_staircase(on_front, "hv" if falls else "vh"))
    for group, members in _grouped(points).items():
        if members:
            figure.add_trace(_trace(snapshot, group, members))
    _name(answer, figure, points)
    _measure_axis(snapshot, figure, "y", 0, absolute)
    if other is None:
        figure.update_xaxes(title_text="trial")
    else:
        _measure_axis(snapshot, figure, "x", other, absolute)
    message = front_in_words(snapshot) if absolute else front_message(answer)
    how = "A point is a candidate, with its 95 % interval; the line is the front."
    return tell(figure, Told(message, how))


def front_message(answer: Answer) -> str:
    """Who gains most and what that costs, or that no gain is shown."""
    now = answer.now
    metric = now.primary
    views = [v for v in now.candidates if v.state == "scored" and metric in v.gains]
    if metric is None or not views or objective_name(now.objectives[0]) != metric:
        count = len(now.front)
        verb = "is" if count == 1 else "are"
        return (
            f"{count} of {several(now.counts['scored'], 'scored candidate')} {verb} on the front."
        )
    worse = sum(view.gains[metric].high < 0 for view in views)
    if worse == len(views):
        return "Every candidate is worse than the bare backbone."
    better = [view for view in views if view.gains[metric].low > 0]
    if not better:
        lose = f"; {worse} of {len(views)} {'loses' if worse == 1 else 'lose'}" if worse else ""
        return f"No candidate is shown to gain: what looks like one may be chance{lose}."
    most = max(better, key=lambda view: view.gains[metric].mean)
    gains_most = f"{short_name(most)} gains most: {_gain_at(metric, most)}."
    so_far = "" if now.brief is None else "So far "
    taken = next((view for view in better if view.key == answer.taken_key), None)
    if taken is None or taken is most:
        message = _begun(f"{so_far}{gains_most}")
        bare = now.find(answer.taken_key or "")
        if bare is not None and bare.is_bare:
            keeps = "keeps the bare backbone"
            if answer.means is Means.LONGER:
                keeps = "trains the bare backbone longer"
            return f"{message} The answer {keeps}."
        return message
    recommended = f"{'So far r' if so_far else 'R'}ecommended: {short_name(taken)}"
    message = f"{recommended}, {_gain_at(metric, taken)}."
    if taken.gains[metric].high >= most.gains[metric].mean:
        return f"{message} None is shown to gain more."
    return f"{message} {_begun(gains_most)}"


def _begun(sentence: str) -> str:
    """A sentence with a capital at its beginning, but for a module's name, which is code."""
    return f"T{sentence[1:]}" if sentence.startswith("trial ") else sentence


def _gain_at(metric: str, view: CandidateView) -> str:
    """`+2.82 ± 0.68 points at 1.59 × latency`."""
    gain = view.gains[metric]
    size = units.plus_minus(metric, gain.mean, (gain.high - gain.low) / 2)
    return size if view.latency is None else f"{size} at {view.latency.ratio:.2f} × latency"


def _points(snapshot: Snapshot, other: int | None, absolute: bool) -> list[FrontPoint]:
    points = []
    for view in snapshot.candidates:
        x = _ends(snapshot, view, other, absolute)
        y = _ends(snapshot, view, 0, absolute)
        if view.state == "scored" and x is not None and y is not None:
            points.append(FrontPoint(view, x, y))
    return points


def _ends(
    snapshot: Snapshot, view: CandidateView, index: int | None, absolute: bool
) -> Ends | None:
    """A candidate's value of an objective, as it is drawn; None if unknown. Without an objective:
    its trial.
    """
    if index is None:
        return (float(view.trial),) * 3
    objective = snapshot.objectives[index]
    name = objective_name(objective)
    compared = not absolute and snapshot.compared(objective)
    by = factor(objective, gain=compared)
    if compared:
        gain = view.gains.get(name)
        if gain is not None:
            return by * gain.mean, by * gain.low, by * gain.high
        return (0.0, 0.0, 0.0) if view.is_bare else None
    value = view.values[index]
    if value is None:
        return None
    if objective == "latency" and view.latency is not None:
        return value, view.latency.low, view.latency.high
    estimate = view.estimates.get(name)
    if estimate is None:
        return (by * value,) * 3
    return by * value, by * estimate.low, by * estimate.high


def _grouped(points: Sequence[FrontPoint]) -> Mapping[PointGroup, Sequence[FrontPoint]]:
    """What lies above comes last."""
    groups: dict[PointGroup, list[FrontPoint]] = {
        group: [] for group in (SEARCHED, UNIFORM, OTHER, OTHER_ON_FRONT, FRONT_POINTS, BARE_GROUP)
    }
    for point in points:
        groups[_group_of(point.view)].append(point)
    return groups


def _group_of(view: CandidateView) -> PointGroup:
    if view.control:
        return OTHER_ON_FRONT if view.on_front else OTHER
    if view.is_bare:
        return BARE_GROUP
    if view.baseline is not None:
        return UNIFORM
    return FRONT_POINTS if view.on_front else SEARCHED


def _measure_axis(
    snapshot: Snapshot, figure: go.Figure, axis: Literal["x", "y"], index: int, absolute: bool
) -> None:
    objective = snapshot.objectives[index]
    measure(figure, axis, objective, gain=not absolute and snapshot.compared(objective))


def _trace(snapshot: Snapshot, group: PointGroup, points: Sequence[FrontPoint]) -> go.Scatter:
    trace = go.Scatter(
        x=[point.x[0] for point in points],
        y=[point.y[0] for point in points],
        mode="markers",
        name=group.name,
        marker={"color": group.colour, "symbol": group.symbol, "size": group.size},
        text=[hover(snapshot, point.view) for point in points],
        customdata=[str(point.view.placement) for point in points],
        hovertemplate="%{text}<extra></extra>",
        showlegend=group.in_legend,
    )
    if group.bars:
        bar: dict[str, Any] = {"color": group.colour, "thickness": 1, "width": 3}
        trace.error_x = {**error_bars([point.x for point in points]), **bar}
        trace.error_y = {**error_bars([point.y for point in points]), **bar}
    return trace


def _staircase(front: Sequence[FrontPoint], shape: str) -> go.Scatter:
    steps = sorted((point.x[0], point.y[0]) for point in front)
    return go.Scatter(
        x=[x for x, _ in steps],
        y=[y for _, y in steps],
        mode="lines",
        name="front",
        line={"shape": shape, "color": BLUE, "width": 1.5},
        hoverinfo="skip",
        showlegend=False,
    )


def _name(answer: Answer, figure: go.Figure, points: Sequence[FrontPoint]) -> None:
    """A ring around the recommended, and names beside those that the figure is about."""
    chosen = [point for point in points if point.view.key == answer.taken_key]
    if chosen:
        ring = replace(
            FRONT_POINTS, name="recommended", colour=GREEN, symbol="circle-open", size=RING
        )
        trace = _trace(answer.now, replace(ring, bars=False), chosen)
        trace.update(marker_line_width=3, hoverinfo="skip", hovertemplate=None)
        figure.add_trace(trace)
    x = padded([end for point in points for end in _shown_ends(point, point.x)])
    y = padded([end for point in points for end in _shown_ends(point, point.y)])
    figure.update_xaxes(range=x)
    figure.update_yaxes(range=y)
    named: list[FrontPoint] = []
    for point in sorted(points, key=lambda point: _importance(answer, point.view)):
        near = any(_near(point.x, one.x, x, 0) and _near(point.y, one.y, y, 1) for one in named)
        if not near and len(named) < FRONT_NAMES and _group_of(point.view) is not SEARCHED:
            named.append(point)
    names = short_names([point.view for point in named])
    middle = sum(x) / 2
    texts = go.Scatter(
        x=[point.x[0] for point in named],
        y=[point.y[0] for point in named],
        text=[html.escape(names[point.view.key]) for point in named],
        # towards the middle, where there is room; on a phone, names from both sides may meet there
        textposition=["top right" if point.x[0] < middle else "bottom left" for point in named],
        mode="markers+text",
        # an invisible point keeps the name at its distance
        marker={"size": RING, "opacity": 0},
        textfont={"size": 12},
        hoverinfo="skip",
        showlegend=False,
        cliponaxis=False,
        name="names",
    )
    figure.add_trace(texts)


def _near(one: Ends, other: Ends, limits: Range, axis: int) -> bool:
    return abs(one[0] - other[0]) < NEAR[axis] * (limits[1] - limits[0])


def _shown_ends(point: FrontPoint, ends: Ends) -> Ends:
    """Those of its interval, if that is drawn."""
    return ends if _group_of(point.view).bars else (ends[0],) * 3


def _importance(answer: Answer, view: CandidateView) -> tuple[int, int]:
    """The recommended one first, then bare, front, controls, the other baselines."""
    if view.key == answer.taken_key:
        return 0, view.trial
    if view.is_bare:
        return 1, view.trial
    if view.on_front:
        return 2, view.trial
    return (3 if view.control else 4), view.trial
