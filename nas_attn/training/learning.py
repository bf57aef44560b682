"""What a task is to the trainer: the output that it expects, a loss, the metrics of a split."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from nas_attn.errors import TrainingError
from nas_attn.tasks import Task


def answer_of(output: object) -> object:
    """The tensor that counts of a network's output: torchvision's segmentation networks return it under `out`."""
    return output.get("out") if isinstance(output, Mapping) else output


class Tally(ABC):
    """Counts what a network has right, batch after batch."""

    @abstractmethod
    def add(self, answer: Any, y: Tensor) -> None:
        """Another batch, the logits or what the task has in their place, without waiting for the device."""

    @abstractmethod
    def metrics(self, loss: float) -> dict[str, float]:
        """Of all batches, the loss being one of them."""

    def right(self) -> bytes | None:
        """Per image, right or wrong, as bits; None where an image is neither."""
        return None


class Learnt(ABC):
    """A task as the trainer sees it."""

    recordable = True
    """Whether a step is the same operations for any batch, which compiling it or recording it as a CUDA graph needs."""

    def __init__(self, task: Task, classes: int) -> None:
        self.task, self.classes = task, classes

    def ask(self, network: Callable[..., object], x: Tensor, y: Tensor | None = None) -> object:
        """The network's output for x; y where it is to learn from it."""
        return network(x)

    def logits(self, output: object, x: Tensor) -> Tensor:
        """float32 logits (B, classes) or (B, classes, H, W) of a network's output for x.

        Raises:
            TrainingError: it has another shape.
        """
        found = answer_of(output)
        expected = (len(x), *self.task.output(self.classes, (x.shape[2], x.shape[3])))
        if not isinstance(found, Tensor) or found.shape != expected:
            what = tuple(found.shape) if isinstance(found, Tensor) else type(output).__name__
            raise TrainingError(f"the network returns {what} for {len(x)} images, expected is a tensor of {expected}")
        return found.float()

    @abstractmethod
    def loss(self, logits: Tensor, y: Tensor, smoothing: float = 0.0) -> Tensor:
        """Sum over the images of the log-loss, scalar."""

    def judge(self, output: object, x: Tensor, y: Tensor, tally: Tally) -> Tensor:
        """Counts a batch, and gives the sum of its log-losses."""
        logits = self.logits(output, x)
        tally.add(logits, y)
        return self.loss(logits, y)

    def practice(self, network: Callable[..., object], x: Tensor) -> Tensor:
        """A loss of no meaning, which takes as long as that of training."""
        return self.logits(self.ask(network, x), x).square().mean()

    @abstractmethod
    def tally(self) -> Tally:
        """To score a split with."""
