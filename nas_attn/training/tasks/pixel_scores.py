"""A class of each pixel: its loss and its metrics."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy
from typing_extensions import override

from nas_attn.data.inventory import NOT_COUNTED
from nas_attn.training.learnt import Learnt


class ClassOfPixel(Learnt):
    """A class of each pixel: y is int64 (B, H, W), NOT_COUNTED where there is none. Each image
    weighs the same in the loss.
    """

    @override
    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        each = cross_entropy(logits, y, reduction="none", ignore_index=NOT_COUNTED)
        counted = (y != NOT_COUNTED).sum((1, 2)).clamp(min=1)
        return (each.sum((1, 2)) / counted).sum()

    @override
    def add(self, answer: Any, y: Tensor) -> None:
        counted = y != NOT_COUNTED
        predicted = answer.argmax(1)
        # Indexing would wait for the device.
        place = torch.where(counted, y * self.classes + predicted, self.classes**2)
        # of each pair of classes, the true one first, and at the end pixels that do not count
        counts = place.new_zeros(self.classes**2 + 1)
        # bincount would wait for the device, to see the largest value
        counts.scatter_add_(0, place.flatten(), place.new_ones(()).expand(place.numel()))
        self.given = [sum(self.given, counts)]

    @override
    def metrics(self, loss: float) -> dict[str, float]:
        pairs = self._pairs()
        return {
            "mean_iou": mean_iou(pairs),
            "pixel_accuracy": float(np.diag(pairs).sum() / pairs.sum()),
            "loss": loss,
        }

    @override
    def answers(self) -> dict[str, Any]:
        return {"counts": self._pairs().tolist()}

    def _pairs(self) -> NDArray[np.int64]:
        pairs: NDArray[np.int64] = self.given[0][:-1].view(self.classes, -1).cpu().numpy()
        return pairs


def mean_iou(counts: NDArray[np.int64]) -> float:
    """Mean IoU from counts of pixels (classes, classes); rows are true. A class without pixels is
    left out of the mean.
    """
    both = np.diag(counts)
    true = counts.sum(1)
    taken = counts.sum(0)
    there = true > 0
    return float((both[there] / (true[there] + taken[there] - both[there])).mean())
