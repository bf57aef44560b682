"""Boxes with classes: what a detector learns, and its metrics, which are COCO's mAP."""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from nas_attn.errors import RecipeError, TrainingError
from nas_attn.system.importing import installing
from nas_attn.training.learnt import Learnt

MOST_BOXES = 100
"""Boxes of an image that count, highest scores first, as in COCO."""


class BoxesOfImage(Learnt):
    """Boxes with classes: y is float32 (B, M, 5), `samples.BoxTable`. While training, a network
    takes images and `boxes` (pixels) and `labels` (from 1) of each, and returns its mean losses by
    name; else it returns `boxes`, `labels`, `scores` of each.
    """

    recordable = False

    @override
    def begin(self) -> None:
        if importlib.util.find_spec("pycocotools") is None:
            raise RecipeError(
                f"detection is scored by pycocotools, which is missing: {installing('detection')}"
            )
        # `given`, of each image (K, 6): left, top, right, bottom, score, label; `true`, of each
        # image (M, 5), a `BoxTable`
        super().begin()
        # pycocotools', (IoUs, recalls, classes); None: no box was predicted.
        self._precision: NDArray[Any] | None = None

    @override
    def ask(self, network: Callable[..., object], x: Tensor, y: Tensor | None = None) -> object:
        if y is None:
            return network(list(x))
        targets = []
        for table in y:
            boxes = table[table[:, 0] > 0]
            targets.append({"boxes": boxes[:, 1:], "labels": boxes[:, 0].long()})
        return network(list(x), targets)

    @override
    def logits(self, output: object, x: Tensor) -> Tensor:
        """float32 (losses,) of what a network returns while training. Raises TrainingError: it
        returns something else.
        """
        losses = list(output.values()) if isinstance(output, Mapping) else []
        if not losses or not all(isinstance(loss, Tensor) and loss.ndim == 0 for loss in losses):
            raise TrainingError(
                f"the network returns a {type(output).__name__} while training, not its losses by"
                " name as torchvision's detectors do"
            )
        return torch.stack([loss.float() for loss in losses])

    @override
    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        return logits.sum() * len(y)

    @override
    def judge(self, output: object, x: Tensor, y: Tensor) -> Tensor:
        """Counts a batch, and gives 0 as its loss, which no detector returns while it is scored."""
        self.add(output, y)
        return x.new_zeros(())

    @override
    def add(self, answer: Any, y: Tensor) -> None:
        """Adds a network's output for a batch, with its true boxes (B, M, 5). Raises TrainingError:
        another kind of output.
        """
        try:
            for image, _ in zip(answer, y, strict=True):
                scores = image["scores"].float()[:, None]
                table = torch.cat(
                    [image["boxes"].float(), scores, image["labels"].float()[:, None]], 1
                )
                best = image["scores"].argsort(descending=True)[:MOST_BOXES]
                self.given.append(table[best])
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            raise TrainingError(
                f"the network returns a {type(answer).__name__} for {len(y)} images, not a list"
                " with the boxes, labels and scores of each, as torchvision's detectors do"
            ) from None
        self.true += list(y)

    @override
    def metrics(self, loss: float) -> dict[str, float]:
        detections = self._detections()
        if not len(detections):
            return {"map50_95": 0.0, "map50": 0.0}
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO()
            truth.dataset = self._annotations()
            truth.createIndex()
            counted = COCOeval(truth, truth.loadRes(detections), "bbox")
            counted.evaluate()
            counted.accumulate()
            counted.summarize()
        self._precision = counted.eval["precision"][:, :, :, 0, -1]
        return {
            "map50_95": max(0.0, float(counted.stats[0])),
            "map50": max(0.0, float(counted.stats[1])),
        }

    @override
    def answers(self) -> dict[str, Any]:
        """Of each class the average precision; None: it has no boxes."""
        if self._precision is None:
            return {"average_precision": [0.0] * self.classes}
        means: list[float | None] = []
        for row in self._precision.transpose(2, 0, 1):
            values = row[row >= 0]
            means.append(float(np.mean(values)) if np.size(values) else None)
        return {"average_precision": means}

    def _annotations(self) -> dict[str, Any]:
        boxes = [
            (image, *box)
            for image, table in enumerate(self.true)
            for box in table[table[:, 0] != 0].tolist()
        ]
        annotations = [
            {
                "id": number,
                "image_id": image,
                "category_id": int(abs(label)),
                "iscrowd": int(label < 0),
                "bbox": [left, top, right - left, bottom - top],
                "area": (right - left) * (bottom - top),
            }
            for number, (image, label, left, top, right, bottom) in enumerate(boxes, 1)
        ]
        categories = [{"id": number, "name": str(number)} for number in range(1, self.classes + 1)]
        images = [{"id": image} for image in range(len(self.true))]
        return {"info": {}, "images": images, "annotations": annotations, "categories": categories}

    def _detections(self) -> NDArray[np.float64]:
        """(K, 7) for pycocotools: image, left, top, width, height, score, class."""
        boxes = torch.cat(self.given).cpu().double().numpy()
        images = np.repeat(range(len(self.given)), [len(table) for table in self.given])
        sizes = boxes[:, 2:4] - boxes[:, :2]
        table: NDArray[np.float64] = np.column_stack([images, boxes[:, :2], sizes, boxes[:, 4:]])
        return table[np.isfinite(table).all(1)]
