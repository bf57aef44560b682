"""Which placements of a space have been tried, and untried ones."""

from __future__ import annotations

import random
from collections.abc import Sequence

from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial

from nas_attn.searching.propose.history import Distributions
from nas_attn.space.search_space import SearchSpace, Values
from nas_attn.storage.trial_book import known_params

# random placements that are looked at; then all of a small space are
RANDOM_TRIES = 30

Seen = set[tuple[str, ...]]
"""Placements, as the values at their sites in the space's order."""


class Exhausted(Exception):
    """Every placement of the space has been tried."""


def distributions(space: SearchSpace) -> Distributions:
    """One categorical parameter per site."""
    return {site: CategoricalDistribution(values) for site, values in space.parameters.items()}


def as_seen(values: Values) -> tuple[str, ...]:
    return tuple(values.values())


def seen_values(trials: Sequence[FrozenTrial], sites: Sequence[str]) -> Seen:
    """Values of trials, those that only wait included."""
    wanted = set(sites)
    all_params = map(known_params, trials)
    return {
        tuple(params[site] for site in sites) for params in all_params if params.keys() >= wanted
    }


def covers(space: SearchSpace, trials: Sequence[FrozenTrial], left: int) -> bool:
    """Whether so many more trials suffice for all placements of a space that have not been
    tried.
    """
    if space.count() - len(trials) > left:
        return False
    seen = seen_values(trials, list(space.parameters))
    inside = sum(
        space.contains(dict(zip(space.parameters, values, strict=True))) for values in seen
    )
    return space.count() - inside <= left


def unseen_neighbour(space: SearchSpace, values: Values, seen: Seen, rng: random.Random) -> Values:
    """Draws an unseen placement one step from another one, else a random unseen one.

    Args:
        space: the search space.
        values: site -> choice of that one; empty: any unseen one.
        seen: the placements that were tried, or wait.
        rng: of this draw.

    Raises:
        Exhausted: there is none.
    """
    near = [v for v in space.neighbours(values) if as_seen(v) not in seen]
    if near:
        return rng.choice(near)
    count = space.count()
    for _ in range(RANDOM_TRIES if count else 0):
        values = space.sample(rng)
        if as_seen(values) not in seen:
            return values
    # small enough to look at all
    if count <= 10 * len(seen) + 1000:
        left = [v for v in space.enumerate() if as_seen(v) not in seen]
        if left:
            return rng.choice(left)
    raise Exhausted
