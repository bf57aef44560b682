"""From a list of runs to the arrays that the model is fitted to."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_attn.model.coding import Codes, Coding, Floats, Ints, array_content
from nas_attn.model.new_images import noise_floor
from nas_attn.model.priors import NOTHING_KNOWN, Beforehand, Priors
from nas_attn.model.runs import TARGET_RUNG, TESTED, WITNESS, ScoredRun
from nas_attn.recipe.tables import is_share, is_share_of_images
from nas_attn.space.placement import Placement

# runs that the model is fitted to at most; so many of each placement stay, or none
MOST_FITTED = 400
REPEATED_RUNS = 8
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
# scale of the spread between different backbones, in units of that over placements: 1 point at .70
UNLIKE = 4.0
# what a larger network is expected to gain, in units of that: before a run, it gains with two to
# one
LARGER_GAIN = 0.4

# rung, placement's key, seed and backbone of a run
_At = tuple[int, str, int, int]


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
        """Returns data of one rung, each value a block of its own, with priors in proportion to the
        noise.

        Args:
            coding: scaled to the placements in `codes`.
            codes: (placements, sites) of the evaluated placements.
            place: (values,) the row in `codes` of each value.
            value: (values,) more is better.
            weight: (values,) variance of the noise over that of a full run.
        """
        priors = Priors.of(value - value.mean(), float(np.median(value)))
        none = np.zeros_like(place)
        each = np.arange(len(place))
        return cls(coding, codes, place, none, none, each, each, value, weight, (priors,))

    @property
    def content(self) -> Hashable:
        """Equal for equal data."""
        values = (getattr(self, field.name) for field in fields(self))
        return tuple(map(_content, values))

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


def _content(value: Coding | NDArray[Any] | Sequence[Priors] | float) -> Hashable:
    """Of one field of the data."""
    if isinstance(value, Coding):
        return value.content
    if isinstance(value, np.ndarray):
        return array_content(value)
    if isinstance(value, Sequence):
        return tuple(value)
    return value


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


@dataclass(frozen=True, slots=True)
class _Rung:
    """The runs of one rung, and their values as the model takes them."""

    runs: Sequence[ScoredRun]
    # (runs,): higher is better, broken runs cut, without what is expected beforehand
    values: Floats
    # (runs,): what was taken off each value for that
    off: Floats
    # (runs,): how broken each is, 0 to 1
    broken: Floats
    priors: Priors
    # whether the values are shares, from 0 to 1
    share: bool
    # the values at which the runs lie, where they lie at two
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
    """Makes arrays of the runs of the rungs up to `rung`; of equal runs (placement, seed, backbone,
    rung) the last one counts.

    Args:
        runs: of this metric, at least one of them at `rung`.
        placements: explicit ones by key, run or not.
        metric: its name.
        lower_is_better: whether less of it is better.
        rung: the last one, which answers are about.
        beforehand: what is known of the placements.

    Returns:
        At most MOST_FITTED runs, and what was done to them.
    """
    unique = _newest({(r.rung, r.key, r.seed, r.backbone): r for r in runs if r.rung <= rung})
    evaluated = _best_informed(list(unique.values()))
    used = [unique[at] for at in sorted(unique) if unique[at].key in evaluated]
    keys = (*sorted(evaluated), *sorted(placements.keys() - evaluated))
    coding, codes = Coding.of([placements[key] for key in keys], len(evaluated))
    numbers = sorted({run.rung for run in used})
    by_rung = [[run for run in used if run.rung == number] for number in numbers]
    rungs = [_rung_of(mine, metric, beforehand, lower_is_better) for mine in by_rung]
    data = Data(
        coding,
        codes,
        place=np.searchsorted(sorted(evaluated), [run.key for run in used]),
        rung=np.searchsorted(numbers, [run.rung for run in used]),
        backbone=_numbered([run.backbone for run in used]),
        block=_blocks(used, beforehand),
        run=_numbered([(run.key, run.seed, run.backbone) for run in used]),
        value=np.concatenate([rung.values for rung in rungs]),
        weight=np.ones(len(used)),
        priors=_in_proportion([rung.priors for rung in rungs], beforehand),
        target=TARGET_RUNG in numbers[1:],
        tested=TESTED in numbers[1:],
        equal=beforehand.equal,
        witness=WITNESS in numbers,
    )
    last = rungs[-1]
    return Assembled(
        metric,
        lower_is_better,
        data,
        keys,
        last=last.runs,
        broken=_cut_off(last),
        values=_values(rungs[data.searched :]),
        limits=(0.0, 1.0) if last.share else (-math.inf, math.inf),
        two=last.two,
    )


def _values(rungs: Sequence[_Rung]) -> dict[str, list[float]]:
    """Key -> values of its runs at the last of these rungs that it reached."""
    values = dict[str, list[float]]()
    for rung in rungs:
        values |= _by_key(rung.runs, np.array([run.value for run in rung.runs]))
    return values


def _blocks(runs: Sequence[ScoredRun], beforehand: Beforehand) -> Ints:
    """(runs,) the block of each. Runs of a block share the luck of their seed; those of different
    backbones do not.
    """
    return _numbered([(*run.block, run.key if beforehand.unlike else "") for run in runs])


def _rung_of(
    runs: Sequence[ScoredRun], metric: str, beforehand: Beforehand, lower_is_better: bool
) -> _Rung:
    plain = (-1.0 if lower_is_better else 1.0) * np.array([run.value for run in runs])
    block = _blocks(runs, beforehand)
    two = _two_values(runs, plain, block)
    cut = plain
    broken = np.zeros(len(plain))
    if two is None:
        cut, broken = _cut(plain, block)
    floor = None
    share = False
    if runs[0].rung != WITNESS:
        floor = noise_floor(runs, steps=is_share_of_images(metric))
        share = is_share(metric) and bool(((plain >= 0) & (plain <= 1)).all())
    priors = Priors.of(_net(cut, block), float(np.median(cut)), share=share, floor=floor)
    # taken off the runs, put back on the answers
    expected = LARGER_GAIN * UNLIKE * (priors.spread or 0.0)
    values = cut - expected * np.array([run.key in beforehand.larger for run in runs])
    return _Rung(runs, values, plain - values, broken, priors, share, two)


def _in_proportion(priors: Sequence[Priors], beforehand: Beforehand) -> tuple[Priors, ...]:
    """The rungs' priors, none of whose sizes is tiny beside the largest."""
    least = LEAST_SIZE * max(prior.size for prior in priors)
    wide = UNLIKE if beforehand.unlike else 1.0
    return tuple(replace(prior, size=max(prior.size, least), wide=wide) for prior in priors)


