"""What results per image say: the noise that the finite validation set gives, and what new images would change."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence

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

    From the images that only one of two placements with the same seed gets right (median over pairs). None where no two
    have results per image.

    Args:
        runs: of one rung.
    """
    largest = max(_groups(runs).values(), key=len, default=[])[:MOST_COMPARED]
    if len(largest) < 2:
        return None
    variances = _pair_variances(largest)[np.triu_indices(len(largest), k=1)]
    half = float(np.median(variances)) / 2
    return float(np.sqrt(half)) if half > 0 else None


class NewImages:
    """Variances that exchanging the validation images would add.

    Args:
        runs: of one rung.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self._bits: dict[str, dict[tuple[int, int], bytes]] = defaultdict(dict)
        self._images = max((run.examples for run in runs if run.correct is not None), default=0)
        for run in runs:
            if run.correct is not None and run.examples == self._images:
                self._bits[run.key][run.seed, run.backbone] = run.correct
        self._runs = [run for run in runs if run.correct is not None and run.examples == self._images]
        self._pooled: float | None = None
        self._value: float | None = None

    @property
    def known(self) -> bool:
        return len(self._runs) > 1

    def value(self) -> float:
        """Variance of a placement's expected score over sets of images: that of an image's expected score, over their number.

        The covariance of two runs' results over the images, of different seeds where there are any.
        """
        if self._value is None:
            picked = self._runs[:: max(len(self._runs) // MOST_COMPARED, 1)][:MOST_COMPARED]
            covariance = np.cov(np.array([_unpack(run.correct or b"", self._images) for run in picked]), bias=True)
            seeds = np.array([run.seed for run in picked])
            others = np.triu(np.ones_like(covariance), k=1) > 0
            apart = others & (seeds[:, None] != seeds)
            self._value = max(float(covariance[apart if apart.any() else others].mean()), 0.0) / self._images
        return self._value

    def gain(self, a: str, b: str) -> float:
        """The same for the difference of two placements: the covariance of their differences with two seeds.

        Where they do not share two seeds, the mean over pairs of placements that do; where there are none, the variance of
        single differences, which is too much rather than too little.
        """
        if a == b:
            return 0.0
        found = self._repeated(a, b)
        return self._typical() if found is None else found

    def _repeated(self, a: str, b: str) -> float | None:
        left, right = self._bits.get(a, {}), self._bits.get(b, {})
        shared = sorted(left.keys() & right.keys())
        if len(shared) < 2:
            return None
        differences = np.array([_unpack(left[s], self._images) - _unpack(right[s], self._images) for s in shared])
        own = differences.var(axis=1).sum()
        crossed = (differences.sum(axis=0).var() - own) / (len(shared) * (len(shared) - 1))
        return max(float(crossed), 0.0) / self._images

    def _typical(self) -> float:
        if self._pooled is None:
            repeated = sorted((k for k in self._bits if len(self._bits[k]) > 1), key=lambda k: (-len(self._bits[k]), k))
            pairs = itertools.islice(itertools.combinations(repeated, 2), MOST_PAIRS)
            found = [variance for a, b in pairs if (variance := self._repeated(a, b)) is not None]
            if found:
                self._pooled = float(np.mean(found))
            else:
                self._pooled = 2 * (noise_floor(self._runs) or 0.0) ** 2
        return self._pooled


def _groups(runs: Sequence[Run]) -> Mapping[tuple[int, int], list[Run]]:
    """(seed, backbone) -> its runs with results on as many images as most have."""
    images = max((run.examples for run in runs if run.correct is not None), default=0)
    found: dict[tuple[int, int], list[Run]] = defaultdict(list)
    for run in runs:
        if run.correct is not None and run.examples == images:
            found[run.seed, run.backbone].append(run)
    return found


def _pair_variances(runs: Sequence[Run]) -> Floats:
    """(runs, runs) variance of the difference of two runs' accuracies, as far as the images give it."""
    images = runs[0].examples
    right = np.array([_unpack(run.correct or b"", images) for run in runs], dtype=np.float32)
    accuracy = right.mean(axis=1, dtype=np.float64)
    one_only = accuracy[:, None] + accuracy - 2 * (right @ right.T).astype(np.float64) / images
    return np.asarray((one_only - (accuracy[:, None] - accuracy) ** 2) / images)


def _unpack(packed: bytes, images: int) -> Floats:
    return np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=images).astype(np.float32)
