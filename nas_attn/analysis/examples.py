"""Validation images that the recommended network and the bare backbone classify differently."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas_attn.records import Score

SHOWN = 6
"""Images of each kind that are shown."""
OFTEN = 0.5
"""Two networks differ about an image where their shares of runs that are right differ by at least this."""


@dataclass(frozen=True, slots=True)
class Example:
    """An image on which two networks differ."""

    image: int
    """Its number in the validation split."""
    bare: float
    """Share of the bare backbone's runs that are right, 0 to 1."""
    best: float
    """The same of the recommended network."""


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as it is shown."""

    png: bytes
    label: str
    """Its class."""


@dataclass(frozen=True, slots=True)
class Examples:
    """Where two networks differ."""

    better: int
    """Images that the recommended network has right more often."""
    worse: int
    """Images that the bare backbone has right more often."""
    runs: tuple[int, int]
    """Runs behind that, of the bare backbone and of the recommended network."""
    gained: tuple[Example, ...]
    """The clearest of the first kind, `SHOWN` at most."""
    lost: tuple[Example, ...]
    """The clearest of the second kind."""


def examples(bare: Iterable[Score], best: Iterable[Score]) -> Examples | None:
    """Where two networks differ, by their runs' results per image; None where one has no such results."""
    mine, theirs = [run for run in bare if run.correct], [run for run in best if run.correct]
    images = {run.examples for run in (*mine, *theirs)}
    if not mine or not theirs or len(images) != 1:
        return None
    (count,) = images
    right, other = _shares(mine, count), _shares(theirs, count)
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


def _shares(runs: list[Score], count: int) -> NDArray[np.float64]:
    bits = [np.unpackbits(np.frombuffer(run.correct or b"", np.uint8), count=count) for run in runs]
    return np.asarray(np.mean(bits, axis=0, dtype=np.float64))
