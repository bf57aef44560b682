"""What each image contributes to a run's metric: with it, intervals hold for new images.

The contributions of an accuracy are right and wrong, 1 and 0. Those of another metric come from the
function that its row in `nas_attn.wiring` names, by the delta method: their mean is the metric, and
their spread says how the metric would change with other images of the same kind.

A contribution is the metric's value plus the image's influence on it: how the metric changes, to
first order, if images like this one become more frequent. The mean over the images is the value,
and the variance of that mean is the metric's variance over other images of the same kind.
Classes may become more or less frequent, too. A class without images is left out, as in the
metrics themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from nas_attn.answer.per_image import Answers
from nas_attn.model import Contributions, Results
from nas_attn.model.runs import which_are_right
from nas_attn.recipe.tables import METRICS, is_share_of_images
from nas_attn.storage.labels import Labels
from nas_attn.storage.records import Score

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ImageResults:
    """What a network answered of each image of a split."""

    labels: NDArray[np.int32]
    """(images,) each one's class, from 0."""
    right: NDArray[np.bool_]
    """(images,) whether the network found that class."""
    predicted: NDArray[np.int32]
    """(images,) the class that it found; only for a metric that needs it, else the label."""


def contributions_of(metric: str, score: Score, labels: Labels | None) -> Contributions | None:
    """Computes (images,) contributions to a run's metric; None if the metric has none, or what they
    need was not kept.

    `labels`: of the images of the score.
    """
    row = METRICS.get(metric)
    if score.correct is None:
        kept = row is not None and row.needs_answers and score.answers is not None
        return partial(_kept, metric, score) if kept else None
    if is_share_of_images(metric):
        return partial(_right, score)
    if row is None or not row.per_image:
        return None
    if labels is None or len(labels.numbers) != score.examples:
        return None
    if row.needs_answers and score.answers is None:
        return None
    return partial(_computed, metric, score, labels)


def _right(score: Score) -> Results:
    return which_are_right(score.correct, score.examples).astype(np.float32)


def _kept(metric: str, score: Score) -> Results:
    """Those of several labels or numbers, kept as the run was scored. StorageError: damaged."""
    return np.array(Answers.of(score).contributions[metric], np.float32)


def _computed(metric: str, score: Score, labels: Labels) -> Results:
    """StorageError: what was kept of the images is damaged."""
    row = METRICS[metric]
    right = _right(score) > 0
    predicted = labels.numbers
    if row.needs_answers:
        predicted = predicted.copy()
        predicted[~right] = Answers.of(score).wrong or ()
    assert row.per_image is not None
    values = row.per_image()(ImageResults(labels.numbers, right, predicted))
    return np.asarray(values, dtype=np.float32)


def of_recall(results: ImageResults) -> Floats:
    """(images,) whose mean is the balanced accuracy: the mean over classes of the share of a
    class's images that are right.
    """
    images = len(results.labels)
    counts = np.bincount(results.labels)
    right = np.bincount(results.labels, weights=results.right)
    there = counts > 0
    classes = int(there.sum())
    recall = np.divide(right, counts, out=np.zeros(len(counts)), where=there)
    value = recall.sum() / classes
    own = results.labels
    influence = images / classes * (results.right - recall[own]) / counts[own]
    return np.asarray(value + influence)


def of_f1(results: ImageResults) -> Floats:
    """(images,) whose mean is the macro F1: the mean over classes of `2 t / (n + p)`, of whose n
    images t are found among the p that are taken for it.
    """
    labels = results.labels
    predicted = results.predicted
    images = len(labels)
    size = int(max(labels.max(), predicted.max())) + 1
    counts = np.bincount(labels, minlength=size)
    both = counts + np.bincount(predicted, minlength=size)
    hits = np.bincount(labels, weights=labels == predicted, minlength=size)
    there = counts > 0
    classes = int(there.sum())
    f1 = np.divide(2 * hits, both, out=np.zeros(size), where=there)
    value = f1.sum() / classes
    # of one more image with this label, and of one more that is taken for this class
    lost = np.divide(f1, both, out=np.zeros(size), where=there)
    gained = np.divide(2.0, both, out=np.zeros(size), where=there)
    influence = (labels == predicted) * gained[labels] - lost[labels] - lost[predicted]
    return np.asarray(value + images / classes * influence)