def _cut_off(rung: _Rung) -> dict[str, tuple[float, float]]:
    """Key -> means of what was taken off its runs, and of how broken they are; of those of which
    something was.
    """
    off = _by_key(rung.runs, rung.off)
    broken = _by_key(rung.runs, rung.broken)
    return {
        key: (float(np.mean(taken)), float(np.mean(broken[key])))
        for key, taken in off.items()
        if any(taken)
    }


def _by_key(runs: Sequence[ScoredRun], values: Floats) -> dict[str, list[float]]:
    values_by_key = defaultdict[str, list[float]](list)
    for run, value in zip(runs, values.tolist(), strict=True):
        values_by_key[run.key].append(value)
    return values_by_key


def _newest(runs: Mapping[_At, ScoredRun]) -> dict[_At, ScoredRun]:
    """Of each placement at each rung the runs of the highest seeds: as many of each as fit in, at
    least REPEATED.
    """
    groups = defaultdict[tuple[int, str], list[_At]](list)
    for at in sorted(runs):
        groups[at[:2]].append(at)
    sizes = np.array([len(group) for group in groups.values()])
    repeated = sizes[sizes > REPEATED_RUNS]
    # for these; the others fill the rest
    room = max(MOST_FITTED - sizes.sum() + repeated.sum(), MOST_FITTED // 2)
    fit = (
        size
        for size in range(sizes.max(), REPEATED_RUNS, -1)
        if np.minimum(repeated, size).sum() <= room
    )
    size = next(fit, REPEATED_RUNS)
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
    mended = values.copy()
    broken = np.zeros(len(values))
    for number in np.unique(block):
        mine = block == number
        if mine.sum() >= FEWEST_TO_CUT:
            mended[mine] = without_broken(values[mine])
            off = mended[mine] - values[mine]
            left = np.where(off > 0, np.median(values[mine]) - mended[mine], 1.0)
            broken[mine] = np.minimum(off / left, 1.0)
    return mended, broken


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
