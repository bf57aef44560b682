"""From a list of runs to the arrays that the model is fitted to, and what is believed of their
variances before.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nas_attn.model.coding import Codes, Coding, Floats, Ints
from nas_attn.records import Placement
from nas_attn.tables import is_share, is_share_of_images

# (images,) what each image contributes to a run's value: right or wrong, 1 or 0, of an accuracy
Results = NDArray[np.float32]
Contributions = Callable[[], Results]

# the rung of a second witness: another score of the same runs on the same images, such as the Brier
# score beside accuracy, higher is better. It says something of the answers' metric as far as the
# study shows it to.
WITNESS = -1
# the rung of runs that train as the network finally will be
TARGET = 1_000_000
# the rung of the same trainings, scored on the test images; above all others
TESTED = 2_000_000
# runs that the model is fitted to at most; so many of each placement stay, or none
MOST_FITTED = 400
REPEATED = 8
# runs of a block in which broken runs are cut, at least
FEWEST_TO_CUT = 8
# a broken run is cut so many times as far below the median as the best tenth lies above it
BROKEN = 3.0
# a rung's values differ at least by this share of another's
LEAST_SIZE = 0.02
# two values: gap in standard deviations; share and number of runs at either
APART = 4.0
SHARE_SCATTER = 0.1
LEAST_AT_EITHER = 3
# runs whose results per image are compared; pairs looked at for new images
MOST_RUNS_COMPARED = 64
MOST_PAIRS = 40
# pairs of seeds for an image, over all images and pairs of placements, that tell of a covariance
FEWEST_IN_COMMON = 400

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
# scale of the spread between different backbones, in units of that over placements: 1 point at .70
UNLIKE = 4.0
# what a larger network is expected to gain, in units of that: before a run, it gains with two to
# one
LARGER_GAIN = 0.4
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
BACKBONES = 2.0
LEVEL_FREEDOMS = 4


# rung, placement's key, seed and backbone of a run
_At = tuple[int, str, int, int]


@dataclass(frozen=True, slots=True)
class ScoredRun:
    """One metric of one run of a placement (`key`) at one rung."""

    key: str
    seed: int
    # levels of training in the order of their worth; the answers are about the last one
    rung: int
    value: float
    # which of the study's backbones it started from; 0 where there is one, or none
    backbone: int = 0
    # of an accuracy: right or wrong per validation image, as bits (numpy.packbits order)
    correct: bytes | None = None
    # validation images behind the value; 0 where unknown
    examples: int = 0
    # what it was computed in: another one changes a result as much as another seed does
    arithmetic: str = ""
    # of another metric than an accuracy: computes what each image contributes
    contributions: Contributions | None = None
    # where each seed has validation images of its own: which these are among all of them; else None
    images: Ints | None = field(default=None, compare=False, repr=False)
    # of how many, training images included
    divided: int = 0

    @property
    def has_images(self) -> bool:
        """Whether it is known what each image contributes."""
        return self.correct is not None or self.contributions is not None

    @property
    def block(self) -> tuple[int, int, str]:
        """What it has in common with the other runs of its block."""
        return self.seed, self.backbone, self.arithmetic


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
        """From values less their block's mean (runs,) and the median of the values; `share`: the
        metric is from 0 to 1.
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
class Data:
    """Runs of all rungs as arrays (runs,); values turned so that higher is better."""

    coding: Coding
    # (evaluated placements, sites)
    codes: Codes
    # which evaluated placement
    place: Ints
    # 0 to rungs - 1, in this order; the last one is what answers are about
    rung: Ints
    backbone: Ints
    # seed, backbone and arithmetic
    block: Ints
    # equal for one training at several rungs
    run: Ints
    value: Floats
    # variance of the run's noise over that of a full run
    weight: Floats
    # one per rung
    priors: Sequence[Priors]
    # whether the last rung trains otherwise than those below, which may say little of it
    target: bool = False
    # whether one more rung follows: the runs of the rung below, scored on other images
    tested: bool = False
    # prior probability that no placement differs; 0 for different backbones
    equal: float = 0.0
    # whether the first rung is a second witness to the next one, of the same runs
    witness: bool = False

    @classmethod
    def simple(
        cls, coding: Coding, codes: Codes, place: Ints, value: Floats, weight: Floats
    ) -> Data:
        """Of one rung, each value a block of its own, with priors in proportion to the noise."""
        priors = Priors.of(value - value.mean(), float(np.median(value)))
        none = np.zeros_like(place)
        each = np.arange(len(place))
        return cls(coding, codes, place, none, none, each, each, value, weight, (priors,))

    @property
    def rungs(self) -> int:
        return len(self.priors)

    @property
    def searched(self) -> int:
        """The last rung of the search: its noise is the unit."""
        return self.rungs - 1 - self.target - self.tested

    @property
    def backbones(self) -> int:
        return int(self.backbone.max(initial=0)) + 1


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


