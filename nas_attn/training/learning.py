"""A task for the trainer: the expected output, the loss, the metrics. Detectors are scored by
COCO's mAP.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import io
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from nas_attn.data.parts import NOT_COUNTED
from nas_attn.errors import RecipeError, TrainingError, did_you_mean, first_line, shorten
from nas_attn.importing import load_object
from nas_attn.recipe import Named
from nas_attn.tasks import Task


def answer_of(output: object) -> object:
    """The main tensor of a network's output; torchvision's segmentation networks return it under
    `out`.
    """
    return output.get("out") if isinstance(output, Mapping) else output


class OwnLoss:
    """`training.loss`, called with logits (B, classes, ...) and class numbers or shares of classes:
    the mean over a batch.
    """

    def __init__(self, named: Named, output: Sequence[int]) -> None:
        """`output`: shape of one image's logits. Raises RecipeError: an unknown name, wrong
        arguments, or not for such logits.
        """
        self._said = f"training.loss = '{named.name}'"
        self._loss = self._made(named, masked=len(output) > 1)
        self._logits = torch.zeros(
            output[0] + 1, *output
        )  # a batch size other than the number of classes
        self._y = torch.zeros(len(self._logits), *output[1:], dtype=torch.long)
        self._shares = False
        try:
            self._try(self._y)
        except RecipeError:
            if len(output) > 1:  # uncounted pixels have no share of any class
                raise
            self._shares = True
            self.require_shares()

    def _made(self, named: Named, *, masked: bool) -> Callable[..., Tensor]:
        kinds = {name: kind for name, kind in vars(nn).items() if name.endswith("Loss")}
        if ":" in named.name:
            make = load_object(named.name, what="training.loss", error=RecipeError)
        elif named.name in kinds:
            make = kinds[named.name]
        else:
            raise RecipeError(
                f"training.loss: torch.nn has no '{named.name}': {did_you_mean(named.name, kinds)}"
            )
        arguments = {
            k: torch.tensor(v) if isinstance(v, list) else v for k, v in named.arguments.items()
        }
        try:
            if masked and "ignore_index" in inspect.signature(make).parameters:
                arguments.setdefault("ignore_index", NOT_COUNTED)
            loss = make(**arguments)
        except Exception as error:  # anybody's class
            raise RecipeError(f"{self._said} cannot be made: {first_line(error)}") from None
        return loss  # type: ignore[no-any-return]

    def require_shares(self) -> None:
        """Raises RecipeError: it cannot be computed for shares of classes."""
        self._try(one_hot(self._y, self._logits.shape[1]).float())

    def _try(self, y: Tensor) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore"
                )  # about shapes that do not fit: these raise an error here
                found = self._loss(self._logits, y)
        except Exception as error:  # anybody's loss
            what = (
                "shares of classes, as MixUp makes them"
                if y.is_floating_point()
                else "class numbers"
            )
            raise RecipeError(
                f"{self._said} does not take {what}: {shorten(first_line(error))}"
            ) from None
        if not isinstance(found, Tensor) or found.ndim:
            raise RecipeError(f"{self._said} must give one number for a batch: leave out reduction")

    def __call__(self, logits: Tensor, y: Tensor) -> Tensor:
        if isinstance(self._loss, nn.Module):
            self._loss.to(logits.device)
        if self._shares and y.ndim < logits.ndim:
            y = one_hot(y, logits.shape[1]).to(logits.dtype)
        return self._loss(logits, y)


class Tally(ABC):
    """Counts a network's correct results, batch after batch."""

    @abstractmethod
    def add(self, answer: Any, y: Tensor) -> None:
        """Adds a batch (logits, or the task's other output), without waiting for the device."""

    @abstractmethod
    def metrics(self, loss: float) -> dict[str, float]:
        """The metrics over all batches, with the `loss` among them."""

    def right(self) -> bytes | None:
        """For each image right or wrong, as bits; None if an image is neither."""
        return None

    def answers(self) -> dict[str, Any]:
        """The fields of `analysis.per_image.Answers` for this task; call `metrics` before."""
        return {}


class Learnt(ABC):
    """A task's interface for the trainer."""

    recordable = (
        True  # Whether all batches have the same operations: compiling and recording need it
    )

    def __init__(self, task: Task, classes: int, loss: Named | None = None) -> None:
        self.task, self.classes = task, classes
        self._own = OwnLoss(loss, task.output(classes, (2, 2))) if loss else None

    def ask(self, network: Callable[..., object], x: Tensor, y: Tensor | None = None) -> object:
        """The network's output for x; y is given in training."""
        return network(x)

    def logits(self, output: object, x: Tensor) -> Tensor:
        """float32 logits (B, classes) or (B, classes, H, W) of a network's output for x;
        TrainingError: another shape.
        """
        found = answer_of(output)
        expected = (len(x), *self.task.output(self.classes, (x.shape[2], x.shape[3])))
        if not isinstance(found, Tensor) or found.shape != expected:
            what = tuple(found.shape) if isinstance(found, Tensor) else type(output).__name__
            raise TrainingError(
                f"the network returns {what} for {len(x)} images, not a tensor of {expected}"
            )
        return found.float()

    @abstractmethod
    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """The log-loss, summed over the images: a scalar."""

    def training_loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """The training loss, summed over the images: the log-loss, or `training.loss`."""
        return self._own(logits, y) * len(y) if self._own else self.loss(logits, y)

    def require_shares(self) -> None:
        """Raises RecipeError: `training.loss` cannot learn from images with shares of several
        classes, as MixUp makes them.
        """
        if self._own:
            self._own.require_shares()

    def judge(self, output: object, x: Tensor, y: Tensor, tally: Tally) -> Tensor:
        """Counts a batch, and gives the sum of its log-losses."""
        logits = self.logits(output, x)
        tally.add(logits, y)
        return self.loss(logits, y)

    def practice(self, network: Callable[..., object], x: Tensor) -> Tensor:
        """A meaningless loss that takes as long as the training loss, for timing."""
        return self.logits(self.ask(network, x), x).square().mean()

    @abstractmethod
    def tally(self) -> Tally:
        """A new tally, to score a split."""


