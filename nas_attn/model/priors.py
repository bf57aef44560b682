"""What is believed about the variances before a run is seen. In the metric's own unit."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FLOOR_SHARE = 0.8
"""Share of the images' variance that a run's noise has at least; not all of it, as it is estimated."""
SPREAD_OF_SHARE = 1.2
"""Scale of the spread of a share p (an accuracy) over placements: this times p (1 - p), in points: .25 points at .70."""
SPREAD_TO_NOISE = 0.5
"""The same in units of the noise, for a metric without a known unit."""
LEAST_SPREAD = 0.02
"""Spreads below this share of the noise count as none."""
EQUAL_SHARE, EQUAL_OTHER = 0.25, 0.2
"""Prior probability that no placement differs from another."""
INTERACTION = 0.8
"""Placement x backbone against the spread's scale: .2 points at .25."""
GROWING = 0.25
"""The same against a spread that is far beyond the usual."""
INTERACTION_FREEDOMS = 5
"""Degrees of freedom with which that is believed."""
LEVEL, LEVEL_FREEDOMS = 2.0, 4
"""Scale and degrees of freedom of the half-t prior of the levels' scatter, in units of the noise."""
MOST_FLOORS = 15.0
"""The largest noise considered, in units of what the images give."""


@dataclass(frozen=True, slots=True)
class Priors:
    """Priors of one metric at one rung."""

    floor: float | None
    """Noise that the images alone give one run, where it is known."""
    spread: float | None
    """Scale of the spread between placements; None: in proportion to the noise."""
    size: float
    """Standard deviation of the values within their blocks, at least the floor: where the noise is looked for."""

    @classmethod
    def of(cls, net: Floats, level: float, *, share: bool = False, floor: float | None = None) -> Priors:
        """From values less their block's mean (runs,) and the median of the values; `share`: the metric is from 0 to 1."""
        p = min(max(level, 0.02), 0.98)
        least = floor or 1e-9 * max(abs(level), 1e-3)  # where all values are equal
        size = max(float(np.sqrt(np.mean(net**2))) if len(net) else 0.0, least)
        return cls(floor, SPREAD_OF_SHARE / 100 * p * (1 - p) if share else None, size)

    @property
    def equal(self) -> float:
        return EQUAL_OTHER if self.spread is None else EQUAL_SHARE

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the largest noise to consider."""
        if self.floor is None:
            return 0.003 * self.size, 8 * self.size
        return math.sqrt(FLOOR_SHARE) * 1.001 * self.floor, max(MOST_FLOORS * self.floor, 8 * self.size)

    def log_noise(self, s: Floats) -> Floats:
        """Log density of log s. With a floor f: s² = .8 f² + w², w half-Cauchy of scale f; else flat."""
        low, high = self.bounds[0] * (1 - 1e-9), self.bounds[1] * (1 + 1e-9)
        if self.floor is None:
            return np.where((s >= low) & (s <= high), -math.log(math.log(high / low)), -np.inf)
        f = self.floor
        w = np.sqrt(np.maximum(s**2 - FLOOR_SHARE * f**2, 1e-3 * f**2))
        density = math.log(2 / (math.pi * f)) - np.log1p((w / f) ** 2) + np.log(s**2 / w)
        return np.asarray(np.where(s**2 > FLOOR_SHARE * f**2, density, -np.inf))

    def usual(self, s: Floats) -> Floats:
        """Scale of the spread, given the noise."""
        return SPREAD_TO_NOISE * s if self.spread is None else np.full_like(s, self.spread)

    def log_spread(self, t: Floats, s: Floats, below: Floats | float = 0.0) -> Floats:
        """Log density of log t: t half-Cauchy, where it is not so small that it is none; at the target as large as `below` it."""
        scale = np.hypot(self.usual(s), below)
        density = math.log(2 / math.pi) - np.log(scale) - np.log1p((t / scale) ** 2) + np.log(t)
        return np.asarray(np.where(t >= LEAST_SPREAD * s, density, -np.inf))

    def log_interaction(self, u: Floats, t: Floats, s: Floats) -> Floats:
        """Log density of log u: u² scaled inverse chi-squared. Where placements differ by much more than is usual, so may
        what they do on one backbone and the next."""
        scale = INTERACTION * np.hypot(self.usual(s), GROWING * t)
        half = INTERACTION_FREEDOMS / 2
        log_square = half * np.log(half * scale**2) - math.lgamma(half) - (1 + half) * 2 * np.log(u)
        return np.asarray(log_square - half * scale**2 / u**2 + np.log(2 * u**2))


def log_level(d: Floats) -> Floats:
    """Log density of log d, d the scatter of levels in units of the noise: half-t."""
    n = LEVEL_FREEDOMS
    top = math.lgamma((n + 1) / 2) - math.lgamma(n / 2) - 0.5 * math.log(n * math.pi) + math.log(2 / LEVEL)
    return np.asarray(top - (n + 1) / 2 * np.log1p((d / LEVEL) ** 2 / n) + np.log(d))
