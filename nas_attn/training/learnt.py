"""What a network learns, as the trainer sees it: the expected output, the loss, the metrics. Each
task has a class of its own.
"""

from __future__ import annotations

import inspect
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from nas_attn.data.dataset import Dataset, Moments
from nas_attn.data.inventory import NOT_COUNTED
from nas_attn.errors import RecipeError, TrainingError, first_line, shorten
from nas_attn.recipe.recipe import Named
from nas_attn.recipe.task import Task
from nas_attn.training.parameters import torchs_or_own


def answer_of(output: object) -> object:
    """The main tensor of a network's output: under `out`, as torchvision's segmentation networks
    have it, or `logits`, as those of Hugging Face do; the first of several.
    """
    if isinstance(output, Mapping):
        return output.get("out", output.get("logits"))
    if isinstance(output, tuple | list) and output:
        return output[0]
    return getattr(output, "logits", output)


class OwnLoss:
    """`training.loss`, called with logits (B, classes, ...) and class numbers or shares of classes:
    the mean over a batch.
    """

    def __init__(self, named: Named, output: Sequence[int]) -> None:
        """`output`: shape of one image's logits. Raises RecipeError: an unknown name, wrong
        arguments, or not for such logits.
        """
        self._setting = f"training.loss = '{named.name}'"
        self._output = output
        # uncounted pixels have no share of any class
        masked = len(output) > 1
        make = torchs_or_own(named.name, nn, "training.loss")
        arguments = {
            name: torch.tensor(value) if isinstance(value, list) else value
            for name, value in named.arguments.items()
        }
        try:
            if masked and "ignore_index" in inspect.signature(make).parameters:
                arguments.setdefault("ignore_index", NOT_COUNTED)
            self._loss: Callable[..., Tensor] = make(**arguments)
        except Exception as error:
            # anybody's class
            raise RecipeError(f"{self._setting} cannot be made: {first_line(error)}") from None
        # whether it takes shares of classes only, no class numbers
        self._shares = not masked and bool(self._refused(shares=False))
        self.require(shares=self._shares)

    def require(self, *, shares: bool) -> None:
        """Raises RecipeError: it cannot be computed for class numbers, or for shares of classes."""
        if refused := self._refused(shares=shares):
            what = "shares of classes, as MixUp makes them" if shares else "class numbers"
            raise RecipeError(f"{self._setting} does not take {what}: {refused}")

    def _refused(self, *, shares: bool) -> str:
        """Why it cannot be computed for class numbers, or for shares; empty if it can."""
        classes = self._output[0]
        # one image more than classes: so a loss that takes one for the other fails
        logits = torch.zeros(classes + 1, *self._output)
        y = torch.zeros(classes + 1, *self._output[1:], dtype=torch.long)
        try:
            with warnings.catch_warnings():
                # about shapes that do not fit: these raise an error here
                warnings.simplefilter("ignore")
                value = self._loss(logits, one_hot(y, classes).float() if shares else y)
        except Exception as error:
            # anybody's loss
            return shorten(first_line(error))
        if isinstance(value, Tensor) and not value.ndim:
            return ""
        return "it must give one number for a batch: leave out reduction"

    def __call__(self, logits: Tensor, y: Tensor) -> Tensor:
        if isinstance(self._loss, nn.Module):
            self._loss.to(logits.device)
        if self._shares and y.ndim < logits.ndim:
            y = one_hot(y, logits.shape[1]).to(logits.dtype)
        return self._loss(logits, y)


def learnt_of(
    task: Task, classes: int, loss: Named | None = None, moments: Moments | None = None
) -> Learnt:
    """What networks of this task learn. Raises RecipeError: `training.loss` cannot be made, or is
    for other outputs.

    Args:
        task: the task.
        classes: how many classes, labels or columns there are.
        loss: the recipe's; None: the task's own.
        moments: of the training images' labels or numbers, as `data.dataset.Dataset` has them.

    Returns:
        The loss and the metrics.
    """
    kind: type[Learnt] = task.row.learnt()
    return kind(task, classes, loss, moments)


