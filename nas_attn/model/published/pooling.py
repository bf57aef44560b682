"""What the published comparisons say together: a mixed model, fitted by REML.

    gain = extent * (mean + depth + setting + module + source + group) + rest

Setting (task, place, start and form), module, source and group (source, data set, network) are
random effects; source and group are effects within a setting. So rows of one source count as
related, a setting's estimate lies between its own rows and the mean of all settings, and a
situation that no row has gets the spread of settings into its interval. Depth in the backbone is a
slope, held near zero by a normal prior. Modules in a part of the backbone have the square root of
its share as their extent: parts gain less than all of it, and more than their share. The rest is
one pair of trainings: its noise, and what is its own.

The spreads maximise the restricted likelihood (Patterson and Thompson 1971) with a penalty that
keeps them above zero where there are few sources or settings (Chung et al. 2013: a gamma density
of shape 2 and a wide scale). Effects and their errors are those of Henderson's equations (1950).
Intervals are for the next comparison, in a network and a source that are not in the table (Higgins
et al. 2009): Student's t with the number of sources less two degrees of freedom. What else was
tried: research/notes/evidence.md.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from nas_attn.model.published.table import (
    PublishedComparison,
    Situation,
    comparisons,
    trained_pairs,
)

# Share of the next comparisons that an interval is to hold.
COVERAGE = 0.8
# Random effects: name -> what a row belongs to.
LEVELS: dict[str, Callable[[PublishedComparison], object]] = {
    "setting": lambda row: row.situation.setting,
    "module": lambda row: row.situation.module,
    "source": lambda row: (row.situation.setting, row.source),
    "group": lambda row: (row.situation.setting, row.group),
}
# Of these, each level lies in one level of the next; they are the last of LEVELS.
NESTED = ("group", "source")
# What has a spread; the last is that of the rest.
SPREADS = (*LEVELS, "rest")
# Points; where the search for each spread begins, and the factors of its steps.
START_SD = 0.7
STEPS = (2.0, 1.3, 1.1, 1.03)
# Points; the scale of the spreads' gamma density.
PENALTY_SD = 2.0
FEWEST_DEGREES = 2
# Of a task: one source does not say how far another one may be from it.
FEWEST_SOURCES = 2
# Points from input to output: what the slope is expected to be at most.
SLOPE_SD = 0.5

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ExpectedGain:
    """What the next comparison in a situation would show, points."""

    mean: float
    low: float
    """With `high`, the interval that holds a share of `COVERAGE`."""
    high: float
    probability: float
    """That the gain is above zero."""
    sd: float
    """Of the prediction."""
    error: float
    """Of the mean over sources and networks, so without what a new one adds."""
    rows: int
    """Pairs of trainings with this task, place, start and form."""
    groups: int
    """Networks on data sets among them."""
    sources: tuple[str, ...]
    """Where these rows are from; empty: the gain is an extrapolation from other settings."""
    modules: tuple[str, ...]
    """Which these rows have, the most frequent first."""
    own_module: int
    """Those rows that have this module; 0: what is said of it is said of other modules."""
    own_groups: int
    """Networks on data sets among the rows of this module."""
    own_sources: tuple[str, ...]
    """Where the rows of this module are from."""


@dataclass(frozen=True)
class PooledFit:
    """The fitted model; `fit` makes it."""

    rows: tuple[PublishedComparison, ...]
    spreads: dict[str, float]
    """Standard deviations, points, of `SPREADS`."""
    effects: Array
    """Mean and slopes, then random effects."""
    covariance: Array
    """Of the effects' errors."""
    places: dict[tuple[str, object], int]
    """(random effect, its level) -> index in `effects`."""
    degrees: int
    """Of freedom of Student's t."""

    def gain(self, situation: Situation) -> ExpectedGain:
        """The prediction for a network and a source that are not in the table."""
        return self._predicted([situation], situation)

    def usual_gain(self, setting: Situation) -> ExpectedGain:
        """The same for a module and a depth as the rows of this setting have them on average."""
        like = self._like(setting)
        return self._predicted([row.situation for row in like] or [setting], setting)

    def _like(self, situation: Situation) -> list[PublishedComparison]:
        return [row for row in self.rows if row.situation.setting == situation.setting]

    def _predicted(self, mixed: Sequence[Situation], situation: Situation) -> ExpectedGain:
        """Of the mean of these situations, which share their setting."""
        weights = np.zeros(len(self.effects))
        unseen = 0.0
        extents = [_extent(one) for one in mixed]
        for one, extent in zip(mixed, extents, strict=True):
            share = extent / len(mixed)
            fixed = _fixed(one)
            weights[: len(fixed)] += share * np.array(fixed)
            for name, level in (("setting", one.setting), ("module", one.module)):
                index = self.places.get((name, level))
                if index is None:
                    unseen += extent * share * self.spreads[name] ** 2
                else:
                    weights[index] += share
        mean = float(weights @ self.effects)
        variance = float(weights @ self.covariance @ weights) + unseen
        extent = sum(extents) / len(extents)
        new = sum((extent * self.spreads[name]) ** 2 for name in ("source", "group"))
        sd = math.sqrt(variance + new + self.spreads["rest"] ** 2)
        half = sd * quantile(COVERAGE, self.degrees)
        like = self._like(situation)
        own = [row for row in like if row.situation.module == situation.module]
        counts = Counter(row.situation.module for row in like)
        return ExpectedGain(
            mean=mean,
            low=mean - half,
            high=mean + half,
            probability=above_zero(mean / sd, self.degrees),
            sd=sd,
            error=math.sqrt(variance),
            rows=len(like),
            groups=len({row.group for row in like}),
            sources=tuple(sorted({row.source for row in like})),
            modules=tuple(name for name, _ in counts.most_common()),
            own_module=len(own),
            own_groups=len({row.group for row in own}),
            own_sources=tuple(sorted({row.source for row in own})),
        )


