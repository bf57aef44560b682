"""Accuracy class by class, from labels and results per image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas_attn.records import Score


@dataclass(frozen=True, slots=True)
class ByClass:
    """The share of each class's images that networks have right, mean over their runs."""

    classes: tuple[str, ...]
    images: tuple[int, ...]
    """Of each class."""
    values: Mapping[str, tuple[float, ...]]
    """Key -> share of each class, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of a split's images."""

    classes: tuple[str, ...]
    numbers: NDArray[np.int32]
    """(images,): each one's class, from 0."""


def by_class(labels: Labels | None, scores: Mapping[str, Sequence[Score]]) -> ByClass | None:
    """Accuracy class by class; None where there are no labels or no results per image.

    Args:
        scores: key -> the network's runs.
    """
    if labels is None:
        return None
    numbers = labels.numbers
    counts = np.bincount(numbers, minlength=len(labels.classes))
    values = {}
    for key, runs in scores.items():
        shares = [_shares(run.correct, numbers, counts) for run in runs if run.correct and run.examples == len(numbers)]
        if shares:
            values[key] = tuple(float(share) for share in np.mean(shares, axis=0))
    if not values:
        return None
    return ByClass(labels.classes, tuple(int(count) for count in counts), values)


def _shares(correct: bytes, labels: NDArray[np.int32], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    right = np.unpackbits(np.frombuffer(correct, np.uint8), count=len(labels))
    return np.bincount(labels, weights=right, minlength=len(counts)) / np.maximum(counts, 1)
