"""Each candidate's runs next to its estimate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from nas_attn.answer.snapshot import CandidateView, ScorePoint, Snapshot
from nas_attn.model import Gain
from nas_attn.recipe import units
from nas_attn.report.figure_facts import facts_of_gains, gains_of_runs, is_sure
from nas_attn.report.figures.drawing import (
    BLUE,
    GREY,
    ORANGE,
    Told,
    blank_figure,
    broken,
    error_bars,
    factor,
    hover,
    measure,
    tell,
)
from nas_attn.report.messages import HOW_NOISE, MAY_BE_CHANCE, noise_message, short_names

# Candidates at most, the best first
MOST_ROWS = 40
# Letters of a line of a candidate's name beside the axis
NOISE_NAME_LETTERS = 16


@dataclass(frozen=True, slots=True)
class RunGain:
    """A run against the bare backbone's run of the same seed; `row`: of its candidate."""

    row: int
    view: CandidateView
    point: ScorePoint
    gain: float


def noise_figure(snapshot: Snapshot) -> go.Figure | None:
    """Each run's gain over the bare backbone's run of the same seed, beside the candidate's
    estimate; None without gains.
    """
    metric = snapshot.primary
    if metric is None:
        return None
    views = _views(snapshot, metric)
    if not views:
        return None
    by = factor(metric, gain=True)
    runs = _run_gains(snapshot, metric, views)
    figure = blank_figure(height=max(240, 36 * len(views) + 130))
    figure.add_trace(
        go.Scatter(
            x=[by * run.gain for run in runs],
            y=[run.row for run in runs],
            mode="markers",
            name="one run",
            marker={"color": GREY, "size": 8, "symbol": "line-ns-open", "line": {"width": 2}},
            text=[
                f"{units.difference(metric, run.gain)}<br>{hover(snapshot, run.view)}"
                f"<br>seed {run.point.seed}"
                for run in runs
            ],
            hovertemplate="%{text}<extra></extra>",
        )
    )
    for kind, colour in (("better", BLUE), ("worse", ORANGE), (MAY_BE_CHANCE, GREY)):
        rows = [row for row, view in enumerate(views) if _kind(view.gains[metric]) == kind]
        if rows:
            figure.add_trace(_estimates(snapshot, metric, views, rows, (kind, colour)))
    figure.add_vline(x=0, line={"width": 1, "color": GREY})
    measure(figure, "x", metric, gain=True)
    names = short_names(views)
    figure.update_yaxes(
        range=(len(views) - 0.4, -0.6),
        tickvals=list(range(len(views))),
        tickfont_size=12,
        ticktext=[broken(names[view.key], NOISE_NAME_LETTERS) for view in views],
    )
    return tell(figure, Told(noise_message(facts_of_gains(snapshot, metric, views)), HOW_NOISE))


def _views(snapshot: Snapshot, metric: str) -> list[CandidateView]:
    """Those of the front, the baselines, and what ran more than once."""
    if not any(view.is_bare for view in snapshot.candidates):
        return []
    views = []
    for view in snapshot.ordered(snapshot.candidates):
        seeds = {point.seed for point in view.scores if point.rung == view.rung}
        shown = view.on_front or view.baseline is not None or len(seeds) > 1
        if metric in view.gains and shown:
            views.append(view)
    return views[:MOST_ROWS]


def _run_gains(snapshot: Snapshot, metric: str, views: Sequence[CandidateView]) -> list[RunGain]:
    runs = []
    for row, view in enumerate(views):
        for point, gain in gains_of_runs(snapshot, metric, view):
            runs.append(RunGain(row, view, point, gain))
    return runs


def _kind(gain: Gain) -> str:
    if not is_sure(gain):
        return MAY_BE_CHANCE
    return "better" if gain.mean > 0 else "worse"


def _estimates(
    snapshot: Snapshot,
    metric: str,
    views: Sequence[CandidateView],
    rows: Sequence[int],
    look: tuple[str, str],
) -> go.Scatter:
    """The estimates of one kind. `look`: its name and colour."""
    by = factor(metric, gain=True)
    gains = [views[row].gains[metric] for row in rows]
    ends = [(by * gain.mean, by * gain.low, by * gain.high) for gain in gains]
    return go.Scatter(
        x=[mean for mean, _, _ in ends],
        y=list(rows),
        mode="markers",
        name=look[0],
        marker={"color": look[1], "size": 10},
        error_x={**error_bars(ends), "color": look[1], "thickness": 1.5},
        text=[hover(snapshot, views[row]) for row in rows],
        hovertemplate="%{text}<extra></extra>",
    )
