"""What results per image say: the noise that the finite validation set gives, and what new images would change."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nas_attn.model.facts import Run

Floats = NDArray[np.floating]

MOST_COMPARED = 64
"""Runs whose results per image are compared with each other."""
MOST_PAIRS = 40
"""Pairs of placements whose repeated differences are looked at for what new images would change."""


def noise_floor(runs: Sequence[Run]) -> float | None:
    """Standard deviation that the images give one run, net of what its seed gives all: sqrt of half a difference's variance.

    From the images that only one of two placements with the same seed gets right (median over pairs), at least one image.
    None where the number of images is not known.

    Args:
        runs: of one rung.
    """
    known = max((run.examples for run in runs), default=0)
    least = math.sqrt(0.5) / known if known else None
    blocks = defaultdict[tuple[int, int], list[Floats]](list)
    for run in _with_images(runs):
        blocks[run.seed, run.backbone].append(_results(run))
    largest = max(blocks.values(), key=len, default=[])[:MOST_COMPARED]
    if len(largest) < 2:
        return least
    right, images = np.array(largest), len(largest[0])
    accuracy = right.mean(axis=1, dtype=np.float64)
    one_only = accuracy[:, None] + accuracy - 2 * (right @ right.T).astype(np.float64) / images
    variances = (one_only - (accuracy[:, None] - accuracy) ** 2) / images
    half = float(np.median(variances[np.triu_indices(len(right), k=1)])) / 2
    return max(math.sqrt(max(half, 0.0)), math.sqrt(0.5) / images)


class NewImages:
    """Variances that exchanging the validation images would add.

    Args:
        runs: of one rung.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = _with_images(runs)
        self._bits = defaultdict[str, dict[tuple[int, int], Run]](dict)
        for run in self._runs:
            self._bits[run.key][run.seed, run.backbone] = run

    @property
    def known(self) -> bool:
        return len(self._runs) > 1

    def gain(self, a: str, b: str) -> float:
        """For the difference of two placements: the covariance of their differences with two seeds.

        Where they do not share two seeds, the mean over pairs of placements that do; where there are none, the variance of
        single differences, which is too much rather than too little.
        """
        if a == b:
            return 0.0
        found = self._repeated(a, b)
        return self._typical if found is None else found

    def _repeated(self, a: str, b: str) -> float | None:
        left, right = self._bits.get(a, {}), self._bits.get(b, {})
        shared = sorted(left.keys() & right.keys())
        if len(shared) < 2:
            return None
        differences = np.array([_results(left[s]) - _results(right[s]) for s in shared])
        own = differences.var(axis=1).sum()
        crossed = (differences.sum(axis=0).var() - own) / (len(shared) * (len(shared) - 1))
        return max(float(crossed), 0.0) / int(differences.shape[1])

    @cached_property
    def _typical(self) -> float:
        repeated = sorted((k for k in self._bits if len(self._bits[k]) > 1), key=lambda k: (-len(self._bits[k]), k))
        pairs = itertools.islice(itertools.combinations(repeated, 2), MOST_PAIRS)
        found = [variance for a, b in pairs if (variance := self._repeated(a, b)) is not None]
        return float(np.mean(found)) if found else 2 * (noise_floor(self._runs) or 0.0) ** 2


def _with_images(runs: Sequence[Run]) -> list[Run]:
    """Those with results on the largest number of images."""
    images = max((run.examples for run in runs if run.correct is not None), default=0)
    return [run for run in runs if run.correct is not None and run.examples == images]


def _results(run: Run) -> Floats:
    packed = np.frombuffer(run.correct or b"", dtype=np.uint8)
    return np.unpackbits(packed, count=run.examples).astype(np.float32)
