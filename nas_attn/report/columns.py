"""The columns of a candidate, once: page, terminal, note, CSV and the rows of programs take of them
what they show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

from nas_attn.answer.answer import Answer
from nas_attn.answer.candidates import objective_with_spread
from nas_attn.answer.effects import both_effects
from nas_attn.answer.snapshot import CandidateView, Means, Snapshot
from nas_attn.errors import UserError, did_you_mean
from nas_attn.recipe import units
from nas_attn.recipe.recipe import objective_name
from nas_attn.recipe.tables import counted_costs, is_cost

Row = dict[str, Any]
BETTER_THAN_BARE = "better than the bare backbone"


class Column(NamedTuple):
    """What a candidate has in a column."""

    name: str
    """Its key in a row for programs."""
    value: Any
    """For programs, and by which rows are sorted; None: it is not known."""
    head: str = ""
    """What stands above it; empty: it is for programs only."""
    text: str = ""


def columns(answer: Answer, view: CandidateView) -> Iterator[Column]:
    """All columns of a candidate; every candidate of a study has the same ones."""
    now = answer.now
    placement = str(view.placement)
    state: str = view.state
    if state == "pruned" and view.rung is not None:
        state = f"pruned at rung {view.rung}"
    yield Column("trial", view.trial, "trial", str(view.trial))
    yield Column("placement", placement, "placement", placement)
    yield Column("state", view.state, "state", state)
    yield Column("baseline", view.baseline)
    yield Column("means", view.means.value)
    for objective, value in zip(now.objectives, view.values, strict=True):
        yield from _of_objective(now, view, objective, value)
    odds = view.beats_none
    shown = units.NO_VALUE if odds is None else units.probability(odds)
    yield Column("better_than_none", odds, BETTER_THAN_BARE, shown)
    yield Column("on_front", view.on_front)
    yield Column("recommended", view.key == answer.taken_key)
    yield Column("rung", view.rung)
    for name in counted_costs(now.objectives):
        if name not in now.objectives:
            cost = (view.cost or {}).get(name)
            yield Column(name, cost, units.title(name), units.value(name, cost))
    seconds = sum(point.wall_s for point in view.scores)
    yield Column("seconds", seconds, "time", units.duration(seconds) if seconds else "")
    memory = view.train_bytes
    yield Column("train_bytes", memory, "training memory", units.value("memory", memory))
    speed = "" if view.train_speed is None else f"{view.train_speed:,.0f}"
    yield Column("train_images_per_s", view.train_speed, "images/s trained", speed)
    yield Column("reason", view.reason, "reason", view.reason)
    yield Column("key", view.key)


def _of_objective(
    now: Snapshot, view: CandidateView, objective: str, value: float | None
) -> Iterator[Column]:
    """Of a metric its gain over the bare backbone, too, and what both are known from."""
    name = objective_name(objective)
    told = objective_with_spread(now, view, now.objectives.index(objective))
    if objective == "latency":
        yield Column(name, value, name, told)
        for field in ("low", "high", "ms", "measured"):
            yield Column(f"latency_{field}", getattr(view.latency, field, None))
        return
    if is_cost(name):
        yield Column(name, value, name, told)
        return
    gain = view.gains.get(name)
    estimate = view.estimates.get(name)
    head = f"gain in {units.title(objective)}"
    text = "0" if view.is_bare else units.NO_VALUE
    if gain is not None:
        text = units.bare_plus_minus(objective, gain.mean, (gain.high - gain.low) / 2)
    unit = units.unit(objective).of_differences
    yield Column(
        f"{name}_gain",
        gain.mean if gain else None,
        (f"{head}, {unit}" if unit else head) if now.compared(objective) else "",
        text,
    )
    yield Column(name, value, name, told)
    for end in ("low", "high"):
        yield Column(f"{name}_{end}", getattr(estimate, end, None))
        yield Column(f"{name}_gain_{end}", getattr(gain, end, None))
    runs = estimate.seeds if estimate else 0
    yield Column(f"{name}_runs", runs, "runs" if name == now.primary else "", str(runs or ""))


def compared(answer: Answer, view: CandidateView) -> list[Column]:
    """The columns of each objective: its gain over the bare backbone where that is known, else its
    value.
    """
    now = answer.now
    known = {column.name: column for column in columns(answer, view)}
    names = [
        f"{objective_name(one)}_gain" if now.compared(one) else objective_name(one)
        for one in now.objectives
    ]
    return [known[name] for name in names]


def judged(answer: Answer, view: CandidateView) -> list[Column]:
    """The columns of each objective, the probability to be better than the bare backbone, and the
    number of runs.
    """
    asked = {objective_name(one) for one in answer.now.objectives} | {"better_than_none"}
    parts = {f"{name}_gain" for name in asked} | {f"{name}_runs" for name in asked}
    return [one for one in columns(answer, view) if one.head and one.name in asked | parts]


class Role(StrEnum):
    """What a candidate is in a study; the first that fits."""

    RECOMMENDED = "recommended"
    BARE = "bare backbone"
    OTHER = "larger or smaller"
    UNIFORM = "same everywhere"
    FRONT = "front"
    PRUNED = "stopped early"
    SEARCHED = "searched"


def role(answer: Answer, view: CandidateView) -> Role:
    """A candidate's role."""
    roles = {
        Role.RECOMMENDED: view.key == answer.taken_key,
        Role.BARE: view.is_bare,
        Role.OTHER: view.control,
        Role.UNIFORM: view.baseline is not None,
        Role.FRONT: view.on_front,
        Role.PRUNED: view.state == "pruned",
    }
    return next((role for role, fits in roles.items() if fits), Role.SEARCHED)


