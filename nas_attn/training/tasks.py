"""What the trainer does differently for each task: which output it expects, the loss, and the metrics of a split."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from nas_attn.data.decoding import NOT_COUNTED
from nas_attn.errors import TrainingError
from nas_attn.tasks import TASKS, Task, TaskName
from nas_attn.training.classes import class_metrics, confusion, mean_iou


def answer_of(output: object) -> object:
    """The tensor that counts of a network's output: torchvision's segmentation networks return it under `out`."""
    return output.get("out") if isinstance(output, Mapping) else output


class Tally(ABC):
    """Counts what a network has right, batch after batch."""

    @abstractmethod
    def add(self, logits: Tensor, y: Tensor) -> None:
        """Another batch, without waiting for the device."""

    @abstractmethod
    def metrics(self, loss: float) -> dict[str, float]:
        """Of all batches, the loss being one of them."""

    def right(self) -> bytes | None:
        """Per image, right or wrong, as bits; None where an image is neither."""
        return None


class Learnt(ABC):
    """A task as the trainer sees it."""

    facts: Task

    def __init__(self, classes: int) -> None:
        self.classes = classes

    def logits(self, output: object, x: Tensor) -> Tensor:
        """float32 logits (B, classes) or (B, classes, H, W) of a network's output for x.

        Raises:
            TrainingError: it has another shape.
        """
        found = answer_of(output)
        expected = (len(x), *self.facts.output(self.classes, (x.shape[2], x.shape[3])))
        if not isinstance(found, Tensor) or found.shape != expected:
            what = tuple(found.shape) if isinstance(found, Tensor) else type(output).__name__
            raise TrainingError(f"the network returns {what} for {len(x)} images, expected is a tensor of {expected}")
        return found.float()

    @abstractmethod
    def loss(self, logits: Tensor, y: Tensor, smoothing: float = 0.0) -> Tensor:
        """Sum over the images of the log-loss, scalar."""

    @abstractmethod
    def tally(self) -> Tally:
        """To score a split with."""


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

    def add(self, logits: Tensor, y: Tensor) -> None:
        self._predicted.append(logits.argmax(1))
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

    def add(self, logits: Tensor, y: Tensor) -> None:
        counted = y != NOT_COUNTED
        place = torch.where(counted, y * self._classes + logits.argmax(1), self._classes**2)  # no wait for how many
        counts = torch.bincount(place.flatten(), minlength=self._classes**2 + 1)
        self._counts = counts if self._counts is None else self._counts + counts

    def metrics(self, loss: float) -> dict[str, float]:
        assert self._counts is not None  # no split is empty
        pairs = self._counts[:-1].view(self._classes, self._classes).cpu().numpy()
        return {"mean_iou": mean_iou(pairs), "pixel_accuracy": float(np.diag(pairs).sum() / pairs.sum()), "loss": loss}


def learnt(task: TaskName, classes: int) -> Learnt:
    """The trainer's side of a task that it trains."""
    return Segmentation(classes) if task == "segmentation" else Classification(classes)
