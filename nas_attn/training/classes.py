"""What a classification, of images or of pixels, is worth when every class counts alike."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def confusion(labels: Tensor, predicted: Tensor, classes: int) -> NDArray[np.int64]:
    """(classes, classes): how often a class was taken for another; rows are the true ones.

    Args:
        labels: int64 (N,), like `predicted`, on one device.
    """
    pairs = torch.bincount(labels * classes + predicted, minlength=classes * classes)
    counts: NDArray[np.int64] = pairs.view(classes, classes).cpu().numpy()
    return counts


def class_metrics(counts: NDArray[np.int64]) -> dict[str, float]:
    """`balanced_accuracy`: the mean over classes of the share that is right; `macro_f1`: the mean over classes of F1.

    A class without images counts in neither; one that has images and is never predicted has an F1 of 0.
    """
    right, true, taken = np.diag(counts), counts.sum(1), counts.sum(0)
    there = true > 0
    recall = right[there] / true[there]
    f1 = 2 * right[there] / (true[there] + taken[there])
    return {"balanced_accuracy": float(recall.mean()), "macro_f1": float(f1.mean())}


def mean_iou(counts: NDArray[np.int64]) -> float:
    """The mean over classes of intersection over union, all images' pixels together.

    A class without a pixel does not count by itself; where it is predicted, that lessens the others'.

    Args:
        counts: (classes, classes) pixels, rows are the true ones.
    """
    both, true, taken = np.diag(counts), counts.sum(1), counts.sum(0)
    there = true > 0
    return float((both[there] / (true[there] + taken[there] - both[there])).mean())
