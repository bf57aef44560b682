"""The proposers that nas_attn has, and the one that proposes with a sampler of Optuna; Optuna's
samplers, as a study makes them.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from nas_attn.errors import RecipeError
from nas_attn.recipe.tables import SAMPLERS, Function, Sampler
from nas_attn.searching.propose.proposer import Proposal, Proposer, Setting, Turn
from nas_attn.searching.propose.untried import as_seen, covers
from nas_attn.space.search_space import Values
from nas_attn.system.importing import load_object

# equal draws in a row of a user's sampler: it will not draw anything else
SAME_DRAWS = 3
RAISED_BY_USERS = (TypeError, AttributeError, ValueError, LookupError, ArithmeticError)


def make_proposer(name: str, setting: Setting) -> Proposer:
    """The proposer of a row's name, or with a user's `package.module:function`. Raises RecipeError:
    that cannot be loaded.
    """
    row = SAMPLERS.get(name)
    if row is None:

        def users() -> Function:
            own: Function = load_object(name, what="search.sampler", error=RecipeError)
            return own

        return OfOptuna(Sampler(name, function=users), setting, own=True)
    if row.proposer is not None:
        made: Proposer = row.proposer()(setting)
        return made
    return OfOptuna(row, setting, own=False)


def check_sampler(name: str) -> None:
    """Raises RecipeError if `search.sampler` names a function of the user that makes no Optuna
    sampler.
    """
    if name in SAMPLERS:
        return
    make = load_object(name, what="search.sampler", error=RecipeError)
    way_out = (
        "name a function of your own that takes both and returns one, like def make(*, seed,"
        " trials): return optuna.samplers.GPSampler(seed=seed)"
    )
    try:
        made = _quietly(make, seed=0, trials=1)
    except RAISED_BY_USERS as error:
        raise RecipeError(
            f"search.sampler '{name}' cannot be called with seed and trials"
            f" ({type(error).__name__}: {error}): {way_out}"
        ) from error
    if not isinstance(made, BaseSampler):
        raise RecipeError(
            f"search.sampler '{name}' returns a {type(made).__name__}, not an Optuna sampler:"
            f" {way_out}"
        )


class PlacementProposer:
    """`placement`: learns what each choice adds at each site, and each type at all sites."""

    def __init__(self, setting: Setting) -> None:
        self._learned = setting.learned
        self._without_prior = setting.without_prior
        self.optuna_sampler: BaseSampler = RandomSampler(seed=setting.seed)

    def propose(self, turn: Turn) -> Proposal:
        space = {}
        for site, choices in turn.parameters.items():
            if isinstance(choices, CategoricalDistribution):
                space[site] = choices
        values = self._learned.propose(turn.study, turn.trial, space)
        if values is None:
            return Proposal()
        if self._without_prior is None:
            return Proposal(values)
        other = self._without_prior.propose(turn.study, turn.trial, space)
        return Proposal(values, by_prior=other not in (None, values))


class Auto(PlacementProposer):
    """`auto`: all placements in random order if the remaining trials suffice for them, else
    `placement`.
    """

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._setting = setting

    def propose(self, turn: Turn) -> Proposal:
        begun = sum(other.state != TrialState.FAIL for other in turn.others)
        if covers(self._setting.space, turn.others, self._setting.trials - begun):
            return Proposal()
        return super().propose(turn)


class OfOptuna:
    """Proposes with a sampler of Optuna, a new one for each proposal. It draws again, some times,
    if a placement was tried or is outside the space.
    """

    def __init__(self, row: Sampler, setting: Setting, *, own: bool) -> None:
        """`own`: the user's, whose errors are the recipe's."""
        self._row = row
        self._setting = setting
        self._own = own
        self.optuna_sampler: BaseSampler = RandomSampler(seed=setting.seed)

    def propose(self, turn: Turn) -> Proposal:
        try:
            return Proposal(self._drawn(turn))
        except RAISED_BY_USERS as error:
            if not self._own:
                raise
            raise RecipeError(
                f"search.sampler '{self._row.name}' raised {type(error).__name__}: {error}"
            ) from error

    def _drawn(self, turn: Turn) -> Values:
        """The first of some draws that is new and allowed, else the last."""
        self.optuna_sampler = self._made(turn.random)
        self.optuna_sampler.before_trial(turn.study, turn.trial)
        values: Values = {}
        equal = 0
        for _ in range(self._row.redraws):
            before = values
            values = self._draw(turn)
            if self._setting.space.contains(values) and as_seen(values) not in turn.seen:
                break
            equal = equal + 1 if values == before else 1
            if self._own and equal == SAME_DRAWS:
                break
        return values

    def _made(self, rng: random.Random) -> BaseSampler:
        assert self._row.function is not None
        return _quietly(self._row.function(), seed=rng.getrandbits(31), trials=self._setting.trials)

    def _draw(self, turn: Turn) -> Values:
        several = {site: d for site, d in turn.parameters.items() if not d.single()}
        sampler = self.optuna_sampler
        # a user's may keep the dictionary that it returns
        drawn = dict(sampler.sample_relative(turn.study, turn.trial, several))
        values: Values = {}
        for site, choices in turn.parameters.items():
            assert isinstance(choices, CategoricalDistribution)
            if site not in drawn and not choices.single():
                drawn[site] = sampler.sample_independent(turn.study, turn.trial, site, choices)
            values[site] = str(drawn.get(site, choices.choices[0]))
        return values


def _quietly(make: Callable[..., BaseSampler], *, seed: int, trials: int) -> BaseSampler:
    """Some samplers of Optuna warn that they are experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return make(seed=seed, trials=trials)


def at_random(*, seed: int, trials: int) -> BaseSampler:  # noqa: ARG001 - all are called with it
    """Optuna's random sampler."""
    return RandomSampler(seed=seed)


def tpe(*, seed: int, trials: int) -> BaseSampler:  # noqa: ARG001 - all are called with it
    """Optuna's TPE, all sites together."""
    return TPESampler(seed=seed, multivariate=True, constant_liar=True)


def gp(*, seed: int, trials: int) -> BaseSampler:  # noqa: ARG001 - all are called with it
    """Optuna's Gaussian process, for objectives with noise."""
    return GPSampler(seed=seed, deterministic_objective=False)


def nsga2(*, seed: int, trials: int) -> BaseSampler:
    """Optuna's NSGA-II, with a population that depends on the number of trials."""
    return NSGAIISampler(seed=seed, population_size=max(8, min(50, trials // 5)))
