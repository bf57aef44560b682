"""Objective values and fronts: what is believed, how likely each candidate belongs to the true front, and which members tie."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nas_attn import tasks
from nas_attn.analysis.latency import CERTAIN, Order
from nas_attn.model import Estimate, Evidence
from nas_attn.model.front import non_dominated
from nas_attn.recipe import Recipe, lower_is_better, objective_name
from nas_attn.records import Costs, Latency, Session
from nas_attn.tables import is_cost

Values = Sequence[float | None]

DRAWS = 256
"""Joint draws of the truth behind a probability."""


def objective_value(
    objective: str, metrics: Mapping[str, float | Estimate], cost: Costs | None, latency: Latency | None
) -> float | None:
    """One objective in its own unit (accuracy 0 to 1, latency as ratio to the bare backbone, memory in bytes).

    None where it is not known.
    """
    if objective == "latency":
        return latency.ratio if latency else None
    if is_cost(objective):
        return None if cost is None else cost[objective]
    found = metrics.get(objective_name(objective))
    return found.mean if isinstance(found, Estimate) else found


def minimised(objectives: Sequence[str], values: Values) -> tuple[float, ...]:
    """Objective values with their signs turned so that less is better; the unknown is infinitely bad."""
    return tuple(
        math.inf if value is None or math.isnan(value) else (value if lower_is_better(objective) else -value)
        for objective, value in zip(objectives, values, strict=True)
    )


def primary_metric(recipe: Recipe, scored: Iterable[str]) -> str | None:
    """The trained metric that a recommendation is about: the first of the objectives that is one, else the task's."""
    trained = [objective_name(objective) for objective in recipe.objectives if not is_cost(objective)]
    return trained[0] if trained else next((metric for metric in scored if metric == tasks.of(recipe).metric), None)


def front_of(objectives: Sequence[str], rows: Mapping[str, Values]) -> set[str]:
    """Keys of the rows that no other dominates; one that lacks an objective is not among them.

    Args:
        rows: key -> objective values in the objectives' order.
    """
    known = {key: row for key, row in rows.items() if len(row) == len(objectives)}
    if not known:
        return set()
    values = np.array([[math.nan if v is None else v for v in row] for row in known.values()], dtype=float)
    best = non_dominated(values * _signs(objectives))
    return {key for key, among in zip(known, best, strict=True) if among}


def front_odds(
    objectives: Sequence[str], rows: Mapping[str, Values], model: Evidence, rng: np.random.Generator
) -> dict[str, float]:
    """Key -> probability of belonging to the true front of these candidates.

    The model's metric is drawn from the joint posterior; the other objectives are taken as they are estimated.

    Args:
        rows: as for `front_of`; those that lack an objective, or that the model does not know, are left out.
        model: of a metric among the objectives.
    """
    names = [objective_name(objective) for objective in objectives]
    able = set(model.keys)
    known = {key: row for key, row in rows.items() if len(row) == len(names) and None not in row and key in able}
    if model.metric not in names or not known:
        return {}
    sought, signs = names.index(model.metric), _signs(objectives)
    values = np.array(list(known.values()), dtype=float)
    counts = np.zeros(len(known))
    for drawn in model.draw(rng, DRAWS, list(known)):
        values[:, sought] = drawn
        counts += non_dominated(values * signs)
    return dict(zip(known, (counts / DRAWS).tolist(), strict=True))


def _signs(objectives: Sequence[str]) -> NDArray[np.float64]:
    return np.array([1.0 if lower_is_better(objective) else -1.0 for objective in objectives])


def ties(
    objectives: Sequence[str],
    front: Mapping[str, Values],
    models: Mapping[str, Evidence],
    sessions: Sequence[Session],
    bare: str | None,
) -> dict[str, tuple[str, ...]]:
    """Key -> the others that it cannot be told apart from: by no objective is one better with 97.5 % certainty.

    Args:
        front: key -> objective values; counted ones (parameters, MACs, memory) are compared exactly.
        models: metric -> the evidence about it at the last rung.
        sessions: of the study's latencies, where that is an objective.
        bare: key of the bare backbone, which has no sessions of its own: it is every session's reference.
    """
    order, keys = Order(sessions), list(front)

    def faster_known(a: str, b: str) -> bool:
        if not all(key == bare or key in order.measured for key in (a, b)):
            return False  # a prediction tells nothing for certain, nor does a session that does not count
        return order.told_apart(b, None) if a == bare else order.told_apart(a, None if b == bare else b)

    def apart(objective: str, position: int, a: str, b: str) -> bool:
        if objective == "latency":
            return faster_known(a, b)
        if is_cost(objective):
            return front[a][position] != front[b][position]
        model = models.get(objective_name(objective))
        gain = model.gains(a, keys).get(b) if model else None
        return gain is not None and max(gain.probability, gain.worse) >= CERTAIN

    found: dict[str, list[str]] = {key: [] for key in keys}
    for a, b in itertools.combinations(keys, 2):
        if not any(apart(objective, position, a, b) for position, objective in enumerate(objectives)):
            found[a].append(b)
            found[b].append(a)
    return {key: tuple(others) for key, others in found.items()}
