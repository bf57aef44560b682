"""Networks' mistakes, from labels and results per image: shares by class, and the
largest errors of numbers.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_attn.errors import StorageError
from nas_attn.model.runs import which_are_right
from nas_attn.storage.labels import Labels
from nas_attn.storage.records import Score

# of numbers, what an image contributes to it
ABSOLUTE_ERROR = "mae"
# most images shown on which numbers are off
MOST_ERRORS = 10
# bytes of a run's answers, unpacked
LONGEST = 2**26


def _right(run: _Read) -> NDArray[np.bool_] | None:
    """(images,) whether a run classifies each image correctly; None without results per image."""
    images = run.score.examples
    if not run.score.correct or images != len(run.labels.numbers):
        return None
    return which_are_right(run.score.correct, images)


@dataclass(frozen=True, slots=True)
class Answers:
    """A run's results on the validation split that a task keeps beside its score."""

    # classification: predicted class of each wrong image, in the images' order
    wrong: tuple[int, ...] | None = None
    counts: tuple[tuple[int, ...], ...] | None = None
    """Counts of pixels or boxes: (true class, found class). For boxes the last class means: no
    box.
    """
    # boxes or several labels: by class, 0 to 1; None: no image has it
    average_precision: tuple[float | None, ...] | None = None
    # by image, 0 to 1: share of correct pixels, or F1 of its boxes or labels
    images: tuple[float, ...] = ()
    # several labels or numbers: metric -> what each image contributes to it
    contributions: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, score: Score) -> Answers:
        """The results of a run; empty if nothing was kept. StorageError: they are damaged."""
        if score.answers is None:
            return cls()
        packed = zlib.decompressobj()
        try:
            plain: dict[str, Any] = json.loads(packed.decompress(score.answers, LONGEST))
            return cls(**{name: _tuples(value) for name, value in plain.items()})
        except (ValueError, TypeError, zlib.error) as error:
            raise StorageError(
                "the results per image in the study's database are damaged: restore it from a"
                " backup"
            ) from error


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


@dataclass(frozen=True, slots=True)
class LargeError:
    """An image on which numbers are off, and by how much each network's are, as the mean over its
    runs.
    """

    image: int
    off: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Mistakes:
    """Mistakes of the recommended network, the bare backbone and the runner-up on the validation
    split, at the last rung.
    """

    # metric of the classes: `accuracy`, `mean_iou`, `map50_95`; of numbers: `mae`
    what: str
    # of the networks, the recommended first
    keys: tuple[str, ...]
    # empty for numbers
    classes: tuple[str, ...]
    # by class; empty if unknown
    images: tuple[int, ...]
    # of each network, by class, 0 to 1
    shares: tuple[tuple[float | None, ...], ...]
    # of numbers: the images on which the first network is off most, `MOST_ERRORS` at most
    worst: tuple[LargeError, ...] = ()


@dataclass(frozen=True, slots=True)
class _Read:
    """A run's results, and of which images."""

    score: Score
    answers: Answers
    # of its own division
    labels: Labels

    def among_all(self, values: Sequence[float] | NDArray[Any]) -> NDArray[np.float64]:
        """(all images,) values of the run's images; NaN for images that it was not scored on."""
        if self.labels.images is None:
            return np.asarray(values, float)
        table = np.full(self.labels.divided, np.nan)
        table[self.labels.images] = values
        return table


def mistakes(
    labels: Labels | None,
    runs: Mapping[str, Sequence[Score]],
    what: str,
    divisions: Mapping[int, Labels] = MappingProxyType({}),
) -> Mistakes | None:
    """Finds what networks get wrong.

    Args:
        labels: (images,) of the validation split; None: they were not kept.
        runs: key of a network -> its runs, the recommended network first.
        what: the metric of a class.
        divisions: seed -> labels of its own division, where each seed has one; then images have
            their numbers among all that are divided.

    Returns:
        Mistakes class by class, or the largest errors of numbers; None without labels or results
        per image.
    """
    if labels is None:
        return None
    read = [
        [_Read(score, Answers.of(score), divisions.get(score.seed, labels)) for score in scores]
        for scores in runs.values()
    ]
    if len(read) < 2 or not all(read):
        return None
    if what == ABSOLUTE_ERROR:
        return _errors(tuple(runs), read)
    tables = [[_shares(run) for run in of] for of in read]
    if any(row is None or len(row) != len(labels.classes) for of in tables for row in of):
        return None
    counts = []
    if len(labels.numbers) and not divisions:
        counts = np.bincount(labels.numbers, minlength=len(labels.classes)).tolist()
    return Mistakes(
        what=what,
        keys=tuple(runs),
        classes=labels.classes,
        images=tuple(counts),
        shares=tuple(
            tuple(None if math.isnan(share) else share for share in _mean(of).tolist())
            for of in tables
        ),
    )


def _errors(keys: tuple[str, ...], read: Sequence[Sequence[_Read]]) -> Mistakes:
    """The images on which the first network's numbers are off most, among those that all networks
    were scored on.
    """
    # (networks, images)
    table = np.array(
        [
            _mean([run.among_all(run.answers.contributions[ABSOLUTE_ERROR]) for run in runs])
            for runs in read
        ]
    )
    known = np.flatnonzero(~np.isnan(table).any(0))
    worst = known[np.argsort(-table[0, known], kind="stable")][:MOST_ERRORS]
    errors = tuple(LargeError(int(image), tuple(table[:, image].tolist())) for image in worst)
    return Mistakes(
        what=ABSOLUTE_ERROR,
        keys=keys,
        classes=(),
        images=(),
        shares=((),) * len(keys),
        worst=errors,
    )


def _shares(run: _Read) -> NDArray[np.float64] | None:
    """(classes,) IoU, average precision or accuracy of one run; NaN for a class without examples;
    None if unknown.
    """
    if run.answers.average_precision is not None:
        # None becomes NaN
        return np.array(run.answers.average_precision, float)
    if run.answers.counts is not None:
        pixels = np.array(run.answers.counts, float)
        true = pixels.sum(1)
        both = np.diag(pixels)
        return np.where(true > 0, both / np.maximum(true + pixels.sum(0) - both, 1), np.nan)
    right = _right(run)
    if right is None:
        return None
    counts = np.bincount(run.labels.numbers, minlength=len(run.labels.classes))
    right_of_class = np.bincount(run.labels.numbers, right, len(counts))
    return np.where(counts > 0, right_of_class / np.maximum(counts, 1), np.nan)


def _mean(rows: Sequence[Any]) -> NDArray[np.float64]:
    """The mean over the rows of what is not NaN in them; NaN where all are."""
    return np.asarray(np.ma.masked_invalid(rows).mean(0).filled(np.nan))
