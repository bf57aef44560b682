"""From labels and results per image: accuracy class by class, and images that two networks classify differently."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas_attn.records import Score

SHOWN = 6  # images of each kind that are shown
OFTEN = 0.5  # two networks differ about an image where their shares of runs that are right differ by at least this


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of a split's images."""

    classes: tuple[str, ...]
    numbers: NDArray[np.int32]  # (images,): each one's class, from 0


@dataclass(frozen=True, slots=True)
class ByClass:
    """The share of each class's images that networks have right, mean over their runs."""

    classes: tuple[str, ...]
    images: tuple[int, ...]  # of each class
    values: Mapping[str, tuple[float, ...]]  # key -> share of each class, 0 to 1


@dataclass(frozen=True, slots=True)
class Example:
    """An image on which two networks differ."""

    image: int  # its number in the validation split
    bare: float  # share of the bare backbone's runs that are right, 0 to 1
    best: float  # the same of the recommended network


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as it is shown."""

    png: bytes
    label: str  # its class


@dataclass(frozen=True, slots=True)
class Examples:
    """Where two networks differ."""

    better: int  # images that the recommended network has right more often
    worse: int  # images that the bare backbone has right more often
    runs: tuple[int, int]  # runs behind that, of the bare backbone and of the recommended network
    gained: tuple[Example, ...]  # the clearest of the first kind, `SHOWN` at most
    lost: tuple[Example, ...]  # the clearest of the second kind


def by_class(labels: Labels | None, scores: Mapping[str, Sequence[Score]]) -> ByClass | None:
    """Accuracy class by class of each network's runs; None without labels or results per image."""
    if labels is None:
        return None
    images = len(labels.numbers)
    counts = np.bincount(labels.numbers, minlength=len(labels.classes))
    values = {}
    for key, runs in scores.items():
        right = _right([run for run in runs if run.examples == images], images)
        if right is not None:
            shares = np.bincount(labels.numbers, weights=right, minlength=len(counts)) / np.maximum(counts, 1)
            values[key] = tuple(shares.tolist())
    return ByClass(labels.classes, tuple(counts.tolist()), values) if values else None


def examples(bare: Iterable[Score], best: Iterable[Score]) -> Examples | None:
    """Where two networks differ, by their runs' results per image; None where one has no such results."""
    mine, theirs = [run for run in bare if run.correct], [run for run in best if run.correct]
    images = {run.examples for run in (*mine, *theirs)}
    if len(images) != 1:
        return None
    right, other = (_right(runs, *images) for runs in (mine, theirs))
    if right is None or other is None:
        return None
    difference = other - right

    def clearest(signed: NDArray[np.float64]) -> tuple[Example, ...]:
        order = np.argsort(-signed, kind="stable")[:SHOWN]
        return tuple(Example(int(i), float(right[i]), float(other[i])) for i in order if signed[i] >= OFTEN)

    return Examples(
        better=int((difference >= OFTEN).sum()),
        worse=int((difference <= -OFTEN).sum()),
        runs=(len(mine), len(theirs)),
        gained=clearest(difference),
        lost=clearest(-difference),
    )


def _right(runs: Iterable[Score], images: int) -> NDArray[np.float64] | None:
    """(images,) share of the runs that have each image right; None without results per image."""
    bits = [np.unpackbits(np.frombuffer(run.correct, np.uint8), count=images) for run in runs if run.correct]
    return np.asarray(np.mean(bits, axis=0, dtype=np.float64)) if bits else None
