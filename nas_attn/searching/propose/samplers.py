"""Samplers of Optuna, as a study makes them: those of the table, and a user's own."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial

import optuna
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from nas_attn.errors import RecipeError
from nas_attn.recipe.tables import SAMPLERS, Sampler
from nas_attn.searching.propose.history import Distributions, Space
from nas_attn.space.search_space import Values
from nas_attn.system.importing import load_object

# draws of a user's sampler for a proposal: each may take long, and another may be the same
OWN_DRAWS = 3
RAISED_BY_USERS = (TypeError, AttributeError, ValueError, LookupError, ArithmeticError)


def sampler_row(name: str) -> Sampler:
    """The row of a sampler; a user's `package.module:function` gets one."""
    own = partial(load_object, name, what="search.sampler", error=RecipeError)
    return SAMPLERS.get(name, Sampler(name, own, redraws=OWN_DRAWS))


def draws(
    row: Sampler, study: Study, trial: FrozenTrial, space: Space, *, seed: int, trials: int
) -> Iterator[Values]:
    """Draws placements by a new sampler of Optuna, some times.

    Args:
        row: of the sampler.
        study: the study.
        trial: the one that asks.
        space: site -> its choices.
        seed: of the sampler.
        trials: the planned size of the study.

    Raises:
        RecipeError: a user's sampler raised an error.
    """
    try:
        sampler = _made(row, seed=seed, trials=trials)
        sampler.before_trial(study, trial)
        for _ in range(row.redraws):
            yield _draw(sampler, study, trial, space)
    except RAISED_BY_USERS as error:
        if row.name in SAMPLERS:
            raise
        raise RecipeError(
            f"search.sampler '{row.name}' raised {type(error).__name__}: {error}"
        ) from error


def check_sampler(name: str) -> None:
    """Raises RecipeError if `search.sampler` names a function of the user that makes no Optuna
    sampler.
    """
    if name in SAMPLERS:
        return
    way_out = (
        "name a function of your own that takes both and returns one, like def make(*, seed,"
        " trials): return optuna.samplers.GPSampler(seed=seed)"
    )
    try:
        made = _made(sampler_row(name), seed=0, trials=1)
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


def _made(row: Sampler, *, seed: int, trials: int) -> BaseSampler:
    assert row.function is not None
    make = row.function()
    with warnings.catch_warnings():
        # some samplers of Optuna are experimental
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        made: BaseSampler = make(seed=seed, trials=trials)
    return made


def _draw(sampler: BaseSampler, study: Study, trial: FrozenTrial, space: Space) -> Values:
    several: Distributions = {site: one for site, one in space.items() if not one.single()}
    drawn = sampler.sample_relative(study, trial, several)
    values: Values = {}
    for site, choices in space.items():
        value = choices.choices[0]
        if site in drawn:
            value = drawn[site]
        elif site in several:
            value = sampler.sample_independent(study, trial, site, choices)
        values[site] = str(value)
    return values


def at_random(*, seed: int, **_: int) -> BaseSampler:
    """Optuna's random sampler."""
    return RandomSampler(seed=seed)


def tpe(*, seed: int, **_: int) -> BaseSampler:
    """Optuna's TPE, all sites together."""
    return TPESampler(seed=seed, multivariate=True, constant_liar=True)


def gp(*, seed: int, **_: int) -> BaseSampler:
    """Optuna's Gaussian process, for objectives with noise."""
    return GPSampler(seed=seed, deterministic_objective=False)


def nsga2(*, seed: int, trials: int) -> BaseSampler:
    """Optuna's NSGA-II, with a population that depends on the number of trials."""
    return NSGAIISampler(seed=seed, population_size=max(8, min(50, trials // 5)))