@lru_cache(maxsize=1)
def pooled() -> PooledFit:
    """The fit of the package's table."""
    return fit(comparisons())


def fit(rows: Sequence[PublishedComparison]) -> PooledFit:
    """Fits the tasks of which there are two sources; rows that score one pair of trainings count
    once.
    """
    pairs = _of_known_tasks(trained_pairs(rows))
    equations = _Equations(pairs)
    log_sd = np.full(len(SPREADS), math.log(START_SD))
    best = equations.likelihood(np.exp(log_sd))
    for factor in STEPS:
        step = math.log(factor)
        moved = True
        while moved:
            moved = False
            for index in range(len(SPREADS)):
                for sign in (1.0, -1.0):
                    tried = log_sd.copy()
                    tried[index] += sign * step
                    value = equations.likelihood(np.exp(tried))
                    if value > best:
                        log_sd = tried
                        best = value
                        moved = True
                        break
    effects, covariance = equations.solved(np.exp(log_sd))
    sources = len({row.source for row in pairs})
    return PooledFit(
        rows=pairs,
        spreads=dict(zip(SPREADS, np.exp(log_sd).tolist(), strict=True)),
        effects=effects,
        covariance=covariance,
        places=equations.places,
        degrees=max(sources - 2, FEWEST_DEGREES),
    )


def _of_known_tasks(pairs: Sequence[PublishedComparison]) -> tuple[PublishedComparison, ...]:
    sources: dict[str, set[str]] = defaultdict(set)
    for pair in pairs:
        sources[pair.situation.task].add(pair.source)
    return tuple(pair for pair in pairs if len(sources[pair.situation.task]) >= FEWEST_SOURCES)


