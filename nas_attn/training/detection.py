"""Detection as the trainer sees it: networks like torchvision's detectors, scored by mAP as COCO counts it (pycocotools)."""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nas_attn.errors import RecipeError, TrainingError
from nas_attn.tasks import Task
from nas_attn.training.learning import Learnt, Tally

MOST = 100
"""Boxes of an image that count, the surest first, as COCO has it."""


def require_scorer() -> None:
    """Raises:
    RecipeError: pycocotools is not installed.
    """
    if importlib.util.find_spec("pycocotools") is None:
        raise RecipeError(
            "a detection is scored by pycocotools, which is not installed: pip install 'nas-attn[detection]'"
        )


class BoxesOfImage(Learnt):
    """Boxes with classes: y is float32 (B, M, 5), `data.coco.Boxes`.

    While training, a network takes images and what is on each (`boxes` in pixels, `labels` from 1), and returns its losses by name,
    means over the images; else it takes images and returns of each `boxes`, `labels`, `scores`.
    """

    recordable = False

    def __init__(self, task: Task, classes: int) -> None:
        require_scorer()
        super().__init__(task, classes)

    def ask(self, network: Callable[..., object], x: Tensor, y: Tensor | None = None) -> object:
        if y is None:
            return network(list(x))
        known = [boxes[boxes[:, 0] > 0] for boxes in y]
        return network(list(x), [{"boxes": k[:, 1:], "labels": k[:, 0].long()} for k in known])

    def logits(self, output: object, x: Tensor) -> Tensor:
        """float32 (losses,) of what a network returns while training.

        Raises:
            TrainingError: it returns something else.
        """
        losses = list(output.values()) if isinstance(output, Mapping) else []
        if not losses or not all(isinstance(loss, Tensor) and loss.ndim == 0 for loss in losses):
            raise TrainingError(
                f"the network returns a {type(output).__name__} while training, expected are its losses by name, as torchvision's "
                "detectors return them"
            )
        return torch.stack([loss.float() for loss in losses])

    def loss(self, logits: Tensor, y: Tensor, smoothing: float = 0.0) -> Tensor:
        return logits.sum() * len(y)

    def judge(self, output: object, x: Tensor, y: Tensor, tally: Tally) -> Tensor:
        tally.add(output, y)
        return x.new_zeros(())  # a network tells its losses while it is trained only

    def practice(self, network: Callable[..., object], x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        box = [1.0, width / 4, height / 4, 3 * width / 4, 3 * height / 4]
        return self.logits(self.ask(network, x, x.new_tensor(box).expand(len(x), 1, 5)), x).sum()

    def tally(self) -> Boxes:
        return Boxes(self.classes)


class Boxes(Tally):
    """Boxes found and boxes there, image after image."""

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._found: list[Tensor] = []
        """Of each image (K, 6): left, top, right, bottom, score, label."""
        self._there: list[Tensor] = []

    def add(self, answer: Any, y: Tensor) -> None:
        """What a network returns for a batch, and its boxes (B, M, 5).

        Raises:
            TrainingError: it returns something else.
        """
        if not _is_answer(answer, len(y)):
            raise TrainingError(
                f"the network returns a {type(answer).__name__} for {len(y)} images, expected is a list with boxes, labels and scores "
                "of each, as torchvision's detectors return it"
            )
        for one in answer:
            columns = (one["boxes"].float(), one["scores"].float()[:, None], one["labels"].float()[:, None])
            self._found.append(torch.cat(columns, 1)[one["scores"].argsort(descending=True)[:MOST]])
        self._there += list(y)

    def metrics(self, loss: float) -> dict[str, float]:
        there, found = self._annotations(), self._detections()
        if not len(found):
            return {"map50_95": 0.0, "map50": 0.0}
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO()
            truth.dataset = there
            truth.createIndex()
            counted = COCOeval(truth, truth.loadRes(found), "bbox")
            counted.evaluate()
            counted.accumulate()
            counted.summarize()
        return {"map50_95": max(0.0, float(counted.stats[0])), "map50": max(0.0, float(counted.stats[1]))}

    def _annotations(self) -> dict[str, Any]:
        rows: list[dict[str, Any]] = []
        for image, boxes in enumerate(self._there):
            for label, left, top, right, bottom in boxes[boxes[:, 0] != 0].tolist():
                wide, high = right - left, bottom - top
                row = {
                    "id": len(rows) + 1,
                    "image_id": image,
                    "category_id": int(abs(label)),
                    "iscrowd": int(label < 0),
                }
                rows.append({**row, "bbox": [left, top, wide, high], "area": wide * high})
        categories = [{"id": number, "name": str(number)} for number in range(1, self._classes + 1)]
        images = [{"id": image} for image in range(len(self._there))]
        return {"info": {}, "images": images, "annotations": rows, "categories": categories}

    def _detections(self) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        """(K, 7), as pycocotools takes them: image, left, top, width, height, score, class."""
        tables = []
        for image, boxes in enumerate(self._found):
            table = boxes.cpu().double().numpy()
            table = table[np.isfinite(table).all(1)]
            size = table[:, 2:4] - table[:, :2]
            tables.append(np.hstack([np.full((len(table), 1), float(image)), table[:, :2], size, table[:, 4:]]))
        return np.concatenate(tables)


def _is_answer(output: object, count: int) -> bool:
    if not isinstance(output, Sequence) or len(output) != count:
        return False
    names = ("boxes", "labels", "scores")
    return all(isinstance(one, Mapping) and all(isinstance(one.get(n), Tensor) for n in names) for one in output)
