"""From a list of runs to the arrays of each rung."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas_attn.analysis.evidence.data import Data, Points
from nas_attn.analysis.evidence.facts import Run
from nas_attn.analysis.evidence.images import noise_floor
from nas_attn.analysis.evidence.priors import Priors
from nas_attn.analysis.evidence.two_values import two_values
from nas_attn.tasks import SHARES

Floats = NDArray[np.float64]

FEWEST = 8
"""Runs of a block from which on one of them can be called broken."""
BROKEN = 3.0
"""A run this many times as far below its block's median as the best tenth are above it is broken: cut there."""


@dataclass(frozen=True, slots=True)
class RungRuns:
    """The runs of one rung, ready for the model; values turned so that higher is better."""

    rung: int
    runs: tuple[Run, ...]
    data: Data
    priors: Priors
    excess: Floats
    """(placements,) mean of what was cut off a placement's runs, as they were broken; 0 or negative."""
    below: bool
    """Whether there is a rung below."""
    raw: Mapping[str, tuple[float, int]]
    """Key -> (mean of its runs, their number), as they were scored."""
    two: tuple[float, float] | None
    """The values at which runs lie, where they lie at two."""


def assemble(
    runs: Iterable[Run], keys: Sequence[str], *, metric: str, lower_is_better: bool, last: int | None
) -> list[RungRuns]:
    """The rungs up to `last` (default: the highest there is), from the lowest.

    A run whose value is not finite, or of a placement that is not in `keys`, is left out; of runs that are the same
    (placement, seed, backbone, rung) the last one counts.
    """
    unique = {(r.key, r.seed, r.backbone, r.rung): r for r in runs if math.isfinite(r.value)}
    index = {key: i for i, key in enumerate(keys)}
    known = [unique[at] for at in sorted(unique) if unique[at].key in index]
    numbers = sorted({run.rung for run in known if last is None or run.rung <= last})
    backbones = {b: i for i, b in enumerate(sorted({run.backbone for run in known if run.rung in numbers}))}
    used = [run for run in known if run.rung in numbers]
    points = Points.of(
        np.array([index[run.key] for run in used], dtype=np.intp),
        np.array([backbones[run.backbone] for run in used], dtype=np.intp),
        len(keys),
    )
    found: list[RungRuns] = []
    below: dict[tuple[str, int, int], float] = {}
    for number in numbers:
        mine = tuple(run for run in known if run.rung == number)
        sign = -1.0 if lower_is_better else 1.0
        values = sign * np.array([run.value for run in mine])
        block = _blocks(mine)
        two = two_values(mine, values, block)
        cut = _cut(values, block) if two is None else values
        place = np.array([index[run.key] for run in mine], dtype=np.intp)
        point = points.find(place, np.array([backbones[run.backbone] for run in mine], dtype=np.intp))
        earlier = np.array([below.get((r.key, r.seed, r.backbone), math.nan) for r in mine])
        data = Data(points, point, block, cut, earlier)
        share = metric in SHARES and bool(((values >= 0) & (values <= 1)).all())
        floor = noise_floor(mine) if metric == "accuracy" else None
        priors = Priors.of(data.net(cut), float(np.median(cut)), share=share, floor=floor)
        count = np.maximum(np.bincount(place, minlength=len(keys)), 1)
        excess = np.bincount(place, weights=values - cut, minlength=len(keys)) / count
        found.append(RungRuns(number, mine, data, priors, excess, bool(below), _raw(mine), two))
        below = {(r.key, r.seed, r.backbone): float(v) for r, v in zip(mine, cut, strict=True)}
    return found


def _blocks(runs: Sequence[Run]) -> NDArray[np.intp]:
    """(runs,) number of each run's block: its seed and backbone.

    Alone in its block, a run says nothing about differences. Where that is the rule and not the exception (an evaluator
    that takes a new seed for each run), seeds have nothing in common, and all such runs of a backbone are one block.
    """
    sizes = Counter((run.seed, run.backbone) for run in runs)
    alone: defaultdict[int, int] = defaultdict(int)
    for (_, backbone), size in sizes.items():
        alone[backbone] += size == 1
    total = Counter(run.backbone for run in runs)
    pooled = {backbone for backbone, count in alone.items() if 2 * count > total[backbone]}
    names = [
        (-1, 1, run.backbone)
        if run.backbone in pooled and sizes[run.seed, run.backbone] == 1
        else (run.seed, 0, run.backbone)
        for run in runs
    ]
    numbers = {name: i for i, name in enumerate(sorted(set(names)))}
    return np.array([numbers[name] for name in names], dtype=np.intp)


def _cut(values: Floats, block: NDArray[np.intp]) -> Floats:
    """Values with broken runs cut, so that a network that does not train does not set the scale of all others."""
    found = values.copy()
    for number in np.unique(block):
        mine = block == number
        if mine.sum() >= FEWEST:
            middle, high = np.quantile(values[mine], [0.5, 0.9])
            if high > middle:
                found[mine] = np.maximum(values[mine], middle - BROKEN * (high - middle))
    return found


def _raw(runs: Sequence[Run]) -> dict[str, tuple[float, int]]:
    values: defaultdict[str, list[float]] = defaultdict(list)
    for run in runs:
        values[run.key].append(run.value)
    return {key: (math.fsum(v) / len(v), len(v)) for key, v in values.items()}
