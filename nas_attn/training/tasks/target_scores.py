"""Several labels of each image, or numbers: their losses and their metrics.

N images, K labels or columns. What is unknown of an image is NaN (`data.unknown`): it adds nothing
to the loss, and its column is scored on the other images. Each image's contributions to a metric
are kept beside the score, for intervals that hold for new images (`answer.contributions`).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, smooth_l1_loss
from typing_extensions import override

from nas_attn.training.learnt import Learnt

Floats = NDArray[np.float64]

MOST_WEIGHT = 10.0
"""Of a label's rare side in the loss, so that a single image does not decide a step."""


class TargetsLearnt(Learnt):
    """Learns labels or numbers of each image, (B, K)."""

    @abstractmethod
    def of_known(self, given: Floats, true: Floats) -> dict[str, Floats]:
        """Metric -> (N,): what each image contributes, whose mean is the metric; without metrics
        that these images do not have.

        Args:
            given: (N, K) what the network gave.
            true: (N, K) what is true, all of it known.
        """

    def contributions(self) -> dict[str, Floats]:
        """Metric -> (N,): what each image contributes, whose mean is the metric. With unknown
        values, a metric is the mean over the columns, each of its known images.
        """
        given, true = self._both()
        nothing = {name: np.zeros(len(true)) for name in self.task.metrics if name != "loss"}
        known = ~np.isnan(true)
        if known.all():
            return nothing | self.of_known(given, true)
        by_metric: dict[str, list[Floats]] = {name: [] for name in nothing}
        for column in np.flatnonzero(known.any(0)).tolist():
            rows = known[:, column]
            part = slice(column, column + 1)
            for name, each in self.of_known(given[rows, part], true[rows, part]).items():
                # those of the others count as the mean; so do fewer images for more
                spread = np.full(len(true), each.mean())
                spread[rows] += (each - each.mean()) * (len(true) / len(each))
                by_metric[name].append(spread)
        found = {name: np.mean(parts, axis=0) for name, parts in by_metric.items() if parts}
        return nothing | found

    def _both(self) -> tuple[Floats, Floats]:
        """(N, K) what was given, and what is true."""
        given, true = (torch.cat(parts).double().cpu() for parts in (self.given, self.true))
        return given.numpy(), true.numpy()

    @override
    def metrics(self, loss: float) -> dict[str, float]:
        means = {name: float(each.mean()) for name, each in self.contributions().items()}
        return {**means, "loss": loss}

    @override
    def answers(self) -> dict[str, Any]:
        kept = {
            name: [float(f"{value:.5g}") for value in each]
            for name, each in self.contributions().items()
        }
        return {"contributions": kept}


