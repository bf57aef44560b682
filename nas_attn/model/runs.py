"""From a list of runs to the arrays that the model is fitted to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nas_attn.model.coding import Codes, Coding
from nas_attn.model.facts import TARGET, Run
from nas_attn.model.images import noise_floor
from nas_attn.model.priors import Priors
from nas_attn.tasks import SHARES

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

MOST = 600
"""Runs that the model is fitted to at most: those of the placements with the most runs at the highest rungs."""
FEWEST = 8
"""Runs of a block from which on one of them can be called broken."""
BROKEN = 3.0
"""A run this many times as far below its block's median as the best tenth are above it is broken: cut there."""
LEAST_SIZE = 0.02
"""A rung's values differ at least by this share of another's: of a few runs they may not differ at all."""
APART, SHARE, LEAST = 4.0, 0.1, 3
"""Runs lie at two values if the gap is this many standard deviations, with this share, and number, of runs at either value."""


@dataclass(frozen=True, slots=True)
class Data:
    """Runs of all rungs as arrays (runs,); values turned so that higher is better."""

    coding: Coding
    codes: Codes
    """(evaluated placements, sites)"""
    place: Ints
    """Which evaluated placement."""
    rung: Ints
    """0 to rungs - 1; the last one is what answers are about."""
    backbone: Ints
    block: Ints
    """Seed and backbone."""
    run: Ints
    """Equal for one training at several rungs."""
    value: Floats
    weight: Floats
    """Variance of the run's noise over that of a full run."""
    priors: Sequence[Priors]
    """One per rung."""
    target: bool = False
    """Whether the last rung trains otherwise than those below: what they say of it is to be learned."""

    @classmethod
    def simple(cls, coding: Coding, codes: Codes, place: Ints, value: Floats, weight: Floats) -> Data:
        """Of one rung and one block, with priors in proportion to the noise."""
        none, priors = np.zeros_like(place), Priors.of(value - value.mean(), float(np.median(value)))
        return cls(coding, codes, place, none, none, none, np.arange(len(place)), value, weight, (priors,))

    @property
    def rungs(self) -> int:
        return len(self.priors)

    @property
    def backbones(self) -> int:
        return int(self.backbone.max(initial=0)) + 1

    @property
    def repeated_blocks(self) -> bool:
        """Whether any block has several runs at the last rung (of the search or the target), and there are several blocks."""
        last = self.block[self.rung >= self.rungs - 1 - self.target]
        return len(np.unique(self.block)) > 1 and len(np.unique(last)) < len(last)

    def part(self, chosen: Ints) -> Data:
        """Only some of the evaluated placements."""
        mine, names = np.isin(self.place, chosen), ("rung", "backbone", "block", "run", "value", "weight")
        rows = {name: getattr(self, name)[mine] for name in names}
        return replace(self, codes=self.codes[chosen], place=np.searchsorted(chosen, self.place[mine]), **rows)


@dataclass(frozen=True, slots=True)
class Assembled:
    """The runs up to a rung, and what was done to them."""

    data: Data
    keys: tuple[str, ...]
    """All placements, the evaluated ones first, in the order of `data.codes`."""
    last: tuple[Run, ...]
    """Runs of the last rung."""
    rung: int
    excess: Mapping[str, float]
    """Key -> mean of what was cut off its runs at the last rung, as they were broken; negative."""
    values: Mapping[str, Sequence[float]]
    """Key -> values of its runs at the last rung; of a placement that did not reach the target, those at the rung below."""
    two: tuple[float, float] | None
    """The values at which the last rung's runs lie, where they lie at two."""


