"""What the images of a split do to a run: its least noise, and what other images would add."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from nas_attn.model.runs import Results, ScoredRun, which_are_right

# runs whose results per image are compared; pairs looked at for new images
MOST_RUNS_COMPARED = 64
MOST_PAIRS = 40
# pairs of seeds for an image, over all images and pairs of placements, that tell of a covariance
FEWEST_IN_COMMON = 400


def noise_floor(runs: Sequence[ScoredRun], *, steps: bool = True) -> float | None:
    """Standard deviation of a run by its images: by how much two placements of a seed differ from
    image to image; None if unknown.

    `steps`: whether values move in steps of one image, so that there is a least one.
    """
    most = max((run.examples for run in runs), default=0)
    least = math.sqrt(0.5) / most if most and steps else None
    blocks = defaultdict[tuple[int, int, str], list[ScoredRun]](list)
    for run in _with_images(runs):
        blocks[run.block].append(run)
    largest = max(blocks.values(), key=len, default=[])[:MOST_RUNS_COMPARED]
    if len(largest) < 2:
        return least
    results = np.array([_results(run) for run in largest])
    images = int(results.shape[1])
    mean = results.mean(axis=1, dtype=np.float64)
    # for right and wrong: the same as the mean
    square = (results**2).mean(axis=1, dtype=np.float64)
    product = (results @ results.T).astype(np.float64) / images
    differences = square[:, None] + square - 2 * product
    variances = (differences - (mean[:, None] - mean) ** 2) / images
    half = float(np.median(variances[np.triu_indices(len(results), k=1)])) / 2
    unit = 1.0
    if largest[0].contributions is not None:
        # those of an error have its unit
        unit = min(1.0, float(results.std()))
    # nothing is known of it where each image counts the same in all runs
    return max(math.sqrt(max(half, 0.0)), unit * math.sqrt(0.5) / images) or None


class NewImages:
    """Variances that exchanging the validation images would add to runs of one rung."""

    def __init__(self, runs: Sequence[ScoredRun]) -> None:
        self.runs = _with_images(runs)
        self._runs = defaultdict[str, dict[tuple[int, int, str], ScoredRun]](dict)
        for run in self.runs:
            self._runs[run.key][run.block] = run

    def gain(self, a: str, b: str) -> float:
        """Covariance of two placements' differences with two seeds, else the mean over such pairs,
        else the variance of one. Where each seed has images of its own, see `_redrawn`.
        """
        if self.runs[0].images is not None:
            return 0.0 if a == b else self._redrawn
        variance = 0.0 if a == b else self._repeated(a, b)
        return self._typical if variance is None else variance

    def _repeated(self, a: str, b: str) -> float | None:
        left = self._runs.get(a, {})
        right = self._runs.get(b, {})
        shared = sorted(left.keys() & right.keys())
        if len(shared) < 2:
            return None
        differences = np.array([_results(left[s]) - _results(right[s]) for s in shared])
        own = differences.var(axis=1).sum()
        crossed = (differences.sum(axis=0).var() - own) / (len(shared) * (len(shared) - 1))
        return max(float(crossed), 0.0) / int(differences.shape[1])

    @cached_property
    def _redrawn(self) -> float:
        """What exchanging all images would add, where each seed draws the validation images anew.

        The scatter over seeds holds nearly all of what the images do. It lacks that the same images
        come back: a difference that an image makes with all seeds is in each mean. So the mean over
        any number of seeds keeps the variance c / n, for n images in all and the covariance c of an
        image's difference with two seeds, which the images in both divisions tell. Without such,
        nothing is known of c, and the correlation of two seeds is taken to be the share of the
        images that they have in common (Nadeau and Bengio 2003, "Inference for the generalization
        error", Machine Learning 52): of one run's variance v, this leaves v m / (n - m) for m
        images of a division.
        """
        judged = [run for run in self.runs if run.images is not None]
        images = max(run.divided for run in judged)
        parts = [self._in_common(a, b, images) for a, b in self._pairs]
        products = sum(product for product, _ in parts)
        count = sum(number for _, number in parts)
        if count >= FEWEST_IN_COMMON:
            return max(products / count, 0.0) / images
        validated = float(np.mean([run.examples for run in judged]))
        variance = 2 * (noise_floor(self.runs) or 0.0) ** 2
        return variance * validated / max(images - validated, 1.0)

    def _in_common(self, a: str, b: str, images: int) -> tuple[float, int]:
        """Over images in the divisions of two seeds each: the sum of products of the differences of
        two placements with the two seeds, and their number.
        """
        left = self._runs.get(a, {})
        right = self._runs.get(b, {})
        total = np.zeros(images)
        squares = np.zeros(images)
        seen = np.zeros(images)
        for block in sorted(left.keys() & right.keys()):
            at = left[block].images
            # `_with_images` has left the others out
            assert at is not None
            difference = _results(left[block]) - _results(right[block])
            difference = difference - difference.mean()
            total[at] += difference
            squares[at] += difference**2
            seen[at] += 1
        return float((total**2 - squares).sum()), int((seen * (seen - 1)).sum())

    @property
    def _pairs(self) -> list[tuple[str, str]]:
        """Pairs of placements that ran more than once, those with the most runs first."""
        seeds = {key: len(runs) for key, runs in self._runs.items() if len(runs) > 1}
        pairs = itertools.combinations(sorted(seeds, key=lambda key: (-seeds[key], key)), 2)
        return list(itertools.islice(pairs, MOST_PAIRS))

    @cached_property
    def _typical(self) -> float:
        variances = [self._repeated(a, b) for a, b in self._pairs]
        measured = [variance for variance in variances if variance is not None]
        return float(np.mean(measured)) if measured else 2 * (noise_floor(self.runs) or 0.0) ** 2


def _with_images(runs: Sequence[ScoredRun]) -> list[ScoredRun]:
    """Runs whose results per image can be compared: of the same images, or of a seed's own."""
    drawn = [run for run in runs if run.has_images and run.images is not None]
    if drawn:
        return [run for run in drawn if run.images is not None and len(run.images) == run.examples]
    images = max((run.examples for run in runs if run.has_images), default=0)
    return [run for run in runs if run.has_images and run.examples == images]


def _results(run: ScoredRun) -> Results:
    if run.contributions is not None:
        return run.contributions()
    return which_are_right(run.correct, run.examples).astype(np.float32)
