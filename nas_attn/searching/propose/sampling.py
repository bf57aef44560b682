"""The sampler of a study: it proposes each allowed placement once."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from typing_extensions import override

from nas_attn.model.coding import names_of
from nas_attn.recipe.tables import SAMPLERS, is_cost
from nas_attn.searching.propose.history import Distributions, Evidence, Space, known_of_trials
from nas_attn.searching.propose.placement_sampler import PlacementSampler
from nas_attn.searching.propose.samplers import draws
from nas_attn.searching.propose.untried import (
    as_seen,
    covers,
    distributions,
    seen_values,
    unseen_neighbour,
)
from nas_attn.space.search_space import FREE, SearchSpace, Values
from nas_attn.storage.trial_book import known_params, outside


class DistinctSampler(BaseSampler):
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
        self._name = name
        self._space = space
        self._seed = seed
        self._trials = trials
        self._random = RandomSampler(seed=seed)
        self._learned = PlacementSampler(
            seed=seed,
            space=space.allowed,
            at_most=space.most_modules,
            free=FREE,
            names=names_of,
            primary=next((index for index, name in enumerate(objectives) if not is_cost(name)), 0),
            evidence=evidence,
        )

    @override
    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> Distributions:
        """The whole space, all sites together; nothing for a trial whose placement lies outside the
        space.
        """
        return {} if outside(trial) else distributions(self._space)

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
        seen = seen_values(others, list(search_space))
        rng = random.Random(f"{self._seed}-{trial.number}")
        values: Values = {}
        for values in self._proposals(study, trial, others, rng):
            if self._space.contains(values) and as_seen(values) not in seen:
                return values
        return unseen_neighbour(self._space, values, seen, rng)

    def _proposals(
        self, study: Study, trial: FrozenTrial, others: Sequence[FrozenTrial], rng: random.Random
    ) -> Iterator[Values]:
        """What may come next, the best first; it may repeat a placement, or leave the space."""
        row = SAMPLERS.get(self._name)
        if row is None or row.function is not None:
            yield from draws(
                self._name,
                study,
                trial,
                self._choices,
                seed=rng.getrandbits(31),
                trials=self._trials,
            )
            return
        left = self._trials - sum(other.state != TrialState.FAIL for other in others)
        if row.lists_all and covers(self._space, others, left):
            return
        learned = self._learned.propose(study, trial, self._choices)
        if learned is not None:
            yield learned

    def none_within(self, study: Study) -> bool:
        """Whether hardly one untried placement is within the limits, as the tried ones show."""
        return self._learned.none_within(study, self._choices)

    @property
    def _choices(self) -> Space:
        return {
            site: CategoricalDistribution(values) for site, values in self._space.parameters.items()
        }

    @override
    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """A value for parameters that are not of the space."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)
