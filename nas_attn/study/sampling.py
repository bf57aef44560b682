"""Proposals: Optuna's samplers, made to propose each placement once and only what the space allows."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas_attn.space import SearchSpace
from nas_attn.space.search_space import Values

REDRAWS = 30
"""Draws from the sampler before an unseen neighbour is taken instead."""
TPE_UNTIL = 250
"""`auto` uses TPE up to this many finished trials, then NSGA-II, which stays quick (as Optuna's AutoSampler)."""


class Exhausted(Exception):
    """Every placement of the space has been tried."""


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """One categorical parameter per site."""
    return {site: CategoricalDistribution(values) for site, values in space.parameters.items()}


class DistinctSampler(BaseSampler):
    """Wraps a sampler so that it proposes no placement twice, and none outside the space.

    It draws again, and after some draws takes an unseen neighbour of the last draw, so that the sampler's intention
    survives. A fresh inner sampler is made for each trial from the study's seed and the trial's number: a resumed study
    goes on as an uninterrupted one would.
    """

    def __init__(self, name: str, space: SearchSpace, *, seed: int, trials: int) -> None:
        """Args:
        name: `auto`, `tpe`, `nsga2` or `random`.
        trials: planned size of the study; NSGA-II's population follows it.
        """
        self._name, self._space, self._seed, self._trials = name, space, seed, trials
        self._inner: BaseSampler = RandomSampler(seed=seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The whole space, known from the start. Every site is drawn together with the others."""
        return distributions(self._space)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """One unseen placement.

        Raises:
            Exhausted: there is none left.
        """
        rng = random.Random(f"{self._seed}-{trial.number}")
        self._inner = self._make_inner(study, rng.getrandbits(31))
        self._inner.before_trial(study, trial)
        others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        seen = seen_values(others, list(search_space))
        several = {site: d for site, d in search_space.items() if not d.single()}
        values: Values = {}
        for _ in range(REDRAWS):
            drawn = self._inner.sample_relative(study, trial, several)
            values = {
                site: drawn[site] if site in drawn else self._independent(study, trial, site, d)
                for site, d in search_space.items()
            }
            if self._space.contains(values) and _hashable(values) not in seen:
                return values
        return unseen_neighbour(self._space, values, seen, rng)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Not reached for the space's own parameters; for any other, the inner sampler's."""
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Passes the result on."""
        self._inner.after_trial(study, trial, state, values)

    def _independent(self, study: Study, trial: FrozenTrial, site: str, distribution: BaseDistribution) -> str:
        assert isinstance(distribution, CategoricalDistribution)
        if distribution.single():
            return str(distribution.choices[0])
        return str(self._inner.sample_independent(study, trial, site, distribution))

    def _make_inner(self, study: Study, seed: int) -> BaseSampler:
        finished = sum(t.state.is_finished() for t in study.get_trials(deepcopy=False))
        name = self._name if self._name != "auto" else ("tpe" if finished <= TPE_UNTIL else "nsga2")
        makers: dict[str, Callable[[], BaseSampler]] = {
            "random": lambda: RandomSampler(seed=seed),
            "tpe": lambda: TPESampler(seed=seed, multivariate=True, constant_liar=True),
            "nsga2": lambda: NSGAIISampler(seed=seed, population_size=max(8, min(50, self._trials // 5))),
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return makers[name]()


def seen_values(trials: Sequence[FrozenTrial], sites: Sequence[str]) -> set[tuple[str, ...]]:
    """Values of trials, those that only wait included."""
    seen = set()
    for trial in trials:
        params = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
        if params.keys() >= set(sites):
            seen.add(tuple(params[site] for site in sites))
    return seen


def unseen_neighbour(space: SearchSpace, values: Values, seen: set[tuple[str, ...]], rng: random.Random) -> Values:
    """An unseen placement one step from `values`, else a random unseen one.

    Raises:
        Exhausted: there is none.
    """
    near = [v for v in space.neighbours(values) if _hashable(v) not in seen]
    if near:
        return rng.choice(near)
    count = space.count()
    for _ in range(REDRAWS if count else 0):
        values = space.sample(rng)
        if _hashable(values) not in seen:
            return values
    if count <= 10 * len(seen) + 1000:  # small enough to look at all
        left = [v for v in space.enumerate() if _hashable(v) not in seen]
        if left:
            return rng.choice(left)
    raise Exhausted


def _hashable(values: Values) -> tuple[str, ...]:
    return tuple(values.values())
