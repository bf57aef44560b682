"""What a task's networks answer as a file: their interface, their graph, and how a file is compared and judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from nas_attn.data import Dataset
from nas_attn.evaluation.plan import Plan
from nas_attn.export.graphs import BOX, Chosen, Graph, single_output
from nas_attn.export.python_file import UNCHANGED, Interface
from nas_attn.tasks import Task
from nas_attn.training.learning import MOST, Tally

if TYPE_CHECKING:
    from nas_attn.export.formats import Format

COMPARED = 4
"""Images that a detector's file is compared on: on one alone there may be nothing."""


class Answers:
    """Logits; the base of what other tasks' networks answer."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def interface(self, plan: Plan, dataset: Dataset | None) -> Interface:
        """What an exported network takes and gives."""
        output = self.task.output(plan.classes, plan.input_shape[1:])
        if dataset is None:
            return Interface(tuple(map(str, range(plan.classes))), (), (), output)
        return Interface(tuple(dataset.classes), dataset.mean, dataset.std, output)

    def graph(self, model: nn.Module, input_shape: tuple[int, int, int]) -> Graph:
        """The network as a file that holds a graph has it: images in, one tensor out."""
        return single_output(model, input_shape)

    def compared(self, plan: Plan, dataset: Dataset | None, *, stored: bool) -> Iterator[Tensor]:
        """Batches of different sizes on which an exported file is compared with its network.

        Args:
            stored: uint8 images as the data set holds them.
        """
        if dataset is None:
            yield from (torch.randn(count, *plan.input_shape) for count in (3, 1))
            return
        images = dataset.validation.first(5)
        if not stored:
            images = next(iter(dataset.validation.batches(len(images))))[0].contiguous()
        yield from (images[:3].contiguous(), images[3:].contiguous()) if len(images) > 3 else (images,)

    def judged(self, run: Callable[[Any], Any], dataset: Dataset, *, stored: bool, batch: int) -> Tally:
        """What an exported file has right on the validation images.

        Args:
            run: the file: NumPy images in, NumPy answers out.
            stored: as in `compared`.
        """
        tally, split = self.task.learnt(len(dataset.classes)).tally(), dataset.validation
        for x, y in split.stored(batch) if stored else split.batches(batch):
            tally.add(torch.from_numpy(run(x.contiguous().numpy())), y)
        return tally

    def said(self, shape: tuple[int, ...], format_: str) -> str:
        """What an exported network answers, for its card.

        Args:
            shape: for one image.
        """
        return f"({', '.join(map(str, ('N', *shape)))}) before softmax"

    def formats(self) -> Mapping[str, Format]:
        """Formats that only this task's networks can be written in."""
        return {}


class Boxes(Answers):
    """Boxes that a detector has chosen."""

    def interface(self, plan: Plan, dataset: Dataset | None) -> Interface:
        if dataset is None:
            return super().interface(plan, dataset)
        return Interface(tuple(dataset.classes), *UNCHANGED, (MOST, BOX))

    def graph(self, model: nn.Module, input_shape: tuple[int, int, int]) -> Graph:
        return Chosen(model).eval()

    def compared(self, plan: Plan, dataset: Dataset | None, *, stored: bool) -> Iterator[Tensor]:
        if dataset is None:
            return super().compared(plan, dataset, stored=stored)
        return (x.contiguous() for x, _ in islice(dataset.validation.batches(1), COMPARED))

    def judged(self, run: Callable[[Any], Any], dataset: Dataset, *, stored: bool, batch: int) -> Tally:
        tally = self.task.learnt(len(dataset.classes)).tally()
        for x, y in dataset.validation.batches(1):  # an ONNX file takes one image
            (found,) = torch.from_numpy(run(x.contiguous().numpy())).reshape(1, -1, BOX)
            found = found[found[:, 5] > 0]
            tally.add([{"boxes": found[:, :4], "scores": found[:, 4], "labels": found[:, 5]}], y)
        return tally

    def said(self, shape: tuple[int, ...], format_: str) -> str:
        more = "" if format_ == "onnx" else "; torch gives the same as boxes, scores and labels of each image"
        return f"(found, {BOX}) of an image: left, top, right, bottom in pixels, score, class from 1{more}"
