"""How the networks of some tasks are exported: detectors with their final boxes, and networks that
give numbers in the units of the data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any, cast

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from typing_extensions import override

from nas_attn.data.dataset import Dataset
from nas_attn.export.formats import BOX_VALUES, COMPARED, UNCHANGED, Interface, Run, TaskExport
from nas_attn.training.learnt import Learnt, learnt_from
from nas_attn.training.plan import Plan
from nas_attn.training.tasks.box_scores import MOST_BOXES
from nas_attn.training.tasks.target_scores import NumbersOfImage


class DetectorExport(TaskExport):
    """Export of detectors, with their final boxes."""

    @override
    def interface(self, plan: Plan, dataset: Dataset | None) -> Interface:
        if dataset is None:
            return super().interface(plan, dataset)
        return Interface(tuple(dataset.classes), *UNCHANGED, (MOST_BOXES, BOX_VALUES))

    @override
    def compared(self, plan: Plan, dataset: Dataset | None, *, stored: bool) -> Iterator[Tensor]:
        if dataset is None:
            return super().compared(plan, dataset, stored=stored)
        return (x.contiguous() for x, _ in islice(dataset.validation.batches(1), COMPARED))

    @override
    def judged(self, run: Run, dataset: Dataset, *, stored: bool, batch: int) -> Learnt:
        """Scores an exported file's boxes, image by image, since an ONNX file takes one.

        Args:
            run: the file: an image (1, 3, H, W), 0 to 1, in; boxes (K, 6) out: left, top, right,
                bottom in pixels, score, class from 1, or 0 for no box.
            dataset: has the images.
            stored: of no effect: a detector takes no uint8.
            batch: of no effect.

        Returns:
            What gives the metrics.
        """
        learnt = learnt_from(dataset)
        for x, y in dataset.validation.batches(1):
            (rows,) = torch.from_numpy(run(x.contiguous().numpy())).reshape(1, -1, BOX_VALUES)
            boxes = rows[rows[:, 5] > 0]
            learnt.add([{"boxes": boxes[:, :4], "scores": boxes[:, 4], "labels": boxes[:, 5]}], y)
        return learnt

    @override
    def said(self, shape: tuple[int, ...], format_: str) -> str:
        more = "; torch gives the same as boxes, scores and labels of each image"
        if format_ == "onnx":
            more = ""
        return (
            f"(found, {BOX_VALUES}) of an image: left, top, right, bottom in pixels, score, class"
            f" from 1{more}"
        )


class InUnits(nn.Module):
    """A network with its outputs in the units of the data."""

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("scale", deviation)
        self.register_buffer("shift", mean)

    def forward(self, image: Tensor) -> Tensor:
        return cast("Tensor", self.network(image) * self.scale + self.shift)


class RegressionExport(TaskExport):
    """Export of networks that give numbers, which they learn in standard deviations."""

    @override
    def interface(self, plan: Plan, dataset: Dataset | None) -> Interface:
        given = super().interface(plan, dataset)
        if dataset is None or dataset.moments is None:
            return given
        mean, deviation = dataset.moments
        return replace(given, scale=tuple(deviation.tolist()), shift=tuple(mean.tolist()))

    @override
    def computing(self, model: nn.Module, dataset: Dataset | None) -> nn.Module:
        if dataset is None or dataset.moments is None:
            return model
        return InUnits(model, *dataset.moments).eval()

    @override
    def judged(self, run: Run, dataset: Dataset, *, stored: bool, batch: int) -> Learnt:
        """Scores an exported file, which gives numbers in the units of the data.

        Args:
            run: the file: images (N, C, H, W) in, numbers (N, K) out.
            dataset: has the images, and the means and deviations by which numbers are learnt.
            stored: the file takes images in uint8, as in the data set.
            batch: the number of images at a time.

        Returns:
            What gives the metrics.
        """
        learnt = learnt_from(dataset)
        assert isinstance(learnt, NumbersOfImage)

        def standardised(x: NDArray[Any]) -> NDArray[Any]:
            return learnt.standardised(torch.from_numpy(run(x))).numpy()

        return super().judged(standardised, dataset, stored=stored, batch=batch)

    @override
    def said(self, shape: tuple[int, ...], format_: str) -> str:
        if format_ != "weights":
            return super().said(shape, format_)
        given = f"({', '.join(map(str, ('N', *shape)))})"
        return f"{given} in standard deviations from the mean; the lines under Use know the units"
