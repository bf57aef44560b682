"""Optuna's samplers, as a study makes them: all of them are called with `seed` and `trials`."""

from __future__ import annotations

from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler


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
