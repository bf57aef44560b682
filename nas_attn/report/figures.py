"""A snapshot's figures (plotly): the front, learning curves, noise, maps of effects; and as
files.
"""

from __future__ import annotations

import html
import re
import textwrap
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import plotly.graph_objects as go

from nas_attn import tasks
from nas_attn.analysis.effects import Effect, Effects, average_effects
from nas_attn.analysis.facts import Retrained
from nas_attn.analysis.fronts import sign_of
from nas_attn.analysis.snapshot import CandidateView, ScorePoint, Snapshot
from nas_attn.errors import OperationError, UserError, first_line, several, shorten
from nas_attn.paths import user_path
from nas_attn.recipe import lower_is_better, objective_name
from nas_attn.words import units
from nas_attn.words.candidates import candidate_label, objective_with_spread

BLUE = "#2f81d6"
ORANGE = "#e08a00"
GREEN = "#1a9e77"
RED = "#d1495b"
GREY = "#8a919c"


def blank_figure(*, height: int) -> go.Figure:
    """A figure without data; its colours suit a light and a dark page, and the page sets the text's
    colour.
    """
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
    return figure.update_xaxes(**grid).update_yaxes(**grid)


def measure(
    figure: go.Figure,
    axis: Literal["x", "y"],
    objective: str,
    title: str = "",
    *,
    gain: bool = False,
) -> None:
    """Puts an objective on an axis, in its display unit, as values or as gains (positive is
    better).
    """
    unit = units.unit(objective)
    if gain:
        said = f"gain in {units.title(objective)} over the bare backbone"
        title = html.escape(", ".join(filter(None, (said, unit.of_differences))))
        _scale(figure, axis, unit.scale)
    else:
        title = title or html.escape(f"{units.title(objective)} · {units.direction(objective)}")
        if unit is units.SHARE:
            _scale(figure, axis, 100)
            figure.update_layout({f"{axis}axis": {"ticksuffix": " %"}})
    ticks = "+.3~g" if gain else unit.ticks
    figure.update_layout({f"{axis}axis": {"title": {"text": title}, "tickformat": ticks}})


def _scale(figure: go.Figure, axis: Literal["x", "y"], factor: float) -> None:
    """Multiplies the drawn values. Plotly's own format of shares has no space before the percent
    sign.
    """

    def scaled(value: float) -> float:
        return round(factor * float(value), 6)

    for trace in figure.data:
        bars = trace[f"error_{axis}"]
        for holder, name in ((trace, axis), (bars, "array"), (bars, "arrayminus")):
            if holder[name] is not None:
                holder[name] = [None if value is None else scaled(value) for value in holder[name]]
    lines = [(shape, f"{axis}{end}") for shape in figure.layout.shapes for end in (0, 1)]
    for holder, name in [*lines, *((note, axis) for note in figure.layout.annotations)]:
        if holder[f"{axis}ref"] == axis:
            holder[name] = scaled(holder[name])


PALETTE = (
    BLUE,
    ORANGE,
    GREEN,
    RED,
    "#8f6bd1",
    "#3fb8c9",
    "#b8a200",
    "#c76bb0",
    "#7a8f3c",
    "#a06a42",
)
BARE = "bare backbone"
# Letters of a line of a point's hover text
LETTERS = 90
# Learning curves drawn at most; the front, the baselines and the newest go first
_MOST_CURVES = 150
# A value and the ends of its 95 % interval
Ends = tuple[float, float, float]
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
        trace.error_x = {**_bars([x for _, x, _ in points]), **bar}
        trace.error_y = {**_bars([y for _, _, y in points]), **bar}
    return trace


def _bars(ends: Sequence[Ends]) -> dict[str, Any]:
    up = [high - mean for mean, _, high in ends]
    down = [mean - low for mean, low, _ in ends]
    return {"symmetric": False, "array": up, "arrayminus": down}