@dataclass(frozen=True, slots=True)
class Assembled:
    """The runs up to a rung, and what was done to them."""

    metric: str
    lower_is_better: bool
    data: Data
    # all placements, the evaluated ones first, in the order of `data.codes`
    keys: tuple[str, ...]
    # runs of the last rung
    last: Sequence[ScoredRun]
    broken: Mapping[str, tuple[float, float]]
    """Key -> mean of what was cut off its runs at the last rung (negative) or is expected of it
    beforehand (positive), and how broken they are on average, 0 to 1.
    """
    values: Mapping[str, Sequence[float]]
    """Key -> values of its runs at the last rung; of a placement that did not reach the target,
    those at the rung below.
    """
    # of an expected score: 0 and 1 for a share, else infinite
    limits: tuple[float, float]
    # the values at which the last rung's runs lie, where they lie at two
    two: tuple[float, float] | None


def assemble(
    runs: Sequence[ScoredRun],
    placements: Mapping[str, Placement],
    *,
    metric: str,
    lower_is_better: bool,
    rung: int,
    beforehand: Beforehand = NOTHING_KNOWN,
) -> Assembled:
    """The runs of the rungs up to `rung`; of equal runs (placement, seed, backbone, rung) the last
    one counts.
    """

    def block_of(run: ScoredRun) -> tuple[Hashable, ...]:
        """Runs of a block share the luck of their seed; those of different backbones do not."""
        return (*run.block, run.key if beforehand.unlike else "")

    unique = _newest({(r.rung, r.key, r.seed, r.backbone): r for r in runs if r.rung <= rung})
    evaluated = _best_informed(list(unique.values()))
    used = [unique[at] for at in sorted(unique) if unique[at].key in evaluated]
    keys = (*sorted(evaluated), *sorted(placements.keys() - evaluated))
    coding, codes = Coding.of([placements[key] for key in keys], len(evaluated))
    numbers = sorted({run.rung for run in used})
    by_rung = [[run for run in used if run.rung == number] for number in numbers]
    values = list[Floats]()
    priors = list[Priors]()
    for mine in by_rung:
        plain = (-1.0 if lower_is_better else 1.0) * np.array([run.value for run in mine])
        block = _numbered([block_of(run) for run in mine])
        two = _two_values(mine, plain, block)
        cut, broken = _cut(plain, block) if two is None else (plain, np.zeros(len(plain)))
        own = mine[0].rung != WITNESS
        floor = noise_floor(mine, steps=is_share_of_images(metric)) if own else None
        share = own and is_share(metric) and bool(((plain >= 0) & (plain <= 1)).all())
        priors.append(Priors.of(_net(cut, block), float(np.median(cut)), share=share, floor=floor))
        # taken off the runs, put back on the answers
        expected = LARGER_GAIN * UNLIKE * (priors[-1].spread or 0.0)
        cut = cut - expected * np.array([run.key in beforehand.larger for run in mine])
        values.append(cut)
    largest = max(p.size for p in priors)
    wide = UNLIKE if beforehand.unlike else 1.0
    data = Data(
        coding,
        codes,
        place=np.searchsorted(sorted(evaluated), [run.key for run in used]),
        rung=np.searchsorted(numbers, [run.rung for run in used]),
        backbone=_numbered([run.backbone for run in used]),
        block=_numbered([block_of(run) for run in used]),
        run=_numbered([(run.key, run.seed, run.backbone) for run in used]),
        value=np.concatenate(values),
        weight=np.ones(len(used)),
        priors=tuple(replace(p, size=max(p.size, LEAST_SIZE * largest), wide=wide) for p in priors),
        target=TARGET in numbers[1:],
        tested=TESTED in numbers[1:],
        equal=beforehand.equal,
        witness=WITNESS in numbers,
    )
    known = dict[str, list[float]]()
    for some in by_rung[data.searched :]:
        known |= _by_key(some, np.array([run.value for run in some]))
    off = _by_key(by_rung[-1], plain - cut)
    how = _by_key(by_rung[-1], broken)
    cut_off = {
        key: (float(np.mean(off[key])), float(np.mean(how[key]))) for key in off if any(off[key])
    }
    limits = (0.0, 1.0) if share else (-math.inf, math.inf)
    return Assembled(metric, lower_is_better, data, keys, by_rung[-1], cut_off, known, limits, two)