def learnt_from(dataset: Dataset, loss: Named | None = None) -> Learnt:
    """What networks learn from these images. Raises RecipeError as `learnt_of`, or a loss of the
    recipe's would get labels that are unknown.
    """
    targets = dataset.train.targets
    if loss is not None and targets is not None and bool(targets.isnan().any()):
        raise RecipeError(
            f"training.loss = '{loss.name}' does not leave out unknown labels (data.unknown), as"
            " the task's own loss does: remove one of the two"
        )
    return learnt_of(dataset.task, len(dataset.classes), loss, dataset.moments)


class Learnt(ABC):
    """What networks of a task learn: the loss, and the metrics of all batches since `begin`.
    `learnt_of` makes one for a data set. For example:

        class ClassOfImage(Learnt):
            def loss(self, logits, y):
                return cross_entropy(logits, y, reduction="sum")

            def metrics(self, loss):
                right = torch.cat(self.given).argmax(1) == torch.cat(self.true)
                return {"accuracy": float(right.float().mean()), "loss": loss}
    """

    recordable = True
    """Whether all batches have the same operations: compiling and recording need it."""

    def __init__(
        self,
        task: Task,
        classes: int,
        loss: Named | None = None,
        moments: Moments | None = None,
    ) -> None:
        """`loss`, `moments`: as of `learnt_of`."""
        self.task = task
        self.classes = classes
        self.moments = moments
        self._own = None
        if loss:
            self._own = OwnLoss(loss, task.output(classes, (2, 2)))
        self.begin()

    def begin(self) -> None:
        """Forgets all batches."""
        self.given: list[Tensor] = []
        self.true: list[Tensor] = []

    def add(self, answer: Any, y: Tensor) -> None:
        """Adds a batch (logits, or the task's other output), without waiting for the device."""
        self.given.append(answer)
        self.true.append(y)

    @abstractmethod
    def metrics(self, loss: float) -> dict[str, float]:
        """The metrics over all batches, with the `loss` among them."""

    def right(self) -> bytes | None:
        """For each image right or wrong, as bits; None if an image is neither."""
        return None

    def answers(self) -> dict[str, Any]:
        """The fields of `answer.per_image.Answers` for this task; call `metrics` before."""
        return {}

    def ask(
        self,
        network: Callable[..., object],
        x: Tensor,
        y: Tensor | None = None,  # noqa: ARG002 - a detector in training needs it
    ) -> object:
        """The network's output for x; y is given in training."""
        return network(x)

    def logits(self, output: object, x: Tensor) -> Tensor:
        """float32 logits (B, classes) or (B, classes, H, W) of a network's output for x;
        TrainingError: another shape.
        """
        logits = answer_of(output)
        expected = (len(x), *self.task.output(self.classes, (x.shape[2], x.shape[3])))
        if not isinstance(logits, Tensor) or logits.shape != expected:
            what = tuple(logits.shape) if isinstance(logits, Tensor) else type(output).__name__
            raise TrainingError(
                f"the network returns {what} for {len(x)} images, not a tensor of {expected}"
            )
        return logits.float()

    @abstractmethod
    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """The log-loss, summed over the images: a scalar."""

    def training_loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """The training loss, summed over the images: the log-loss, or `training.loss`."""
        if self._own:
            return self._own(logits, y) * len(y)
        return self.loss(logits, y)

    def require_shares(self) -> None:
        """Raises RecipeError: `training.loss` cannot learn from images with shares of several
        classes, as MixUp makes them.
        """
        if self._own:
            self._own.require(shares=True)

    def judge(self, output: object, x: Tensor, y: Tensor) -> Tensor:
        """Counts a batch, and gives the sum of its log-losses.

        Args:
            output: what the network returned for x.
            x: float (B, C, H, W) images.
            y: their labels, as the task has them.
        """
        logits = self.logits(output, x)
        self.add(logits, y)
        return self.loss(logits, y)