class ClassOfImage(Learnt):
    """A class of each image: y is int64 (B,), or shares (B, classes)."""

    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(logits, y, reduction="sum")

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

    def answers(self) -> dict[str, Any]:
        return {"wrong": torch.cat(self._predicted).cpu().numpy()[~self._bits()].tolist()}

    def _bits(self) -> NDArray[Any]:
        return (torch.cat(self._predicted) == torch.cat(self._labels)).cpu().numpy()


class ClassOfPixel(Learnt):
    """A class of each pixel: y is int64 (B, H, W), NOT_COUNTED where there is none. Each image
    weighs the same in the loss.
    """

    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        each = cross_entropy(logits, y, reduction="none", ignore_index=NOT_COUNTED)
        counted = (y != NOT_COUNTED).sum((1, 2)).clamp(min=1)
        return (each.sum((1, 2)) / counted).sum()

    def tally(self) -> Tally:
        return _Pixels(self.classes)


class _Pixels(Tally):
    def __init__(self, classes: int) -> None:
        self._classes = classes
        # of each pair of classes, the true one first, and at the end pixels that do not count
        self._counts: Tensor | None = None
        self._shares: list[Tensor] = []  # of each image's pixels that are right

    def add(self, answer: Any, y: Tensor) -> None:
        counted, found = y != NOT_COUNTED, answer.argmax(1)
        place = torch.where(
            counted, y * self._classes + found, self._classes**2
        )  # indexing would wait for the device
        self._shares.append(((found == y) & counted).sum((1, 2)) / counted.sum((1, 2)).clamp(min=1))
        if self._counts is None:
            self._counts = place.new_zeros(self._classes**2 + 1)
        # bincount would wait for the device, to see the largest value
        self._counts.scatter_add_(0, place.flatten(), place.new_ones(()).expand(place.numel()))

    def metrics(self, loss: float) -> dict[str, float]:
        assert self._counts is not None  # no split is empty
        pairs = self._counts[:-1].view(self._classes, self._classes).cpu().numpy()
        return {
            "mean_iou": mean_iou(pairs),
            "pixel_accuracy": float(np.diag(pairs).sum() / pairs.sum()),
            "loss": loss,
        }

    def answers(self) -> dict[str, Any]:
        assert self._counts is not None  # no split is empty
        counts = self._counts[:-1].view(self._classes, self._classes).tolist()
        return {"counts": counts, "images": rounded(torch.cat(self._shares).tolist())}


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
    right, true, taken = np.diag(counts), counts.sum(1), counts.sum(0)
    there = true > 0
    recall = right[there] / true[there]
    f1 = 2 * right[there] / (true[there] + taken[there])
    return {"balanced_accuracy": float(recall.mean()), "macro_f1": float(f1.mean())}


def mean_iou(counts: NDArray[np.int64]) -> float:
    """Mean IoU from counts of pixels (classes, classes); rows are true. A class without pixels is
    left out of the mean.
    """
    both, true, taken = np.diag(counts), counts.sum(1), counts.sum(0)
    there = true > 0
    return float((both[there] / (true[there] + taken[there] - both[there])).mean())


def rounded(values: Sequence[float]) -> list[float]:
    """The values, with as many places as a picture's caption."""
    return [round(value, 3) for value in values]


MOST = 100  # boxes of an image that count, highest scores first, as in COCO


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

    def __init__(self, task: Task, classes: int, loss: Named | None = None) -> None:
        require_scorer()
        super().__init__(task, classes)  # its networks bring their losses

    def ask(self, network: Callable[..., object], x: Tensor, y: Tensor | None = None) -> object:
        if y is None:
            return network(list(x))
        known = [boxes[boxes[:, 0] > 0] for boxes in y]
        return network(list(x), [{"boxes": k[:, 1:], "labels": k[:, 0].long()} for k in known])

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

    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        return logits.sum() * len(y)

    def judge(self, output: object, x: Tensor, y: Tensor, tally: Tally) -> Tensor:
        tally.add(output, y)
        return x.new_zeros(())  # a network returns its losses only in training

    def practice(self, network: Callable[..., object], x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        box = [1.0, width / 4, height / 4, 3 * width / 4, 3 * height / 4]
        return self.logits(self.ask(network, x, x.new_tensor(box).expand(len(x), 1, 5)), x).sum()

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


SURE = 0.3  # least score of a box that is drawn, and counts in an image's F1
OVERLAP = 0.5  # least IoU with a true box to count as found


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
