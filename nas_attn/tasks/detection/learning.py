"""Boxes with classes: what a detector learns, and its metrics, which are COCO's mAP."""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from nas_attn.data.boxes import SURE
from nas_attn.errors import RecipeError, TrainingError
from nas_attn.recipe import Named
from nas_attn.tasks.base import Task
from nas_attn.training.learning import Learnt, Tally, rounded

MOST = 100
"""Boxes of an image that count, highest scores first, as in COCO."""
OVERLAP = 0.5
"""Least IoU with a true box to count as found."""


def require_scorer() -> None:
    """Raises RecipeError: pycocotools is not installed."""
    if importlib.util.find_spec("pycocotools") is None:
        raise RecipeError(
            "detection is scored by pycocotools, which is missing: pip install"
            " 'nas-attn[detection]'"
        )


class BoxesOfImage(Learnt):
    """Boxes with classes: y is float32 (B, M, 5), `data.boxes.BoxTable`. While training, a network
    takes images and `boxes` (pixels) and `labels` (from 1) of each, and returns its mean losses by
    name; else it returns `boxes`, `labels`, `scores` of each.
    """

    recordable = False

    @override
    def __init__(self, task: Task, classes: int, loss: Named | None = None) -> None:
        require_scorer()
        # Its networks bring their losses.
        super().__init__(task, classes)

    @override
    def ask(self, network: Callable[..., object], x: Tensor, y: Tensor | None = None) -> object:
        if y is None:
            return network(list(x))
        known = [boxes[boxes[:, 0] > 0] for boxes in y]
        return network(list(x), [{"boxes": k[:, 1:], "labels": k[:, 0].long()} for k in known])

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
    def judge(self, output: object, x: Tensor, y: Tensor, tally: Tally) -> Tensor:
        tally.add(output, y)
        return x.new_zeros(())  # a network returns its losses only in training

    @override
    def practice(self, network: Callable[..., object], x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        box = [1.0, width / 4, height / 4, 3 * width / 4, 3 * height / 4]
        return self.logits(self.ask(network, x, x.new_tensor(box).expand(len(x), 1, 5)), x).sum()

    @override
    def tally(self) -> Boxes:
        return Boxes(self.classes)


class Boxes(Tally):
    """Collects predicted and true boxes, image after image."""

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._found: list[
            Tensor
        ] = []  # of each image (K, 6): left, top, right, bottom, score, label
        self._there: list[Tensor] = []
        self._precision: NDArray[Any] | None = (
            None  # pycocotools', (IoUs, recalls, classes); None: nothing was found
        )

    @override
    def add(self, answer: Any, y: Tensor) -> None:
        """Adds a network's output for a batch, with its true boxes (B, M, 5). Raises TrainingError:
        another kind of output.
        """
        names, sized = (
            ("boxes", "labels", "scores"),
            isinstance(answer, Sequence) and len(answer) == len(y),
        )
        if not sized or not all(
            isinstance(one, Mapping) and all(isinstance(one.get(n), Tensor) for n in names)
            for one in answer
        ):
            raise TrainingError(
                f"the network returns a {type(answer).__name__} for {len(y)} images, not a list"
                " with the boxes, labels and scores of each, as torchvision's detectors do"
            )
        for one in answer:
            columns = (
                one["boxes"].float(),
                one["scores"].float()[:, None],
                one["labels"].float()[:, None],
            )
            self._found.append(torch.cat(columns, 1)[one["scores"].argsort(descending=True)[:MOST]])
        self._there += list(y)

    @override
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
        self._precision = counted.eval["precision"][:, :, :, 0, -1]
        return {
            "map50_95": max(0.0, float(counted.stats[0])),
            "map50": max(0.0, float(counted.stats[1])),
        }

    @override
    def answers(self) -> dict[str, Any]:
        found = self._precision
        each = (
            [0.0] * self._classes
            if found is None
            else [row[row >= 0] for row in found.transpose(2, 0, 1)]
        )
        means = [float(np.mean(values)) if np.size(values) else None for values in each]
        counts = np.sum(
            [_confused(*of, self._classes) for of in zip(self._found, self._there, strict=True)], 0
        )
        images = rounded(list(map(_f1, self._found, self._there)))
        return {"average_precision": means, "images": images, "counts": counts.tolist()}

    def _annotations(self) -> dict[str, Any]:
        rows: list[dict[str, Any]] = []
        for image, boxes in enumerate(self._there):
            for label, left, top, right, bottom in boxes[boxes[:, 0] != 0].tolist():
                wide, high = right - left, bottom - top
                of = {
                    "id": len(rows) + 1,
                    "image_id": image,
                    "category_id": int(abs(label)),
                    "iscrowd": int(label < 0),
                }
                rows.append({**of, "bbox": [left, top, wide, high], "area": wide * high})
        categories = [{"id": number, "name": str(number)} for number in range(1, self._classes + 1)]
        images = [{"id": image} for image in range(len(self._there))]
        return {"info": {}, "images": images, "annotations": rows, "categories": categories}

    def _detections(self) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        """(K, 7) for pycocotools: image, left, top, width, height, score, class."""
        tables = []
        for image, boxes in enumerate(self._found):
            table = boxes.cpu().double().numpy()
            table = table[np.isfinite(table).all(1)]
            size = table[:, 2:4] - table[:, :2]
            tables.append(
                np.hstack(
                    [np.full((len(table), 1), float(image)), table[:, :2], size, table[:, 4:]]
                )
            )
        return np.concatenate(tables)


def _overlaps(found: Tensor, there: Tensor) -> Tensor:
    """(K, M) IoU of predicted and true boxes."""
    from torchvision.ops import box_iou  # an import of two seconds, for detection only

    return torch.as_tensor(box_iou(found[:, :4], there[:, 1:]))


def _confused(found: Tensor, there: Tensor, classes: int) -> NDArray[np.int64]:
    """(classes + 1, classes + 1) counts of an image's boxes, as in `_f1`: true class, found class;
    the last one means no box.
    """
    found, there = found[found[:, 4] >= SURE].cpu(), there[there[:, 0] > 0].cpu()
    counts, left = np.zeros((classes + 1, classes + 1), np.int64), _overlaps(found, there)
    for row, label in zip(left, found[:, 5].long().tolist(), strict=True):
        at = int(row.argmax()) if len(there) and row.max() >= OVERLAP else None
        counts[classes if at is None else int(there[at, 0]) - 1, label - 1] += 1
        if at is not None:
            left[:, at] = 0.0
            there[at, 0] = -there[at, 0]
    for label in there[there[:, 0] > 0, 0].long().tolist():
        counts[label - 1, classes] += 1
    return counts


def _f1(found: Tensor, there: Tensor) -> float:
    """F1 of an image's boxes: `found` (K, 6) as in `Boxes`, `there` (M, 5) as in a `BoxTable`; each
    true box is found at most once.
    """
    found, there = found[found[:, 4] >= SURE].cpu(), there[there[:, 0] > 0].cpu()
    overlaps = _overlaps(found, there) * (found[:, 5:] == there[None, :, 0])
    hits, free = 0, torch.ones(len(there), dtype=torch.bool)
    for row in overlaps:
        best, at = (row * free).max(0) if len(there) else (torch.tensor(0.0), torch.tensor(0))
        if best >= OVERLAP:
            hits, free[at] = hits + 1, False
    return 2 * hits / (len(found) + len(there)) if len(found) + len(there) else 1.0
