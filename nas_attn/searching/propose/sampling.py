"""The sampler of a study: it proposes each allowed placement once."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from optuna.distributions import CategoricalDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from typing_extensions import override

from nas_attn.model.coding import names_of
from nas_attn.recipe.tables import is_cost
from nas_attn.searching.propose.history import Distributions, Evidence, known_of_trials
from nas_attn.searching.propose.placement_sampler import RANDOM_TRIES, PlacementSampler
from nas_attn.searching.propose.samplers import draws, sampler_row
from nas_attn.space.search_space import FREE, SearchSpace, Values
from nas_attn.storage.trial_book import known_params, outside

Seen = set[tuple[str, ...]]
"""Placements, as the values at their sites in the space's order."""


class Exhausted(Exception):
    """Every placement of the space has been tried."""


class DistinctSampler(PlacementSampler):
    """The sampler of a study: no placement twice, none outside the space, the same proposals after
    an interruption. Only the worker that holds the scheduling lock proposes.
    """

    def __init__(
        self,
        name: str,
        space: SearchSpace,
        *,
        seed: int,
        trials: int,
        objectives: Sequence[str] = (),
        evidence: Evidence = known_of_trials,
    ) -> None:
        """Makes the sampler of a study. Its primary objective is the first one that needs training.

        Args:
            name: of a row in `nas_attn.recipe.tables`, or `package.module:function`.
            space: the search space.
            seed: of all draws.
            trials: the planned size of the study.
            objectives: as the recipe names them.
            evidence: what the model of placements learns from, as in `PlacementSampler`.
        """
        super().__init__(
            seed=seed,
            space=space.allowed,
            at_most=space.most_modules,
            free=FREE,
            names=names_of,
            primary=next((index for index, name in enumerate(objectives) if not is_cost(name)), 0),
            evidence=evidence,
        )
        self._name = name
        self._searched = space
        self._trials = trials

    @override
    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> Distributions:
        """The whole space, all sites together; nothing for a trial whose placement lies outside the
        space.
        """
        return {} if outside(trial) else distributions(self._searched)

    @override
    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: Distributions
    ) -> dict[str, Any]:
        """One unseen placement; Exhausted if there is none left."""
        # set beforehand, or nothing to set
        if known_params(trial).keys() >= search_space.keys():
            return {}
        others = [
            other for other in study.get_trials(deepcopy=False) if other.number != trial.number
        ]
        seen = _seen(self._searched, others)
        rng = random.Random(f"{self._seed}-{trial.number}")
        values: Values = {}
        for values in self._proposals(study, trial, others, rng):
            if self._searched.contains(values) and tuple(values.values()) not in seen:
                return values
        return _unseen_neighbour(self._searched, values, seen, rng)

    def _proposals(
        self, study: Study, trial: FrozenTrial, others: Sequence[FrozenTrial], rng: random.Random
    ) -> Iterator[Values]:
        """What may come next, the best first; it may repeat a placement, or leave the space."""
        row = sampler_row(self._name)
        space = distributions(self._searched)
        left = self._trials - sum(other.state != TrialState.FAIL for other in others)
        if row.function is not None:
            seed = rng.getrandbits(31)
            yield from draws(row, study, trial, space, seed=seed, trials=self._trials)
        elif not (row.lists_all and covers(self._searched, others, left)):
            yield super().sample_relative(study, trial, space)


def distributions(space: SearchSpace) -> dict[str, Any]:
    """One categorical parameter per site."""
    return {site: CategoricalDistribution(values) for site, values in space.parameters.items()}


def covers(space: SearchSpace, trials: Sequence[FrozenTrial], left: int) -> bool:
    """Whether so many more trials suffice for all placements of a space that have not been
    tried.
    """
    if space.count() - len(trials) > left:
        return False
    inside = sum(
        space.contains(dict(zip(space.parameters, values, strict=True)))
        for values in _seen(space, trials)
    )
    return space.count() - inside <= left


def _seen(space: SearchSpace, trials: Sequence[FrozenTrial]) -> Seen:
    """Placements of trials, those that only wait included."""
    sites = space.parameters
    all_params = map(known_params, trials)
    return {
        tuple(params[site] for site in sites)
        for params in all_params
        if params.keys() >= sites.keys()
    }


def _unseen_neighbour(space: SearchSpace, values: Values, seen: Seen, rng: random.Random) -> Values:
    """Draws an unseen placement one step from another one, else a random unseen one.

    Args:
        space: the search space.
        values: site -> choice of that one; empty: any unseen one.
        seen: the placements that were tried, or wait.
        rng: of this draw.

    Raises:
        Exhausted: there is none.
    """
    near = [v for v in space.neighbours(values) if tuple(v.values()) not in seen]
    if near:
        return rng.choice(near)
    count = space.count()
    for _ in range(RANDOM_TRIES if count else 0):
        values = space.sample(rng)
        if tuple(values.values()) not in seen:
            return values
    # small enough to look at all
    if count <= 10 * len(seen) + 1000:
        left = [v for v in space.enumerate() if tuple(v.values()) not in seen]
        if left:
            return rng.choice(left)
    raise Exhausted
