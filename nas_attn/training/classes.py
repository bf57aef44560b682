"""Classes of images and of pixels: the losses, and metrics in which every class counts alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from nas_attn.data.decoding import NOT_COUNTED
from nas_attn.training.learning import Learnt, Tally


class ClassOfImage(Learnt):
    """A class of each image: y is int64 (B,), or shares (B, classes)."""

    def loss(self, logits: Tensor, y: Tensor, smoothing: float = 0.0) -> Tensor:
        return cross_entropy(logits, y, label_smoothing=smoothing, reduction="sum")

    def tally(self) -> Tally:
        return _Images(self.classes)


class _Images(Tally):
    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._predicted: list[Tensor] = []
        self._labels: list[Tensor] = []

    def add(self, answer: Any, y: Tensor) -> None:
        self._predicted.append(answer.argmax(1))
        self._labels.append(y)

    def metrics(self, loss: float) -> dict[str, float]:
        counts = confusion(torch.cat(self._labels), torch.cat(self._predicted), self._classes)
        return {"accuracy": float(self._bits().mean()), "loss": loss, **class_metrics(counts)}

    def right(self) -> bytes | None:
        return np.packbits(self._bits()).tobytes()

    def _bits(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        bits: np.ndarray[tuple[int], np.dtype[np.bool_]]
        bits = (torch.cat(self._predicted) == torch.cat(self._labels)).cpu().numpy()
        return bits


class ClassOfPixel(Learnt):
    """A class of each pixel: y is int64 (B, H, W), NOT_COUNTED where there is none. Each image weighs the same in the loss."""

    def loss(self, logits: Tensor, y: Tensor, smoothing: float = 0.0) -> Tensor:
        each = cross_entropy(logits, y, label_smoothing=smoothing, reduction="none", ignore_index=NOT_COUNTED)
        counted = (y != NOT_COUNTED).sum((1, 2)).clamp(min=1)
        return (each.sum((1, 2)) / counted).sum()

    def tally(self) -> Tally:
        return _Pixels(self.classes)


class _Pixels(Tally):
    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._counts: Tensor | None = None

    def add(self, answer: Any, y: Tensor) -> None:
        counted = y != NOT_COUNTED
        place = torch.where(counted, y * self._classes + answer.argmax(1), self._classes**2)  # no wait for how many
        counts = torch.bincount(place.flatten(), minlength=self._classes**2 + 1)
        self._counts = counts if self._counts is None else self._counts + counts

    def metrics(self, loss: float) -> dict[str, float]:
        assert self._counts is not None  # no split is empty
        pairs = self._counts[:-1].view(self._classes, self._classes).cpu().numpy()
        return {"mean_iou": mean_iou(pairs), "pixel_accuracy": float(np.diag(pairs).sum() / pairs.sum()), "loss": loss}


def confusion(labels: Tensor, predicted: Tensor, classes: int) -> NDArray[np.int64]:
    """(classes, classes) counts of int64 (N,) labels and predictions; rows are the true ones."""
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
    return {
        "balanced_accuracy": float(recall.mean()),
        "macro_f1": float(f1.mean()),
    }


def mean_iou(counts: NDArray[np.int64]) -> float:
    """The mean over classes of intersection over union, all images' pixels together.

    A class without a pixel does not count by itself; where it is predicted, that lessens the others'.

    Args:
        counts: (classes, classes) pixels, rows are the true ones.
    """
    both, true, taken = np.diag(counts), counts.sum(1), counts.sum(0)
    there = true > 0
    return float((both[there] / (true[there] + taken[there] - both[there])).mean())
