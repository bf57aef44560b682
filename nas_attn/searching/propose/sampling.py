"""Proposals: Optuna's samplers, restricted to allowed placements, each proposed once."""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas_attn.errors import RecipeError
from nas_attn.importing import load_object
from nas_attn.model.coding import Known as Effects
from nas_attn.model.coding import names_of
from nas_attn.searching.propose.history import Distributions, Evidence, known_of_trials
from nas_attn.searching.propose.placement_sampler import PlacementSampler
from nas_attn.space import FREE, SearchSpace, Values
from nas_attn.study.trial_book import known_params, outside
from nas_attn.tables import SAMPLERS, is_cost

REDRAWS = 30  # draws from the sampler; then an unseen neighbour is taken


class Exhausted(Exception):
    """Every placement of the space has been tried."""


def distributions(space: SearchSpace) -> Distributions:
    """One categorical parameter per site."""
    return {site: CategoricalDistribution(values) for site, values in space.parameters.items()}


class DistinctSampler(BaseSampler):
    """The sampler of a study: no placement twice, none outside the space, the same proposals after
    an interruption. `auto` goes through all placements in random order if the remaining trials
    suffice, else it is `placement`.
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
        prior: Effects | None = None,
    ) -> None:
        """`name`: of a row in `nas_attn.tables`, or `package.module:function`; `placement` learns
        from `evidence` and `prior` (as in `PlacementSampler`); its primary objective is the first
        one that needs training. NSGA-II's population depends on `trials`, the planned size of the
        study.
        """
        self._name, self._space, self._seed, self._trials = name, space, seed, trials
        self._inner: BaseSampler = RandomSampler(seed=seed)
        self.led_by_prior = set[int]()  # trials for which the prior changed the proposal
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
        self._placement, self._without_prior = make(prior=prior), make() if prior else None

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> Distributions:
        """The whole space, all sites together; nothing for a trial whose placement lies outside the
        space.
        """
        return {} if outside(trial) else distributions(self._space)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: Distributions
    ) -> dict[str, Any]:
        """One unseen placement; Exhausted if there is none left."""
        if known_params(trial).keys() >= search_space.keys():  # set beforehand, or nothing to set
            return {}
        rng = random.Random(f"{self._seed}-{trial.number}")
        others = [
            other for other in study.get_trials(deepcopy=False) if other.number != trial.number
        ]
        name = self._sampler_now(others)
        if name == "placement":
            space = {
                name: d
                for name, d in search_space.items()
                if isinstance(d, CategoricalDistribution)
            }
            found = self._placement.propose(study, trial, space)
            if found is not None:
                other = (
                    self._without_prior.propose(study, trial, space)
                    if self._without_prior
                    else None
                )
                if other not in (None, found):
                    self.led_by_prior.add(trial.number)
                return found
        seen = seen_values(others, list(search_space))
        values: Values = {}
        if name not in ("placement", "exhaustive"):
            try:
                values = self._drawn(name, study, trial, search_space, seen, rng)
            except (TypeError, AttributeError, ValueError, LookupError, ArithmeticError) as error:
                if name in SAMPLERS:
                    raise
                raise RecipeError(
                    f"search.sampler '{name}' raised {type(error).__name__}: {error}"
                ) from error
            if self._space.contains(values) and hashable(values) not in seen:
                return values
        return unseen_neighbour(self._space, values, seen, rng)

    def none_within(self, study: Study) -> bool:
        """Whether hardly one untried placement is within the limits, as the tried ones show."""
        space = {
            site: CategoricalDistribution(values) for site, values in self._space.parameters.items()
        }
        return self._placement.none_within(study, space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """The inner sampler's value, for parameters that are not of the space."""
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._inner.after_trial(study, trial, state, values)

    def _sampler_now(self, others: Sequence[FrozenTrial]) -> str:
        """The sampler's name; for `auto` the current one, which is `exhaustive` if all placements
        will be tried.
        """
        if self._name != "auto":
            return self._name
        left = self._trials - sum(other.state != TrialState.FAIL for other in others)
        return "exhaustive" if covers(self._space, others, left) else "placement"

    def _drawn(
        self,
        name: str,
        study: Study,
        trial: FrozenTrial,
        search_space: Distributions,
        seen: set[tuple[str, ...]],
        rng: random.Random,
    ) -> Values:
        """The first of some draws of Optuna's sampler that is new and allowed, else the last."""
        row = SAMPLERS.get(name)
        function = name if row is None else row.function
        make = load_object(function, what="search.sampler", error=RecipeError)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._inner = make(seed=rng.getrandbits(31), trials=self._trials)
        self._inner.before_trial(study, trial)
        several = {site: d for site, d in search_space.items() if not d.single()}
        values: Values = {}
        for _ in range(REDRAWS):
            drawn = self._inner.sample_relative(study, trial, several)
            for site, d in search_space.items():
                assert isinstance(d, CategoricalDistribution)
                if site not in drawn and not d.single():
                    drawn[site] = self._inner.sample_independent(study, trial, site, d)
                values[site] = str(drawn.get(site, d.choices[0]))
            if self._space.contains(values) and hashable(values) not in seen:
                break
        return values


def seen_values(trials: Sequence[FrozenTrial], sites: Sequence[str]) -> set[tuple[str, ...]]:
    """Values of trials, those that only wait included."""
    all_params, wanted = map(known_params, trials), set(sites)
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


def unseen_neighbour(
    space: SearchSpace, values: Values, seen: set[tuple[str, ...]], rng: random.Random
) -> Values:
    """An unseen placement one step from `values`, else a random unseen one; Exhausted if there is
    none.
    """
    near = [v for v in space.neighbours(values) if hashable(v) not in seen]
    if near:
        return rng.choice(near)
    count = space.count()
    for _ in range(REDRAWS if count else 0):
        values = space.sample(rng)
        if hashable(values) not in seen:
            return values
    if count <= 10 * len(seen) + 1000:  # small enough to look at all
        left = [v for v in space.enumerate() if hashable(v) not in seen]
        if left:
            return rng.choice(left)
    raise Exhausted


def hashable(values: Values) -> tuple[str, ...]:
    return tuple(values.values())
