"""A study's results as plain rows, for programs: numbers stay numbers, unknown values are None."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

from nas_attn.answer.answer import Answer
from nas_attn.answer.effects import both_effects
from nas_attn.answer.snapshot import CandidateView
from nas_attn.errors import UserError, did_you_mean
from nas_attn.recipe.recipe import objective_name
from nas_attn.recipe.tables import counted_costs, is_cost

Row = dict[str, Any]


def rows(answer: Answer, what: str) -> list[Row]:
    """The rows of a table in `FRAMES`, all with the same keys. UserError: unknown table."""
    if what not in FRAMES:
        raise UserError(f"unknown table '{what}': {did_you_mean(what, FRAMES)}")
    return FRAMES[what](answer)


def _candidate(answer: Answer, view: CandidateView) -> Row:
    snapshot = answer.now
    row: Row = {
        "trial": view.trial,
        "placement": str(view.placement),
        "state": view.state,
        "baseline": view.baseline,
        "means": view.means.value,
    }
    for objective, value in zip(snapshot.objectives, view.values, strict=True):
        name = objective_name(objective)
        row[name] = value
        if objective == "latency":
            for field in ("low", "high", "ms", "measured"):
                row[f"latency_{field}"] = getattr(view.latency, field, None)
        elif not is_cost(name):
            estimate = view.estimates.get(name)
            gain = view.gains.get(name)
            row[f"{name}_low"] = estimate.low if estimate else None
            row[f"{name}_high"] = estimate.high if estimate else None
            row[f"{name}_runs"] = estimate.seeds if estimate else 0
            row[f"{name}_gain"] = gain.mean if gain else None
            row[f"{name}_gain_low"] = gain.low if gain else None
            row[f"{name}_gain_high"] = gain.high if gain else None
    return row | {
        "better_than_none": view.beats_none,
        "on_front": view.on_front,
        "recommended": view.key == answer.taken_key,
        **{name: (view.cost or {}).get(name) for name in counted_costs(snapshot.objectives)},
        "rung": view.rung,
        "seconds": sum(point.wall_s for point in view.scores),
        "train_bytes": view.train_bytes,
        "train_images_per_s": view.train_speed,
        "reason": view.reason,
        "key": view.key,
    }


def _score_rows(answer: Answer) -> list[Row]:
    snapshot = answer.now
    metrics = sorted(
        {name for view in snapshot.candidates for point in view.scores for name in point.metrics}
    )
    return [
        {
            "trial": view.trial,
            **{name: getattr(point, name) for name in ("purpose", "seed", "rung", "epochs")},
            **{name: point.metrics.get(name) for name in metrics},
            "seconds": point.wall_s,
        }
        for view in snapshot.candidates
        for point in view.scores
    ]


def _effect_rows(answer: Answer) -> list[Row]:
    return [
        {"of": effects.of, **asdict(row)}
        for effects in both_effects(answer.now)
        for row in effects.rows
    ]


def _latencies(answer: Answer) -> list[Row]:
    measured = [(view, view.latency) for view in answer.now.candidates if view.latency is not None]
    return [
        {"trial": v.trial, "placement": str(v.placement), **asdict(latency), "ms": latency.ms}
        for v, latency in measured
    ]


FRAMES: Mapping[str, Callable[[Answer], list[Row]]] = MappingProxyType(
    {
        "trials": lambda answer: [_candidate(answer, view) for view in answer.now.candidates],
        "front": lambda answer: [_candidate(answer, view) for view in answer.now.front],
        "scores": _score_rows,
        "effects": _effect_rows,
        "latencies": _latencies,
    }
)
"""Name -> function that makes the rows."""