class _Equations:
    """Henderson's equations of some rows.

    A fit asks for some hundred likelihoods. If a BLAS divides each among threads, which wait for
    each other, it takes many times the processor's time, above all beside other work. So the matrix
    is summed over the few effects of each row, and nested effects are absorbed before it is solved:
    what is left is too small for threads.
    """

    def __init__(self, rows: Sequence[PublishedComparison]) -> None:
        fixed = np.array([_fixed(row.situation) for row in rows])
        self.fixed = fixed.shape[1]
        self.places: dict[tuple[str, object], int] = {}
        kinds: list[int] = []
        for number, (name, level_of) in enumerate(LEVELS.items()):
            for row in rows:
                key = (name, level_of(row))
                if key not in self.places:
                    self.places[key] = self.fixed + len(kinds)
                    kinds.append(number)
        self._kind = np.array(kinds)
        self._starts = [
            min(index for (effect, _), index in self.places.items() if effect == name)
            for name in NESTED
        ]
        # of each row: its effects, and how often each counts
        effects = np.array([self._effects_of(row) for row in rows])
        counts = np.hstack([fixed, np.ones((len(rows), len(LEVELS)))])
        counts *= np.array([[_extent(row.situation)] for row in rows])
        size = self.fixed + len(kinds)
        self._design = np.zeros((len(rows), size))
        np.put_along_axis(self._design, effects, counts, axis=1)
        self._cells = (effects[:, :, None] * size + effects[:, None, :]).ravel()
        self._products = counts[:, :, None] * counts[:, None, :]
        self._gain = np.array([row.gain for row in rows])
        self._variance = np.array([(row.error or 0.0) ** 2 for row in rows])

    def _effects_of(self, row: PublishedComparison) -> list[int]:
        """The numbers of a row's effects: all fixed ones, then a level of each random one."""
        levels = [self.places[name, level_of(row)] for name, level_of in LEVELS.items()]
        return [*range(self.fixed), *levels]

    def likelihood(self, sd: Array) -> float:
        """The logarithm of the penalised restricted likelihood, but for a constant."""
        noise = self._variance + sd[-1] ** 2
        prior = sd[self._kind] ** 2
        left = self._left(noise, prior)
        right = self._design.T @ (self._gain / noise)
        log_determinant = 0.0
        explained = 0.0
        for start in self._starts:
            own, shares, left = _absorbed(left, start)
            log_determinant += float(np.log(own).sum())
            explained += float((right[start:] ** 2 / own).sum())
            right = right[:start] - right[start:] @ shares
        log_determinant += float(np.linalg.slogdet(left)[1])
        explained += float(right @ np.linalg.solve(left, right))
        misfit = float(self._gain @ (self._gain / noise)) - explained
        spread = float(np.log(noise).sum() + np.log(prior).sum()) + log_determinant
        return -0.5 * (spread + misfit) + float(np.sum(np.log(sd) - sd / PENALTY_SD))

    def solved(self, sd: Array) -> tuple[Array, Array]:
        """(effects, covariance of their errors)."""
        noise = self._variance + sd[-1] ** 2
        covariance = _inverse(self._left(noise, sd[self._kind] ** 2), self._starts)
        effects: Array = covariance @ (self._design.T @ (self._gain / noise))
        return effects, covariance

    def _left(self, noise: Array, prior: Array) -> Array:
        size = self._design.shape[1]
        products = self._products / noise[:, None, None]
        left = np.bincount(self._cells, products.ravel(), size**2).astype(np.float64)
        left = left.reshape(size, size)
        random = np.arange(self.fixed, len(left))
        left[random, random] += 1 / prior
        slopes = np.arange(1, self.fixed)
        left[slopes, slopes] += 1 / SLOPE_SD**2
        return left


def _absorbed(left: Array, start: int) -> tuple[Array, Array, Array]:
    """Takes the effects from `start` on out of equations in which they have nothing in common with
    each other: (their diagonal, what they share with the other effects as a part of it, the
    equations of the others).
    """
    own = np.diag(left)[start:]
    shared = left[start:, :start]
    shares = shared / own[:, None]
    # einsum, unlike @, uses no threads
    return own, shares, left[:start, :start] - np.einsum("ij,ik->jk", shared, shares)


def _inverse(left: Array, starts: Sequence[int]) -> Array:
    """The inverse, with the effects from each of these places on absorbed in turn."""
    if not starts:
        return np.asarray(np.linalg.inv(left), dtype=np.float64)
    own, shares, others = _absorbed(left, starts[0])
    inner = _inverse(others, starts[1:])
    corner = -np.einsum("ij,jk->ik", shares, inner)
    outer = np.diag(1 / own) - np.einsum("ij,kj->ik", corner, shares)
    return np.block([[inner, corner.T], [corner, outer]])


def _fixed(situation: Situation) -> list[float]:
    """For mean and depth; the latter is 0 for a whole backbone, a neck and a head."""
    depth = (situation.begin + situation.end) / 2 - 0.5
    return [1.0, depth]


def _extent(situation: Situation) -> float:
    """1 for modules everywhere in the backbone, in the neck or in the head; else less."""
    return math.sqrt(situation.end - situation.begin)


def above_zero(standardised: float, degrees: int) -> float:
    """The share of Student's t above minus this value, by the series for whole degrees (Abramowitz
    and Stegun 26.7.3 and 26.7.4).
    """
    angle = math.atan(abs(standardised) / math.sqrt(degrees))
    cosine = math.cos(angle)
    odd = degrees % 2 == 1
    term = cosine if odd else 1.0
    total = 0.0
    for k in range(1 if odd else 0, degrees - 1, 2):
        total += term
        term *= cosine**2 * (k + 1) / (k + 2)
    inside = math.sin(angle) * total
    if odd:
        inside = 2 / math.pi * (angle + inside)
    return 0.5 + math.copysign(inside / 2, standardised)


def quantile(coverage: float, degrees: int) -> float:
    """Half the width of the interval of Student's t that holds this share."""
    low = 0.0
    high = 100.0
    for _ in range(60):
        middle = (low + high) / 2
        if 2 * above_zero(middle, degrees) - 1 < coverage:
            low = middle
        else:
            high = middle
    return high
