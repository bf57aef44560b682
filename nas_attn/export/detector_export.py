"""How detectors are exported."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor
from typing_extensions import override

from nas_attn.data.dataset import Dataset
from nas_attn.export.formats import BOX_VALUES, COMPARED, UNCHANGED, Interface, Run, TaskExport
from nas_attn.training.learnt import Learnt, learnt_from
from nas_attn.training.plan import Plan
from nas_attn.training.tasks.box_scores import MOST_BOXES


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