def assemble(
    runs: Sequence[Run], placements: Mapping[str, str], *, metric: str, lower_is_better: bool, rung: int
) -> Assembled:
    """The runs of the rungs up to `rung`; of equal runs (placement, seed, backbone, rung) the last one counts."""
    unique = {(r.rung, r.key, r.seed, r.backbone): r for r in runs if r.rung <= rung}
    evaluated = _best_informed(list(unique.values()))
    used = [unique[at] for at in sorted(unique) if unique[at].key in evaluated]
    keys = (*sorted(evaluated), *sorted(placements.keys() - evaluated))
    coding, codes = Coding.of([placements[key] for key in keys], len(evaluated))
    numbers = sorted({run.rung for run in used})
    values, excess, priors, two = np.zeros(len(used)), dict[str, float](), list[Priors](), None
    for number in numbers:
        at = [i for i, run in enumerate(used) if run.rung == number]
        mine = [used[i] for i in at]
        plain = (-1.0 if lower_is_better else 1.0) * np.array([run.value for run in mine])
        block = _numbered([(r.seed, r.backbone) for r in mine])
        two = two_values(mine, plain, block)
        values[at] = cut = _cut(plain, block) if two is None else plain
        floor = noise_floor(mine) if metric == "accuracy" else None
        share = metric in SHARES and bool(((plain >= 0) & (plain <= 1)).all())
        priors.append(Priors.of(_net(cut, block), float(np.median(cut)), share=share, floor=floor))
        excess = {key: float(np.mean(found)) for key, found in by_key(mine, plain - cut).items()}
    largest = max(p.size for p in priors)
    data = Data(
        coding,
        codes,
        place=np.searchsorted(sorted(evaluated), [run.key for run in used]),
        rung=np.searchsorted(numbers, [run.rung for run in used]),
        backbone=_numbered([run.backbone for run in used]),
        block=_numbered([(run.seed, run.backbone) for run in used]),
        run=_numbered([(run.key, run.seed, run.backbone) for run in used]),
        value=values,
        weight=np.ones(len(used)),
        priors=tuple(replace(p, size=max(p.size, LEAST_SIZE * largest)) for p in priors),
        target=rung == TARGET and len(numbers) > 1,
    )
    last, *below = ([run for run in used if run.rung == number] for number in numbers[: -2 - data.target : -1])
    known = dict[str, list[float]]()
    for some in [*below, last]:
        known |= by_key(some, np.array([run.value for run in some]))
    return Assembled(data, keys, tuple(last), numbers[-1], excess, known, two)


def by_key(runs: Sequence[Run], values: Floats) -> dict[str, list[float]]:
    """Key -> the values of its runs."""
    found = defaultdict[str, list[float]](list)
    for run, value in zip(runs, values.tolist(), strict=True):
        found[run.key].append(value)
    return found


def _best_informed(runs: Sequence[Run]) -> set[str]:
    rungs = defaultdict[str, list[int]](list)
    for run in runs:
        rungs[run.key].append(run.rung)
    best = sorted(rungs, key=lambda key: (-max(rungs[key]), -len(rungs[key]), key))
    return {key for key, count in zip(best, np.cumsum([len(rungs[key]) for key in best]), strict=True) if count <= MOST}


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


def _cut(values: Floats, block: Ints) -> Floats:
    """Values with broken runs cut, so that a network that does not train does not set the scale of all others."""
    found = values.copy()
    for number in np.unique(block):
        mine = block == number
        if mine.sum() >= FEWEST:
            found[mine] = without_broken(values[mine])
    return found


def without_broken(values: Floats) -> Floats:
    """Values (more is better) of which the bad ones are cut."""
    middle, high = np.quantile(values, [0.5, 0.9])
    return np.maximum(values, middle - BROKEN * (high - middle)) if high > middle else values


def two_values(runs: Sequence[Run], values: Floats, block: Ints) -> tuple[float, float] | None:
    """The values at which runs lie, the lower one first, where those of one block lie at both, and those of one placement too.

    Then a network either finds what its task needs or does not, from one seed to the next, and a low run is no broken one.

    Args:
        runs: of one rung.
        values: (runs,) theirs.
        block: (runs,) their blocks, whose levels may differ.
    """
    least = max(LEAST, int(np.ceil(SHARE * len(values))))
    ordered = np.sort(values)
    gaps = np.diff(ordered)[least - 1 : len(values) - least]
    if not len(gaps):
        return None
    at = least + int(gaps.argmax())
    low, high = ordered[:at], ordered[at:]
    around = np.sqrt((low.var() * len(low) + high.var() * len(high)) / len(values))
    if gaps.max() <= APART * around:
        return None

    def at_both(names: Ints, least: int) -> bool:
        """Whether so many runs of one name are at each of the values."""
        upper = np.bincount(names, weights=values >= high[0])
        return bool((np.minimum(upper, np.bincount(names) - upper) >= least).any())

    both = at_both(_numbered([run.key for run in runs]), 1) and at_both(block, 2)
    return (float(low.mean()), float(high.mean())) if both else None
