"""The sampler of a study: it proposes each allowed placement once."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from typing_extensions import override

from nas_attn.model.coding import Known as Effects
from nas_attn.model.coding import names_of
from nas_attn.recipe.tables import is_cost
from nas_attn.searching.propose.history import Distributions, Evidence, known_of_trials
from nas_attn.searching.propose.placement_sampler import PlacementSampler
from nas_attn.searching.propose.proposer import Setting, Turn
from nas_attn.searching.propose.proposers import make_proposer
from nas_attn.searching.propose.untried import (
    as_seen,
    distributions,
    seen_values,
    unseen_neighbour,
)
from nas_attn.space.search_space import FREE, SearchSpace
from nas_attn.storage.trial_book import known_params, outside


class DistinctSampler(BaseSampler):
    """The sampler of a study: no placement twice, none outside the space, the same proposals after
    an interruption. A `Proposer` says what comes next.
    """

    def __init__(  # noqa: PLR0913 - each is a setting, given by its name
        self,
        name: str,
        space: SearchSpace,
        *,
        seed: int,
        trials: int,
        objectives: Sequence[str] = (),
        evidence: Evidence = known_of_trials,
        prior: Effects | None = None,
    ) -> None:
        """Makes the sampler of a study. Its primary objective is the first one that needs training.

        Args:
            name: of a row in `nas_attn.recipe.tables`, or `package.module:function`.
            space: the search space.
            seed: of all draws.
            trials: the planned size of the study.
            objectives: as the recipe names them.
            evidence: what the model of placements learns from, as in `PlacementSampler`.
            prior: what it expects before, as in `PlacementSampler`.
        """
        self._space = space
        self._seed = seed
        # Trials for which the prior changed the proposal.
        self.led_by_prior = set[int]()
        make = partial(
            PlacementSampler,
            seed=seed,
            space=space.allowed,
            at_most=space.most_modules,
            free=FREE,
            names=names_of,
            primary=next((index for index, name in enumerate(objectives) if not is_cost(name)), 0),
            evidence=evidence,
        )
        self._learned = make(prior=prior)
        without_prior = None
        if prior:
            without_prior = make()
        self._proposer = make_proposer(
            name, Setting(space, seed, trials, self._learned, without_prior)
        )

    @override
    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> Distributions:
        """The whole space, all sites together; nothing for a trial whose placement lies outside the
        space.
        """
        if outside(trial):
            return {}
        return distributions(self._space)

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
        turn = Turn(
            study=study,
            trial=trial,
            others=others,
            parameters=search_space,
            seen=seen_values(others, list(search_space)),
            random=random.Random(f"{self._seed}-{trial.number}"),
        )
        proposal = self._proposer.propose(turn)
        if proposal.by_prior:
            self.led_by_prior.add(trial.number)
        values = proposal.values
        if values and self._space.contains(values) and as_seen(values) not in turn.seen:
            return values
        return unseen_neighbour(self._space, values, turn.seen, turn.random)

    def none_within(self, study: Study) -> bool:
        """Whether hardly one untried placement is within the limits, as the tried ones show."""
        space = {
            site: CategoricalDistribution(values) for site, values in self._space.parameters.items()
        }
        return self._learned.none_within(study, space)

    @override
    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """A value for parameters that are not of the space."""
        sampler = self._proposer.optuna_sampler
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    @override
    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._proposer.optuna_sampler.after_trial(study, trial, state, values)
