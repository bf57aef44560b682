"""From what is known about a candidate to the values of a study's objectives."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from nas_attn import tasks
from nas_attn.costs import is_cost
from nas_attn.recipe import Recipe, lower_is_better, objective_name
from nas_attn.records import Costs, Latency


def objective_value(
    objective: str, metrics: Mapping[str, float], cost: Costs | None, latency: Latency | None
) -> float | None:
    """One objective in its own unit (accuracy 0 to 1, latency as ratio to the bare backbone, memory in bytes).

    None where it is not known.
    """
    if objective == "latency":
        return latency.ratio if latency else None
    if is_cost(objective):
        return None if cost is None else cost[objective]
    return metrics.get(objective_name(objective))


def minimised(objectives: Sequence[str], values: Sequence[float | None]) -> tuple[float, ...]:
    """Objective values with their signs turned so that less is better; the unknown is infinitely bad."""
    return tuple(
        math.inf if value is None or math.isnan(value) else (value if lower_is_better(objective) else -value)
        for objective, value in zip(objectives, values, strict=True)
    )


def mean_metrics(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each metric over runs; metrics that some run lacks are left out."""
    shared = set.intersection(*(set(s) for s in scores)) if scores else set()
    return {name: math.fsum(s[name] for s in scores) / len(scores) for name in sorted(shared)}


def primary_metric(recipe: Recipe, scored: Iterable[str]) -> str | None:
    """The trained metric that a recommendation is about: the first of the objectives that is one, else the task's."""
    trained = [objective_name(objective) for objective in recipe.objectives if not is_cost(objective)]
    return trained[0] if trained else next((metric for metric in scored if metric == tasks.of(recipe).metric), None)