def hover(snapshot: Snapshot, view: CandidateView) -> str:
    """A candidate in a few lines; the placement can be pasted back."""
    placement = [str(view.placement)]
    if len(placement[0]) > LETTERS:
        placement = textwrap.wrap(
            placement[0], LETTERS, break_long_words=False, break_on_hyphens=False
        )
    lines = [
        f"<b>{html.escape(candidate_label(view))}</b>",
        *(html.escape(line) for line in placement),
    ]
    for index, objective in enumerate(snapshot.objectives):
        lines.append(
            f"{html.escape(objective_name(objective))}:"
            f" {objective_with_spread(snapshot, view, index)}"
        )
        gain = view.gains.get(objective_name(objective))
        if gain is not None:
            ends = units.difference_range(objective, gain.low, gain.high)
            lines.append(
                f"gain over the bare backbone: {units.difference(objective, gain.mean)} ({ends})"
            )
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
        own: dict[tuple[str, int], list[ScorePoint]] = {}
        for point in view.scores:
            if metric in point.metrics:
                own.setdefault((point.purpose, point.seed), []).append(point)
        runs.setdefault(_kind(snapshot, view), []).extend((view, points) for points in own.values())
    runs = {kind: found for kind, found in runs.items() if found}
    if not runs:
        return None
    figure = blank_figure(height=420)
    figure.add_traces([_curves(snapshot, alike, metric, style) for style, alike in runs.items()])
    first = snapshot.recipe.first_seed
    seeds = range(first, first + snapshot.recipe.training.backbones)
    # not fresh
    start = {
        p.seed: p.metrics[metric]
        for p in snapshot.backbone
        if p.seed in seeds and metric in p.metrics
    }
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
    weight = {
        view.key: (view.on_front, view.baseline is not None, view.trial)
        for view in snapshot.candidates
    }
    views = sorted(
        (view for view in snapshot.candidates if view.scores), key=lambda view: weight[view.key]
    )
    return views[-_MOST_CURVES:]


