"""A study's results as plain rows: for pandas, for whoever computes with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

from nas_attn.analysis.effects import fit_effects
from nas_attn.analysis.snapshot import CandidateView, Snapshot
from nas_attn.errors import UserError, did_you_mean
from nas_attn.recipe import objective_name
from nas_attn.tables import counted_costs, is_cost

Row = dict[str, Any]
_LATENCY = ("latency_low", "latency_high", "latency_ms", "latency_measured")


def rows(snapshot: Snapshot, what: str) -> list[Row]:
    """A list of equal rows; numbers are numbers, what is not known is None.

    Args:
        what: a key of FRAMES.

    Raises:
        UserError: the table does not exist.
    """
    if what not in FRAMES:
        raise UserError(f"unknown table '{what}': {did_you_mean(what, FRAMES)}")
    return FRAMES[what](snapshot)


def _trials(snapshot: Snapshot) -> list[Row]:
    """A row a candidate, by trial."""
    return [_candidate(snapshot, view) for view in snapshot.candidates]


def _front(snapshot: Snapshot) -> list[Row]:
    """The members of the front, the best in the first objective first."""
    return [_candidate(snapshot, view) for view in snapshot.front]


def _candidate(snapshot: Snapshot, view: CandidateView) -> Row:
    row: Row = {"trial": view.trial, "placement": view.placement, "state": view.state, "baseline": view.baseline}
    for objective, value in zip(snapshot.objectives, view.values, strict=True):
        name, latency = objective_name(objective), view.latency
        row[name] = value
        if objective == "latency":
            times = (latency.low, latency.high, latency.ms, latency.measured) if latency else (None,) * 4
            row |= dict(zip(_LATENCY, times, strict=True))
        elif not is_cost(name):
            estimate, gain = view.estimates.get(name), view.gains.get(name)
            low, high = (estimate.low, estimate.high) if estimate else (None, None)
            row |= {f"{name}_low": low, f"{name}_high": high, f"{name}_runs": estimate.seeds if estimate else 0}
            ends = (gain.mean, gain.low, gain.high) if gain else (None,) * 3
            row |= dict(zip((f"{name}_gain", f"{name}_gain_low", f"{name}_gain_high"), ends, strict=True))
    return row | {
        "better_than_none": view.beats_none,
        "on_front": view.on_front,
        "front_odds": view.front_odds,
        "recommended": snapshot.recommendation is not None and snapshot.recommendation.key == view.key,
        **{name: (view.cost or {}).get(name) for name in counted_costs(snapshot.objectives)},
        "rung": view.rung,
        "seconds": sum(point.wall_s for point in view.scores),
        "reason": view.reason,
        "key": view.key,
    }


def _scores(snapshot: Snapshot) -> list[Row]:
    """A row for each time that a candidate was scored: the points of the learning curves."""
    metrics = sorted({name for view in snapshot.candidates for point in view.scores for name in point.metrics})
    return [
        {
            "trial": view.trial,
            "purpose": point.purpose,
            "seed": point.seed,
            "rung": point.rung,
            "epochs": point.epochs,
            **{name: point.metrics.get(name) for name in metrics},
            "seconds": point.wall_s,
        }
        for view in snapshot.candidates
        for point in view.scores
    ]


def _effects(snapshot: Snapshot) -> list[Row]:
    """What each choice and type does to the primary metric and to the latency."""
    found = [fit_effects(snapshot, what) for what in (snapshot.primary, "latency") if what]
    return [{"of": effects.of, **asdict(row)} for effects in found if effects is not None for row in effects.rows]


def _latencies(snapshot: Snapshot) -> list[Row]:
    """A row for each candidate whose latency is known."""
    known = [(view, view.latency) for view in snapshot.candidates if view.latency is not None]
    return [{"trial": v.trial, "placement": v.placement, **asdict(found), "ms": found.ms} for v, found in known]


FRAMES: Mapping[str, Callable[[Snapshot], list[Row]]] = MappingProxyType(
    {"trials": _trials, "front": _front, "scores": _scores, "effects": _effects, "latencies": _latencies}
)
"""Name -> what makes the rows."""
