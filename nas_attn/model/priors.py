"""What is believed of the variances of a metric, and of placements, before any run."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from nas_attn.model.coding import Floats

# least noise, as a share of the images' variance; largest, in units of theirs
FLOOR_SHARE = 0.8
MOST_FLOORS = 15.0
SPREAD_OF_SHARE = 1.2
SPREAD_TO_NOISE = 0.5
LEAST_SPREAD = 0.02
"""Scale of the spread over placements: of a share p (an accuracy) this times p (1 - p), in points,
.25 points at .70; in units of the noise, for a metric without a known unit; and the share of the
noise below which a spread counts as none.
"""
# the spread is half-t; with this probability half-Cauchy, so of any size
SPREAD_FREEDOMS = 3
UNUSUAL = 0.1
# prior probability that no placement differs from another; else, that two are tied
EQUAL = 0.25
TIE = 0.2
# instead of EQUAL where all start from the same given weights: there modules change little
EQUAL_PRETRAINED = 0.45
INTERACTION = 0.8
GROWING = 0.25
INTERACTION_FREEDOMS = 5
"""Placement x backbone against the spread's scale: .2 points at .25; against a spread far beyond
the usual; how firmly.
"""
# standard deviation of the log of the target's noise over the search's
TARGET_NOISE = 0.7
# half-t priors of the levels' scatter, in units of the noise
SEED_SCATTER = 3.0
BACKBONE_SCATTER = 2.0
LEVEL_FREEDOMS = 4


@dataclass(frozen=True, slots=True)
class Priors:
    """What is believed about the variances of one metric at one rung before a run is seen. In the
    metric's own unit.
    """

    # noise that the images alone give one run, where it is known
    floor: float | None
    # scale of the spread between placements; None: in proportion to the noise
    spread: float | None
    # standard deviation of values within their blocks, at least the floor: where the noise is
    # looked for
    size: float
    # the spread's scale over that of placements
    wide: float = 1.0

    @classmethod
    def of(
        cls, net: Floats, level: float, *, share: bool = False, floor: float | None = None
    ) -> Priors:
        """Returns the priors of a metric.

        Args:
            net: (runs,) values less their block's mean.
            level: the median of the values.
            share: whether the metric is from 0 to 1.
            floor: noise that the images alone give one run; None: not known.
        """
        p = min(max(level, 0.02), 0.98)
        # where all values are equal
        least = floor or 1e-9 * max(abs(level), 1e-3)
        size = max(float(np.sqrt(np.mean(net**2))) if len(net) else 0.0, least)
        return cls(floor, SPREAD_OF_SHARE / 100 * p * (1 - p) if share else None, size)

    @property
    def bounds(self) -> tuple[float, float]:
        if self.floor is None:
            return 0.003 * self.size, 8 * self.size
        return math.sqrt(FLOOR_SHARE) * 1.001 * self.floor, max(
            MOST_FLOORS * self.floor, 8 * self.size
        )

    def log_noise(self, s: Floats, below: Floats | None) -> Floats:
        """Log density of log s. With a floor f: s² = .8 f² + w², w half-Cauchy of scale f; else
        flat.

        At the target: log-normal around `below`, the noise of the search.
        """
        if below is not None:
            around = -0.5 * (np.log(s / below) / TARGET_NOISE) ** 2 - math.log(
                TARGET_NOISE * math.sqrt(2 * math.pi)
            )
            return np.asarray(
                np.where(s**2 > FLOOR_SHARE * (self.floor or 0.0) ** 2, around, -np.inf)
            )
        low = self.bounds[0] * (1 - 1e-9)
        high = self.bounds[1] * (1 + 1e-9)
        if self.floor is None:
            return np.where((s >= low) & (s <= high), -math.log(math.log(high / low)), -np.inf)
        f = self.floor
        w = np.sqrt(np.maximum(s**2 - FLOOR_SHARE * f**2, 1e-3 * f**2))
        density = math.log(2 / (math.pi * f)) - np.log1p((w / f) ** 2) + np.log(s**2 / w)
        return np.asarray(np.where(s**2 > FLOOR_SHARE * f**2, density, -np.inf))

    def usual(self, s: Floats) -> Floats:
        return self.wide * (
            SPREAD_TO_NOISE * s if self.spread is None else np.full_like(s, self.spread)
        )

    def log_spread(self, t: Floats, s: Floats, below: Floats | float) -> Floats:
        """Log density of log t; none if t is too small to count. At the target, `below` (the
        search's) widens it.
        """
        scale = np.hypot(self.usual(s), below)
        usual = log_half_t(t, scale, SPREAD_FREEDOMS)
        of_any_size = log_half_t(t, scale, 1)
        density = np.logaddexp(math.log(1 - UNUSUAL) + usual, math.log(UNUSUAL) + of_any_size)
        return np.asarray(np.where(t >= LEAST_SPREAD * s, density, -np.inf))

    def log_interaction(self, u: Floats, t: Floats, s: Floats) -> Floats:
        """Log density of log u: u² scaled inverse chi-squared. Where placements differ much, so may
        backbones in what they do.
        """
        scale = INTERACTION * np.hypot(self.usual(s), GROWING * t)
        half = INTERACTION_FREEDOMS / 2
        log_square = half * np.log(half * scale**2) - math.lgamma(half) - (1 + half) * 2 * np.log(u)
        return np.asarray(log_square - half * scale**2 / u**2 + np.log(2 * u**2))


def log_half_t(x: Floats, scale: Floats | float, n: int) -> Floats:
    """Log density of log x, x half-t of this scale and with n degrees of freedom."""
    top = math.lgamma((n + 1) / 2) - math.lgamma(n / 2) - 0.5 * math.log(n * math.pi) + math.log(2)
    return np.asarray(
        top - np.log(scale) - (n + 1) / 2 * np.log1p((x / scale) ** 2 / n) + np.log(x)
    )


@dataclass(frozen=True, slots=True)
class Beforehand:
    """What is known of placements before any run."""

    # these are bare backbones, which may differ more than placements of one backbone, and are never
    # equal
    unlike: bool = False
    # those of them that are larger networks of the same family. All that are published gain, so
    # they are expected to gain a little.
    larger: Collection[str] = ()
    # at the rung all start from the same given weights, so it is likelier that nothing differs
    pretrained: bool = False

    @property
    def equal(self) -> float:
        """The probability that nothing differs."""
        if self.unlike:
            return 0.0
        return EQUAL_PRETRAINED if self.pretrained else EQUAL


NOTHING_KNOWN = Beforehand()