def _kind(snapshot: Snapshot, view: CandidateView) -> tuple[str, str, float]:
    if view.key == snapshot.taken:
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
    texts = list[str]()
    symbols = list[str]()
    for view, points in runs:
        said = hover(snapshot, view)
        for point in points:
            x.append(point.epochs)
            y.append(point.metrics[metric])
            texts.append(
                f"{units.value(metric, point.metrics[metric])} after"
                f" {several(point.epochs, 'epoch')}, seed {point.seed}<br>{said}"
            )
        x.append(None)
        y.append(None)
        texts.append("")
        symbols += [
            *["circle"] * (len(points) - 1),
            "x" if view.state == "pruned" else "circle",
            "circle",
        ]
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
            marker={"color": [_kind(snapshot, view)[1] for view in views], "size": 10},
            error_x={
                **_bars([(g.mean, g.low, g.high) for g in gains]),
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


def retraining_curves(snapshot: Snapshot) -> list[go.Figure]:
    """Two figures: the score on the validation split, and the training loss, by epochs; a line per
    training.
    """
    runs = [run for run in snapshot.retrained if run.curve]
    if not runs:
        return []
    own = tasks.of(snapshot.recipe).metric
    metric = (
        snapshot.primary if all(snapshot.primary in run.curve[-1].metrics for run in runs) else own
    )
    assert metric is not None
    score = blank_figure(height=360)
    loss = blank_figure(height=320)
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


def _line(
    figure: go.Figure, run: Retrained, epochs: list[int], values: list[float | None], colour: str
) -> None:
    text = str(run.placement)
    shown = text if len(text) <= 60 else f"{text[:59]}…"
    # plotly reads a name as markup
    shown = html.escape(shown)
    style = {"color": colour, "width": 2}
    line = go.Scatter(
        x=epochs, y=values, mode="lines+markers", line=style, name=f"{shown}, seed {run.seed}"
    )
    figure.add_trace(line)


GOOD_COLOUR = "rgba(47,129,214,0.7)"
NOTHING = "rgba(128,128,128,0.10)"
BAD = "rgba(224,138,0,0.7)"
"""Colour-blind people can tell blue from orange. Both are translucent, so text on them is
readable.
"""
# With more columns, cells show their numbers only in the hover text
MOST_WRITTEN = 16
# Pixels of a column with numbers
CELL = 78


def effect_maps(snapshot: Snapshot) -> list[tuple[str, go.Figure]]:
    """(metric or `latency`, the map) of the primary metric and the latency, as far as they are
    known.
    """
    asked = [what for what in (snapshot.primary, "latency") if what]
    drawn = [(what, _map_of(snapshot, what)) for what in asked]
    return [(what, figure) for what, figure in drawn if figure is not None]


def _map_of(snapshot: Snapshot, what: str) -> go.Figure | None:
    """The map of effects on a metric or on `latency`; None if they are not known."""
    effects = average_effects(snapshot, what)
    return effect_map(effects) if effects is not None and effects.at("choice") else None


def effect_map(effects: Effects) -> go.Figure:
    """Sites down, choices across; a cell has the effect and half of its 95 % interval, bold where
    the interval excludes zero.
    """
    rows = effects.at("choice")
    names = column_names(rows)
    sites = sorted(
        {row.site for row in rows},
        key=lambda site: ([int(d) for d in re.findall(r"\d+", site)], site),
    )
    columns = sorted({names[row.site, row.name] for row in rows})
    cells = {(row.site, names[row.site, row.name]): row for row in rows}
    scale = units.unit(effects.of).scale
    most = max(abs(row.mean) for row in rows) * scale or 1.0
    written = len(columns) <= MOST_WRITTEN
    low, high = (GOOD_COLOUR, BAD) if effects.of == "latency" else (BAD, GOOD_COLOUR)
    unit = units.unit(effects.of).of_differences or html.escape(effects.of)
    unit = "% of<br>latency" if effects.of == "latency" else unit
    figure = blank_figure(height=max(220, 54 * len(sites) + 150))

    def each(of: str) -> list[list[str]]:
        made = {"cell": _cell, "hover": _hover_cell}[of]
        return [
            [
                made(effects.of, cells[site, column]) if (site, column) in cells else ""
                for column in columns
            ]
            for site in sites
        ]

    figure.add_trace(
        go.Heatmap(
            z=[
                [scale * cells[s, c].mean if (s, c) in cells else None for c in columns]
                for s in sites
            ],
            x=[html.escape(column) for column in columns],
            y=sites,
            text=each("cell") if written else None,
            texttemplate="%{text}" if written else None,
            hovertext=each("hover"),
            hovertemplate="%{hovertext}<extra></extra>",
            colorscale=[(0.0, low), (0.5, NOTHING), (1.0, high)],
            zmid=0,
            zmin=-most,
            zmax=most,
            xgap=3,
            ygap=3,
            hoverongaps=False,
            colorbar={
                "thickness": 12,
                "outlinewidth": 0,
                "tickformat": "+.3~g",
                "title": {"text": unit},
            },
        )
    )
    figure.update_xaxes(
        type="category", showgrid=False, tickangle=0 if written else -60, side="top"
    )
    figure.update_yaxes(type="category", showgrid=False, autorange="reversed")
    figure.update_layout(
        margin_t=70, margin_b=20, meta={"width": 140 + (CELL if written else 26) * len(columns)}
    )
    return figure


def column_names(rows: Sequence[Effect]) -> Mapping[tuple[str, str], str]:
    """(site, choice) -> name of its column: the type, with the knobs that differ at one site
    (others depend on the channels).
    """
    values: defaultdict[tuple[str, str, str], set[str]] = defaultdict(set)
    for row in rows:
        for knob, value in _knobs(row).items():
            values[row.site, row.type, knob].add(value)
    differ = {(kind, knob) for (_, kind, knob), known in values.items() if len(known) > 1}
    found = {}
    for row in rows:
        kept = ", ".join(
            f"{knob}={value}" for knob, value in _knobs(row).items() if (row.type, knob) in differ
        )
        found[row.site, row.name] = f"{row.type}({kept})" if kept else row.type
    taken = defaultdict(set)
    for (site, name), column in found.items():
        taken[site, column].add(name)
    clash = {column for (_, column), several in taken.items() if len(several) > 1}
    return {key: key[1] if column in clash else column for key, column in found.items()}


def described(of: str, effects: Effects) -> str:
    """A map in one or two sentences, for screen readers."""
    rows = effects.at("choice")
    sure = sorted((row for row in rows if row.sure), key=lambda row: -abs(row.mean))
    said = "; ".join(
        f"{row.name} at {row.site} {units.plus_minus(of, row.mean, row.half)}" for row in sure[:5]
    )
    head = (
        f"Map of effects on {units.title(of)}: {len(rows)} choices at"
        f" {len({row.site for row in rows})} sites."
    )
    return (
        f"{head} Certainly different from zero: {said}."
        if said
        else f"{head} None is certainly different from zero."
    )


def _knobs(row: Effect) -> dict[str, str]:
    pairs = (piece.partition("=") for piece in row.knobs.split(",") if piece)
    return {knob.strip(): value.strip() for knob, _, value in pairs}


def _cell(of: str, row: Effect) -> str:
    shown = units.bare_plus_minus(of, row.mean, row.half).replace(" ±", "<br>±")
    return f"<b>{shown}</b>" if row.sure else shown


def _hover_cell(of: str, row: Effect) -> str:
    between = units.difference_range(of, row.low, row.high)
    return "<br>".join(
        (
            f"<b>{html.escape(f'{row.site} = {row.name}')}</b>",
            f"{html.escape(units.title(of))}: {units.difference(of, row.mean)} (95 %: {between})",
            f"helps with a probability of {units.probability(row.better)}",
            (
                f"{row.observations} candidates have it, {row.elsewhere} more have this type at"
                " another site"
            ),
        )
    )


FORMATS = ("svg", "pdf", "png")
# Pixels; a PNG has twice as many
PIXELS = 900


@dataclass(frozen=True, slots=True)
class FigureKind:
    """A kind of figure that a study may have; a row of `KINDS`."""

    name: str
    """Of its file and its artifact; a further figure of the kind has a number or a name of its own
    after it.
    """
    title: str
    """Shown above it where the page has no heading for it."""
    draw: Callable[[Snapshot], Mapping[str, go.Figure]]
    """Snapshot -> the figures that the study has, each by what follows the name: `""`, `2`,
    `accuracy`; none where nothing is known yet.
    """


@dataclass(frozen=True, slots=True)
class Drawn:
    """A figure of a study."""

    title: str
    figure: go.Figure


def _fronts(snapshot: Snapshot) -> dict[str, go.Figure]:
    return {
        "" if number == 1 else str(number): figure
        for number, figure in enumerate(front_figures(snapshot), 1)
    }


def _map_of_the_metric(snapshot: Snapshot) -> dict[str, go.Figure]:
    metric = snapshot.primary
    figure = None if metric is None else _map_of(snapshot, metric)
    if metric is None or figure is None:
        return {}
    # A metric's own name may hold anything, and this becomes the name of a file.
    return {re.sub("[^A-Za-z0-9_-]", "_", metric): figure}


def _retrained(snapshot: Snapshot) -> dict[str, go.Figure]:
    return {str(number): figure for number, figure in enumerate(retraining_curves(snapshot), 1)}


def _one(
    draw: Callable[[Snapshot], go.Figure | None],
) -> Callable[[Snapshot], dict[str, go.Figure]]:
    """The figures of a kind of which a study has one or none."""

    def figures(snapshot: Snapshot) -> dict[str, go.Figure]:
        figure = draw(snapshot)
        return {} if figure is None else {"": figure}

    return figures


KINDS = (
    FigureKind("front", "Front and baselines, as estimated now", _fronts),
    FigureKind("curves", "Learning curves", _one(learning_curves)),
    FigureKind("effects", "What each choice adds at each site", _map_of_the_metric),
    FigureKind(
        "effects-latency",
        "What each choice adds to the latency at each site, % of the backbone's",
        _one(lambda snapshot: _map_of(snapshot, "latency")),
    ),
    FigureKind("noise", "Each candidate's runs next to its estimate", _one(noise_figure)),
    FigureKind("retrained", "Trained for use", _retrained),
)
"""All kinds of figure: a new one is a row here."""


def drawn_figures(snapshot: Snapshot) -> dict[str, Drawn]:
    """Name -> figure with its title, as far as the study has them: `front`, `effects-accuracy`,
    `effects-latency`, `curves`, `noise` …
    """
    found: dict[str, Drawn] = {}
    for kind in KINDS:
        for rest, figure in kind.draw(snapshot).items():
            name = f"{kind.name}-{rest}" if rest else kind.name
            found[name] = Drawn(kind.title, figure)
    return found


def all_figures(snapshot: Snapshot) -> dict[str, go.Figure]:
    """Name -> figure, as `drawn_figures`."""
    return {name: drawn.figure for name, drawn in drawn_figures(snapshot).items()}


def write_figures(drawn: Mapping[str, go.Figure], folder: Path, format_: str) -> list[Path]:
    """Writes each figure on white as NAME.svg (or .png, .pdf), and replaces existing files.

    UserError: unknown format, or no kaleido. OperationError: no Chromium, or the files cannot be
        written.
    """
    if format_ not in FORMATS:
        raise UserError(
            f"figures cannot be written as '{shorten(format_)}': give {', '.join(FORMATS)}"
        )
    try:
        import kaleido  # noqa: F401 - plotly needs it
    except ImportError:
        raise UserError(
            "figures as files need kaleido, which is not installed: pip install 'nas-attn[figures]'"
        ) from None
    place = user_path(folder, what="folder for figures", error=UserError)
    written = []
    try:
        place.mkdir(parents=True, exist_ok=True)
        for name, figure in drawn.items():
            path = place / f"{name}.{format_}"
            paper = go.Figure(figure).update_layout(
                paper_bgcolor="white", plot_bgcolor="white", font_color="#333"
            )
            paper.update_traces(textfont_color="#222", selector={"type": "heatmap"})
            paper.write_image(
                path, width=PIXELS, height=figure.layout.height, scale=2 if format_ == "png" else 1
            )
            written.append(path)
    except OSError as error:
        raise OperationError(f"figures cannot be written to '{place}': {error}") from None
    except Exception as error:
        # kaleido's own, for a browser that is missing or does not answer
        first = first_line(error)
        raise OperationError(
            f"Chrome or Chromium, which draws figures, did not work ({shorten(first)}): install"
            " one, or name it in BROWSER_PATH"
        ) from error
    return written
