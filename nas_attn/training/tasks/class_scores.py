"""A class of each image: its loss and its metrics."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy
from typing_extensions import override

from nas_attn.training.learnt import Learnt


class ClassOfImage(Learnt):
    """A class of each image: y is int64 (B,), or shares (B, classes)."""

    @override
    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(logits, y, reduction="sum")

    @override
    def begin(self) -> None:
        super().begin()
        # sums over the batches
        self._brier: list[Tensor] = []

    @override
    def add(self, answer: Any, y: Tensor) -> None:
        super().add(answer.argmax(1), y)
        self._brier.append(brier(answer, y))

    @override
    def metrics(self, loss: float) -> dict[str, float]:
        counts = confusion(torch.cat(self.true), torch.cat(self.given), self.classes)
        bits = self._bits()
        accuracy = float(bits.mean())
        score = float(torch.stack(self._brier).sum()) / len(bits)
        return {"accuracy": accuracy, "loss": loss, "brier": score, **class_metrics(counts)}

    @override
    def right(self) -> bytes | None:
        return np.packbits(self._bits()).tobytes()

    @override
    def answers(self) -> dict[str, Any]:
        return {"wrong": torch.cat(self.given).cpu().numpy()[~self._bits()].tolist()}

    def _bits(self) -> NDArray[Any]:
        return (torch.cat(self.given) == torch.cat(self.true)).cpu().numpy()


def brier(logits: Tensor, y: Tensor) -> Tensor:
    """The Brier score of logits (B, classes) for classes y (B,), summed over the images, as a
    float64 scalar on the device: the squared distance of the probabilities from those of an answer
    that is sure and right, 0 to 2 for an image (Brier 1950).
    """
    probability = logits.double().softmax(1)
    of_class = probability.gather(1, y[:, None])[:, 0]
    return (probability.square().sum(1) - 2 * of_class + 1).sum()


def confusion(labels: Tensor, predicted: Tensor, classes: int) -> NDArray[Any]:
    """(classes, classes) counts of int64 (N,) labels and predictions; rows are the true ones."""
    return (
        torch.bincount(labels * classes + predicted, minlength=classes**2)
        .view(classes, classes)
        .cpu()
        .numpy()
    )


def class_metrics(counts: NDArray[np.int64]) -> dict[str, float]:
    """`balanced_accuracy` and `macro_f1`. A class without images is left out; a class that is never
    predicted has an F1 of 0.
    """
    right = np.diag(counts)
    true = counts.sum(1)
    taken = counts.sum(0)
    there = true > 0
    recall = right[there] / true[there]
    f1 = 2 * right[there] / (true[there] + taken[there])
    return {
        "balanced_accuracy": float(recall.mean()),
        "macro_f1": float(f1.mean()),
    }