def _by_key(runs: Sequence[ScoredRun], values: Floats) -> dict[str, list[float]]:
    found = defaultdict[str, list[float]](list)
    for run, value in zip(runs, values.tolist(), strict=True):
        found[run.key].append(value)
    return found


def _newest(runs: Mapping[_At, ScoredRun]) -> dict[_At, ScoredRun]:
    """Of each placement at each rung the runs of the highest seeds: as many of each as fit in, at
    least REPEATED.
    """
    groups = defaultdict[tuple[int, str], list[_At]](list)
    for at in sorted(runs):
        groups[at[:2]].append(at)
    sizes = np.array([len(group) for group in groups.values()])
    repeated = sizes[sizes > REPEATED]
    # for these; the others fill the rest
    room = max(MOST_FITTED - sizes.sum() + repeated.sum(), MOST_FITTED // 2)
    fit = (
        size
        for size in range(sizes.max(), REPEATED, -1)
        if np.minimum(repeated, size).sum() <= room
    )
    size = next(fit, REPEATED)
    return {at: runs[at] for group in groups.values() for at in group[-size:]}


def _best_informed(runs: Sequence[ScoredRun]) -> set[str]:
    """Of more than MOST_FITTED, the placements with the most runs at the highest rungs."""
    rungs = defaultdict[str, list[int]](list)
    for run in runs:
        rungs[run.key].append(run.rung)
    best = sorted(rungs, key=lambda key: (-max(rungs[key]), -len(rungs[key]), key))
    return {
        key
        for key, count in zip(best, np.cumsum([len(rungs[key]) for key in best]), strict=True)
        if count <= MOST_FITTED
    }


def _numbered(names: Sequence[Hashable]) -> Ints:
    """(n,) the number of each name in their order."""
    numbers = {name: i for i, name in enumerate(sorted(set(names)))}  # type: ignore[type-var]
    return np.array([numbers[name] for name in names], dtype=np.intp)


def _net(values: Floats, block: Ints) -> Floats:
    """Values less their block's mean; where most blocks have one run, less the mean of all."""
    size = np.bincount(block)
    if 2 * (size == 1).sum() > len(values):
        return np.asarray(values - values.mean())
    return np.asarray(values - (np.bincount(block, weights=values) / np.maximum(size, 1))[block])


def _cut(values: Floats, block: Ints) -> tuple[Floats, Floats]:
    """Values with broken runs cut, so that a network that does not train does not set the scale of
    all others.

    And how broken each run is: what was cut off over what was left of its distance below the
    median, at most 1.
    """
    found = values.copy()
    broken = np.zeros(len(values))
    for number in np.unique(block):
        mine = block == number
        if mine.sum() >= FEWEST_TO_CUT:
            found[mine] = without_broken(values[mine])
            off = found[mine] - values[mine]
            left = np.where(off > 0, np.median(values[mine]) - found[mine], 1.0)
            broken[mine] = np.minimum(off / left, 1.0)
    return found, broken


def without_broken(values: Floats) -> Floats:
    """Values (more is better) of which the bad ones are cut."""
    middle, high = np.quantile(values, [0.5, 0.9])
    return np.maximum(values, middle - BROKEN * (high - middle)) if high > middle else values


def _two_values(
    runs: Sequence[ScoredRun], values: Floats, block: Ints
) -> tuple[float, float] | None:
    """The two values, the lower first, at which runs lie, those of one block and of one placement
    at both; None without such.
    """
    least = max(LEAST_AT_EITHER, int(np.ceil(SHARE_SCATTER * len(values))))
    ordered = np.sort(values)
    gaps = np.diff(ordered)[least - 1 : len(values) - least]
    if not len(gaps):
        return None
    at = least + int(gaps.argmax())
    low = ordered[:at]
    high = ordered[at:]
    around = np.sqrt((low.var() * len(low) + high.var() * len(high)) / len(values))
    if gaps.max() <= APART * around:
        return None

    def at_both(names: Ints, least: int) -> bool:
        upper = np.bincount(names, weights=values >= high[0])
        return bool((np.minimum(upper, np.bincount(names) - upper) >= least).any())

    both = at_both(_numbered([run.key for run in runs]), 1) and at_both(block, 2)
    return (float(low.mean()), float(high.mean())) if both else None


def noise_floor(runs: Sequence[ScoredRun], *, steps: bool = True) -> float | None:
    """Standard deviation of a run by its images: by how much two placements of a seed differ from
    image to image; None if unknown.

    `steps`: whether values move in steps of one image, so that there is a least one.
    """
    known = max((run.examples for run in runs), default=0)
    least = math.sqrt(0.5) / known if known and steps else None
    blocks = defaultdict[tuple[int, int, str], list[ScoredRun]](list)
    for run in _with_images(runs):
        blocks[run.block].append(run)
    largest = max(blocks.values(), key=len, default=[])[:MOST_RUNS_COMPARED]
    if len(largest) < 2:
        return least
    results = np.array([_results(run) for run in largest])
    images = int(results.shape[1])
    mean = results.mean(axis=1, dtype=np.float64)
    # for right and wrong: the same as the mean
    square = (results**2).mean(axis=1, dtype=np.float64)
    product = (results @ results.T).astype(np.float64) / images
    differences = square[:, None] + square - 2 * product
    variances = (differences - (mean[:, None] - mean) ** 2) / images
    half = float(np.median(variances[np.triu_indices(len(results), k=1)])) / 2
    return max(math.sqrt(max(half, 0.0)), math.sqrt(0.5) / images)


class NewImages:
    """Variances that exchanging the validation images would add to runs of one rung."""

    def __init__(self, runs: Sequence[ScoredRun]) -> None:
        self.runs = _with_images(runs)
        self._runs = defaultdict[str, dict[tuple[int, int, str], ScoredRun]](dict)
        for run in self.runs:
            self._runs[run.key][run.block] = run

    def gain(self, a: str, b: str) -> float:
        """Covariance of two placements' differences with two seeds, else the mean over such pairs,
        else the variance of one. Where each seed has images of its own, see `_redrawn`.
        """
        if self.runs[0].images is not None:
            return 0.0 if a == b else self._redrawn
        found = 0.0 if a == b else self._repeated(a, b)
        return self._typical if found is None else found

    def _repeated(self, a: str, b: str) -> float | None:
        left = self._runs.get(a, {})
        right = self._runs.get(b, {})
        shared = sorted(left.keys() & right.keys())
        if len(shared) < 2:
            return None
        differences = np.array([_results(left[s]) - _results(right[s]) for s in shared])
        own = differences.var(axis=1).sum()
        crossed = (differences.sum(axis=0).var() - own) / (len(shared) * (len(shared) - 1))
        return max(float(crossed), 0.0) / int(differences.shape[1])

    @cached_property
    def _redrawn(self) -> float:
        """What exchanging all images would add, where each seed draws the validation images anew.

        The scatter over seeds holds nearly all of what the images do. It lacks that the same images
        come back: a difference that an image makes with all seeds is in each mean. So the mean over
        any number of seeds keeps the variance c / n, for n images in all and the covariance c of an
        image's difference with two seeds, which the images in both divisions tell. Without such,
        nothing is known of c, and the correlation of two seeds is taken to be the share of the
        images that they have in common (Nadeau and Bengio 2003, "Inference for the generalization
        error", Machine Learning 52): of one run's variance v, this leaves v m / (n - m) for m
        images of a division.
        """
        known = [run for run in self.runs if run.images is not None]
        images = max(run.divided for run in known)
        found = [self._in_common(a, b, images) for a, b in self._pairs]
        products = sum(product for product, _ in found)
        count = sum(number for _, number in found)
        if count >= FEWEST_IN_COMMON:
            return max(products / count, 0.0) / images
        validated = float(np.mean([run.examples for run in known]))
        variance = 2 * (noise_floor(self.runs) or 0.0) ** 2
        return variance * validated / max(images - validated, 1.0)

    def _in_common(self, a: str, b: str, images: int) -> tuple[float, int]:
        """Over images in the divisions of two seeds each: the sum of products of the differences of
        two placements with the two seeds, and their number.
        """
        left = self._runs.get(a, {})
        right = self._runs.get(b, {})
        total = np.zeros(images)
        squares = np.zeros(images)
        seen = np.zeros(images)
        for block in sorted(left.keys() & right.keys()):
            at = left[block].images
            # `_with_images` has left the others out
            assert at is not None
            difference = _results(left[block]) - _results(right[block])
            difference = difference - difference.mean()
            total[at] += difference
            squares[at] += difference**2
            seen[at] += 1
        return float((total**2 - squares).sum()), int((seen * (seen - 1)).sum())

    @property
    def _pairs(self) -> list[tuple[str, str]]:
        """Pairs of placements that ran more than once, those with the most runs first."""
        seeds = {key: len(found) for key, found in self._runs.items() if len(found) > 1}
        pairs = itertools.combinations(sorted(seeds, key=lambda key: (-seeds[key], key)), 2)
        return list(itertools.islice(pairs, MOST_PAIRS))

    @cached_property
    def _typical(self) -> float:
        found = [self._repeated(a, b) for a, b in self._pairs]
        known = [variance for variance in found if variance is not None]
        return float(np.mean(known)) if known else 2 * (noise_floor(self.runs) or 0.0) ** 2


def _with_images(runs: Sequence[ScoredRun]) -> list[ScoredRun]:
    """Runs whose results per image can be compared: of the same images, or of a seed's own."""
    drawn = [run for run in runs if run.has_images and run.images is not None]
    if drawn:
        return [run for run in drawn if run.images is not None and len(run.images) == run.examples]
    images = max((run.examples for run in runs if run.has_images), default=0)
    return [run for run in runs if run.has_images and run.examples == images]


def _results(run: ScoredRun) -> Results:
    if run.contributions is not None:
        return run.contributions()
    packed = np.frombuffer(run.correct or b"", dtype=np.uint8)
    return np.unpackbits(packed, count=run.examples).astype(np.float32)
