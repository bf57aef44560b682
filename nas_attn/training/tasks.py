"""Classification and segmentation as the trainer sees them, and the way from a task's name to what trains it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from nas_attn.data.decoding import NOT_COUNTED
from nas_attn.tasks import TASKS, TaskName
from nas_attn.training.classes import class_metrics, confusion, mean_iou
from nas_attn.training.detection import Detection
from nas_attn.training.learning import Learnt, Tally


class Classification(Learnt):
    """A class of each image: y is int64 (B,), or shares (B, classes)."""

    facts = TASKS["classification"]

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


class Segmentation(Learnt):
    """A class of each pixel: y is int64 (B, H, W), NOT_COUNTED where there is none. Each image weighs the same in the loss."""

    facts = TASKS["segmentation"]

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


def learnt(task: TaskName, classes: int) -> Learnt:
    """The trainer's side of a task."""
    return _LEARNT[task](classes)


_LEARNT: Mapping[TaskName, Callable[[int], Learnt]] = {
    "classification": Classification,
    "segmentation": Segmentation,
    "detection": Detection,
}
