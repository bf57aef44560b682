"""Objective values and fronts; and which candidates go on at a rung."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nas_attn.model import Estimate
from nas_attn.model.dominance import hypervolume_gains, non_dominated, non_dominated_rank
from nas_attn.recipe import tasks
from nas_attn.recipe.recipe import Recipe, lower_is_better, objective_name
from nas_attn.recipe.tables import Costs, is_cost
from nas_attn.storage.records import Latency

Floats = NDArray[np.float64]
Values = Sequence[float | None]

# in halving: distance of the reference point from the worst, as a share of the peers' range
MARGIN = 0.1


def objective_value(
    objective: str,
    metrics: Mapping[str, float | Estimate],
    cost: Costs | None,
    latency: Latency | None,
) -> float | None:
    """Returns one objective in its own unit (accuracy 0 to 1, latency as ratio, memory in bytes).

    Args:
        objective: as in the recipe.
        metrics: metric -> value or estimate.
        cost: counted on the network; None: not known.
        latency: measured or predicted; None: not known.

    Returns:
        The value; None if it is not known.
    """
    if objective == "latency":
        if latency:
            return latency.ratio
        return None
    if is_cost(objective):
        if cost is None:
            return None
        return cost[objective]
    value = metrics.get(objective_name(objective))
    if isinstance(value, Estimate):
        return value.mean
    return value


def minimised(objectives: Sequence[str], values: Values) -> tuple[float, ...]:
    """Objective values with signs such that less is better; an unknown value is infinity."""
    return tuple(
        (
            math.inf
            if value is None or math.isnan(value)
            else (value if lower_is_better(objective) else -value)
        )
        for objective, value in zip(objectives, values, strict=True)
    )


def primary_metric(recipe: Recipe, scored: Iterable[str]) -> str | None:
    """The metric of the recommendation: the first objective that needs training, else the task's
    metric.
    """
    trained = [
        objective_name(objective) for objective in recipe.objectives if not is_cost(objective)
    ]
    if trained:
        return trained[0]
    return next((metric for metric in scored if metric == tasks.of(recipe).metric), None)


def leading(objectives: Sequence[str]) -> int:
    """Index of the objective whose best value is that of the best candidate: the first that needs
    training, else the first.
    """
    trained = (not is_cost(objective) for objective in objectives)
    return next((index for index, needs_it in enumerate(trained) if needs_it), 0)


def sign_of(recipe: Recipe, metric: str) -> float:
    """-1 if less of a metric is better in this study, else 1; a user's own is minimised if its
    objective says so, `-rmse`.
    """
    objective = f"-{metric}"
    if lower_is_better(objective if objective in recipe.objectives else metric):
        return -1.0
    return 1.0


def front_of(objectives: Sequence[str], rows: Mapping[str, Values]) -> set[str]:
    """Keys of the rows (objectives' values, in order) that no other dominates; rows that lack an
    objective are left out.
    """
    complete = {key: row for key, row in rows.items() if len(row) == len(objectives)}
    if not complete:
        return set()
    values = np.array(
        [[math.nan if v is None else v for v in row] for row in complete.values()], dtype=float
    )
    best = non_dominated(values * _signs(objectives))
    return {key for key, among in zip(complete, best, strict=True) if among}


def without_invisible(
    objectives: Sequence[str],
    rows: Mapping[str, Values],
    constants: Mapping[str, float],
) -> dict[str, Values]:
    """The rows with one value for each metric that all runs have in common: estimates of it differ
    by digits that no run had, and would put candidates on a front. `constants`: metric -> value.
    """
    names = [objective_name(objective) for objective in objectives]
    return {
        key: tuple(
            value if value is None else constants.get(name, value)
            for name, value in zip(names, values, strict=False)
        )
        for key, values in rows.items()
    }


def _signs(objectives: Sequence[str]) -> Floats:
    return np.array([1.0 if lower_is_better(objective) else -1.0 for objective in objectives])


def survives(peers: Mapping[str, Sequence[float]], candidate: str, eta: float) -> bool:
    """Whether a candidate goes on from a rung. `peers`: all that reached it so far, itself
    included; all objectives minimised.

    Asynchronous successive halving for several objectives, after Schmucker et al. (2106.12639),
    with hypervolume contribution instead of their epsilon-net: of the peers, sorted by
    non-domination, the best 1/eta go on, rounded up. If the cut goes through a front, the smallest
    contributor to the hypervolume is removed until the rest fits. A NaN does not go on.
    """
    if any(math.isnan(value) for value in peers[candidate]):
        return False
    keys = sorted(peers)
    values = np.array([peers[key] for key in keys], dtype=float)
    places = math.ceil(len(keys) / eta - 1e-9)
    ranks = non_dominated_rank(values)
    rank = ranks[keys.index(candidate)]
    before = int((ranks < rank).sum())
    front = np.flatnonzero(ranks == rank)
    if before + len(front) <= places:
        return True
    if before >= places:
        return False
    scaled = _normalised(values)
    left = front
    corner = np.full(scaled.shape[1], 1.0 + MARGIN)
    # removes the smallest contributor; of equal ones the last
    while len(left) > places - before:
        lost = []
        for one in left:
            # the same random points for each
            rng = np.random.default_rng(0)
            others = scaled[left[left != one]]
            lost += hypervolume_gains(scaled[[one]], others, corner, rng).tolist()
        left = np.delete(left, len(left) - 1 - int(np.argmin(lost[::-1])))
    return keys.index(candidate) in left


def _normalised(values: Floats) -> Floats:
    """Each column scaled to 0 to 1 over its finite values; infinities become 0 or 1."""
    scaled = np.where(np.isneginf(values), 0.0, 1.0)
    for column in range(values.shape[1]):
        finite = np.isfinite(values[:, column])
        if finite.any():
            finite_values = values[finite, column]
            scaled[finite, column] = (finite_values - finite_values.min()) / (
                np.ptp(finite_values) or 1.0
            )
    return scaled


# seed and arithmetic, which runs share
Level = tuple[int, str]


def net(values: Mapping[str, Mapping[Level, float]]) -> dict[str, dict[Level, float]]:
    """Candidate -> level -> value less that level, by value = level + candidate + rest, of equal
    variances. For pruners.
    """
    levels: set[Level] = set()
    for runs in values.values():
        levels.update(runs)
    seeds = {seed: i for i, seed in enumerate(sorted(levels))}
    table = np.full((len(values), len(seeds)), np.nan)
    for row, runs in zip(table, values.values(), strict=True):
        row[[seeds[seed] for seed in runs]] = list(runs.values())
    scored = np.isfinite(table)
    ran = scored.astype(float)
    table = np.where(scored, table, 0.0)
    # a ridge of one run's weight, as if the candidates were integrated out
    shrunk = 1 / (ran.sum(axis=1) + 1)
    normal = np.diag(ran.sum(axis=0)) - ran.T @ (ran * shrunk[:, None])
    right = table.sum(axis=0) - ran.T @ (table.sum(axis=1) * shrunk)
    level = np.linalg.lstsq(normal, right, rcond=None)[0]
    ever = ran.any(axis=0)
    level = level - level @ ever / max(ever.sum(), 1)
    net_values = {}
    for key, runs in values.items():
        net_values[key] = {seed: v - float(level[seeds[seed]]) for seed, v in runs.items()}
    return net_values