def named(answer: Answer, key: str) -> str:
    """The name of a network that is compared with the recommended one."""
    view = answer.now.find(key)
    is_ = None if view is None else role(answer, view)
    return is_ if is_ in (Role.RECOMMENDED, Role.BARE) else "runner-up"


def tags(answer: Answer, view: CandidateView) -> tuple[str, ...]:
    """Everything that a table says of a candidate beside its name."""
    said = {
        "recommended": view.key == answer.taken_key,
        "front": view.on_front,
        "baseline": view.baseline is not None,
        view.means.value: view.means in (Means.LARGER, Means.SMALLER),
    }
    return tuple(tag for tag, fits in said.items() if fits)


def rows(answer: Answer, what: str) -> list[Row]:
    """The rows of a table in `TABLES`, all with the same keys: numbers stay numbers, unknown values
    are None. UserError: unknown table.
    """
    if what not in TABLES:
        raise UserError(f"unknown table '{what}': {did_you_mean(what, TABLES)}")
    return list(TABLES[what](answer))


def _candidate(answer: Answer, view: CandidateView) -> Row:
    return {column.name: column.value for column in columns(answer, view)}


def _score_rows(answer: Answer) -> Iterator[Row]:
    points = [(view.trial, point) for view in answer.now.candidates for point in view.scores]
    metrics = sorted({name for _, point in points for name in point.metrics})
    for trial, point in points:
        yield {
            "trial": trial,
            **{name: getattr(point, name) for name in ("purpose", "seed", "rung", "epochs")},
            **{name: point.metrics.get(name) for name in metrics},
            "seconds": point.wall_s,
        }


TABLES: Mapping[str, Callable[[Answer], Iterator[Row]]] = MappingProxyType(
    {
        "trials": lambda answer: (_candidate(answer, view) for view in answer.now.candidates),
        "front": lambda answer: (_candidate(answer, view) for view in answer.now.front),
        "scores": _score_rows,
        "effects": lambda answer: (
            {"of": of.of, **asdict(row)} for of in both_effects(answer.now) for row in of.rows
        ),
        "latencies": lambda answer: (
            {
                "trial": v.trial,
                "placement": str(v.placement),
                **asdict(v.latency),
                "ms": v.latency.ms,
            }
            for v in answer.now.candidates
            if v.latency is not None
        ),
    }
)
"""Name -> function that makes the rows."""
