"""What each image contributes to metrics in which each class counts the same, by the delta method.

A contribution is the metric's value plus the image's influence on it: how the metric changes, to
first order, if images like this one become more frequent. The mean over the images is the value,
and the variance of that mean is the metric's variance over other images of the same kind.
Classes may become more or less frequent, too. A class without images is left out, as in the
metrics themselves.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nas_attn.answer.contributions import ImageResults

Floats = NDArray[np.float64]


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
