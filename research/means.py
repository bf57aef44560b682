"""Means over seeds with their intervals, and what a false discovery rate leaves shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]
LEVEL = 0.05
"""Of intervals and of the false discovery rate."""
FEWEST_SEEDS = 2
SAME = 1e-9
"""Values that differ by less are the same number."""


@dataclass(frozen=True)
class Mean:
    """Of one value for each seed, with its interval from Student's t."""

    mean: float
    half: float
    """Half of the 95 % interval."""
    seeds: int

    @property
    def shown(self) -> bool:
        """Whether the interval excludes zero."""
        return abs(self.mean) > self.half

    def __str__(self) -> str:
        return f"{self.mean:+.2f} ± {self.half:.2f}"


@dataclass(frozen=True)
class Means:
    """Of many rows of values, one for each seed. NaN: there are not enough seeds."""

    mean: Floats
    half: Floats
    """Half of the 95 % interval, from Student's t."""
    p: Floats
    """Two-sided, of a true mean of zero; 1 where all seeds have the same value."""
    seeds: NDArray[np.intp]

    def __getitem__(self, place: Any) -> Means:
        """Some of them, as arrays are indexed."""
        return Means(self.mean[place], self.half[place], self.p[place], self.seeds[place])

    def at(self, *place: int) -> Mean | None:
        """One of them; None with fewer than two seeds."""
        if self.seeds[place] < FEWEST_SEEDS:
            return None
        return Mean(float(self.mean[place]), float(self.half[place]), int(self.seeds[place]))


def means(values: ArrayLike) -> Means:
    """Over the last axis, a seed each; NaN: a seed that is not there."""
    known: Any = np.asarray(values, dtype=np.float64)
    there = np.isfinite(known)
    seeds = there.sum(axis=-1)
    sums = np.where(there, known, 0.0).sum(axis=-1)
    mean = np.where(seeds > 0, sums / np.maximum(seeds, 1), np.nan)
    rest = np.where(there, known - mean[..., None], 0.0)
    freedom = np.maximum(seeds - 1, 1)
    error = np.sqrt((rest**2).sum(axis=-1) / freedom / np.maximum(seeds, 1))
    spread = error > SAME
    t = np.divide(np.abs(mean), error, out=np.zeros_like(error), where=spread)
    enough = seeds >= FEWEST_SEEDS
    half = np.where(enough, stats.t.ppf(1 - LEVEL / 2, freedom) * error, np.nan)
    p = np.where(enough, 2 * stats.t.sf(t, freedom), np.nan)
    return Means(mean, half, p, seeds)


def mean_of(values: ArrayLike) -> Mean | None:
    """Of one row of values; None with fewer than two seeds."""
    return means(values).at()


def discoveries(p: Floats) -> NDArray[np.bool_]:
    """Which of a family of tests are shown at the false discovery rate (Benjamini and Hochberg
    1995). NaN: a test that is not made yet, which is not of the family.
    """
    shown = np.zeros(p.shape, dtype=bool)
    made = np.isfinite(p)
    if made.any():
        shown[made] = stats.false_discovery_control(p[made]) <= LEVEL
    return shown
