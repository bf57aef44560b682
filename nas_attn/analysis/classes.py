"""Accuracy class by class, from the labels that a study keeps and its results per image."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas_attn.records import Score
from nas_attn.storage import StudyStore


@dataclass(frozen=True, slots=True)
class ByClass:
    """The share of each class's images that networks have right, mean over their runs."""

    classes: tuple[str, ...]
    images: tuple[int, ...]
    """Of each class."""
    values: Mapping[str, tuple[float, ...]]
    """Key -> share of each class, 0 to 1."""


def by_class(store: StudyStore, way: str, scores: Mapping[str, Sequence[Score]]) -> ByClass | None:
    """Accuracy class by class; None where there are no labels or no results per image.

    Args:
        way: the way of training under which the scores stand.
        scores: key -> the network's runs.
    """
    text = store.labels.get(way)
    if text is None:
        return None
    kept = json.loads(text)
    labels = np.frombuffer(zlib.decompress(base64.b64decode(kept["labels"])), "<i4")
    counts = np.bincount(labels, minlength=len(kept["classes"]))
    values = {}
    for key, runs in scores.items():
        shares = [_shares(run.correct, labels, counts) for run in runs if run.correct and run.examples == len(labels)]
        if shares:
            values[key] = tuple(float(share) for share in np.mean(shares, axis=0))
    if not values:
        return None
    return ByClass(tuple(kept["classes"]), tuple(int(count) for count in counts), values)


def _shares(correct: bytes, labels: NDArray[np.int32], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    right = np.unpackbits(np.frombuffer(correct, np.uint8), count=len(labels))
    return np.bincount(labels, weights=right, minlength=len(counts)) / np.maximum(counts, 1)