class LabelsOfImage(TargetsLearnt):
    """Several labels of each image: y is float32 (B, K), 0 or 1."""

    @override
    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        return self._entropy(logits, y)

    @override
    def training_loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """With a weight for the images that have a label, so that they count as much as those
        without it.
        """
        if self._own or self.moments is None:
            return super().training_loss(logits, y)
        share = self.moments[0].to(logits.device)
        weight = ((1 - share) / share).clamp(1 / MOST_WEIGHT, MOST_WEIGHT)
        return self._entropy(logits, y, weight)

    def _entropy(self, logits: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        each = binary_cross_entropy_with_logits(
            logits, y.nan_to_num(), pos_weight=weight, reduction="none"
        )
        return each.masked_fill(y.isnan(), 0).mean(1).sum()

    @override
    def of_known(self, given: Floats, true: Floats) -> dict[str, Floats]:
        there = np.flatnonzero(true.any(0)).tolist()
        if not there:
            return {}
        precisions = [precision_of_images(given[:, label], true[:, label]) for label in there]
        f1 = [f1_of_images(given[:, label] > 0, true[:, label]) for label in there]
        return {"mean_ap": np.mean(precisions, axis=0), "macro_f1": np.mean(f1, axis=0)}

    @override
    def answers(self) -> dict[str, Any]:
        logits, true = self._both()
        by_label = [
            float(precision_of_images(scores[known], labels[known]).mean())
            if labels[known].any()
            else None
            for scores, labels, known in zip(logits.T, true.T, ~np.isnan(true.T), strict=True)
        ]
        return {**super().answers(), "average_precision": by_label}


class NumbersOfImage(TargetsLearnt):
    """Numbers of each image: y is float32 (B, K), in the user's units. Networks give them less the
    training images' mean, in their standard deviations; they are scored in the user's units.
    """

    @override
    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        true = self.standardised(y)
        each = smooth_l1_loss(logits, true.nan_to_num(), reduction="none")
        return each.masked_fill(true.isnan(), 0).mean(1).sum()

    @override
    def training_loss(self, logits: Tensor, y: Tensor) -> Tensor:
        if self._own:
            y = self.standardised(y)
        return super().training_loss(logits, y)

    def standardised(self, y: Tensor) -> Tensor:
        """Numbers in the user's units as a network gives them."""
        if self.moments is None:
            return y
        mean, deviation = (moment.to(y.device) for moment in self.moments)
        return (y - mean) / deviation

    @override
    def add(self, answer: Any, y: Tensor) -> None:
        if self.moments is not None:
            mean, deviation = (moment.to(answer.device) for moment in self.moments)
            answer = answer * deviation + mean
        super().add(answer, y)

    @override
    def of_known(self, given: Floats, true: Floats) -> dict[str, Floats]:
        error = given - true
        off = true - true.mean(0)
        variance = (off**2).mean(0)
        # of a column that is the same for all images, nothing can be explained
        there = variance > 0
        unexplained = (error**2).mean(0)[there] / variance[there]
        # the delta method: with other images, the variance is another one, too
        each = error[:, there] ** 2 - unexplained * off[:, there] ** 2
        explained = 1 - unexplained - each / variance[there]
        r2 = {"r2": explained.mean(1)} if there.any() else {}
        return {"mae": np.abs(error).mean(1), **r2}

    @override
    def metrics(self, loss: float) -> dict[str, float]:
        metrics = super().metrics(loss)
        # that of standardised numbers, which is no log-loss
        del metrics["loss"]
        return metrics


def precision_of_images(scores: Floats, true: Floats) -> Floats:
    """(N,) each image's contribution to the average precision, by the delta method.

    The average precision is the mean, over the images that have a label, of the share of those with
    at least the image's score that have it, too. So an image counts by its own place, and by what
    it does to the precision at all places below it.

    Args:
        scores: (N,) of the images.
        true: (N,) 1 for images that have the label, else 0; one has.
    """
    order = np.argsort(-scores, kind="stable")
    positive = true[order]
    # images of one score stand together, at the place of the last of them
    _, last = np.unique(-scores[order], return_inverse=True)
    equal = np.bincount(last)
    taken = np.cumsum(equal)[last]
    precision = np.cumsum(positive)[taken - 1] / taken
    value = float((precision * positive).sum() / positive.sum())
    begins = taken - equal[last]
    gained = _from(positive / taken, begins)
    lost = _from(positive * precision / taken, begins)
    influence = positive * (precision - value) + positive * gained - lost
    each = np.empty(len(scores))
    each[order] = value + len(scores) / positive.sum() * influence
    return each


def _from(values: Floats, begins: NDArray[np.int64]) -> Floats:
    """(N,) sums of the values from places on."""
    return np.asarray(np.cumsum(values[::-1])[::-1][begins])


def f1_of_images(found: NDArray[np.bool_], true: Floats) -> Floats:
    """(N,) each image's contribution to a label's F1, by the delta method.

    Args:
        found: (N,) whether the network finds the label.
        true: (N,) 1 for images that have it, else 0; one has.
    """
    both = found.sum() + true.sum()
    value = 2 * (found * true).sum() / both
    influence = 2 * found * true - value * (found + true)
    return np.asarray(value + len(true) / both * influence)
