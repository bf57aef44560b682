"""Optuna's samplers as `optuna.create_study` makes them, for comparison with ours."""

from __future__ import annotations

from optuna.samplers import BaseSampler, TPESampler


def default_tpe(*, seed: int, trials: int) -> BaseSampler:
    """TPE with all its defaults, which Optuna takes for several objectives, too."""
    return TPESampler(seed=seed)
