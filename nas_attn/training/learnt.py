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

from nas_attn.data.dataset import Dataset
from nas_attn.data.inventory import NOT_COUNTED
from nas_attn.data.parts import Moments
from nas_attn.errors import RecipeError, TrainingError, did_you_mean, first_line, shorten
from nas_attn.recipe.recipe import Named
from nas_attn.recipe.task import Task
from nas_attn.system.importing import load_object


def answer_of(output: object) -> object:
    """The main tensor of a network's output; torchvision's segmentation networks return it under
    `out`.
    """
    if isinstance(output, Mapping):
        return output.get("out")
    return output


class OwnLoss:
    """`training.loss`, called with logits (B, classes, ...) and class numbers or shares of classes:
    the mean over a batch.
    """

    def __init__(self, named: Named, output: Sequence[int]) -> None:
        """`output`: shape of one image's logits. Raises RecipeError: an unknown name, wrong
        arguments, or not for such logits.
        """
        self._setting = f"training.loss = '{named.name}'"
        masked = len(output) > 1
        self._loss = self._made(named, masked=masked)
        # A batch to try the loss on, of another size than the number of classes: so a loss that
        # takes one for the other fails.
        self._logits = torch.zeros(output[0] + 1, *output)
        self._y = torch.zeros(len(self._logits), *output[1:], dtype=torch.long)
        # whether it takes shares of classes only, no class numbers
        self._shares = False
        try:
            self._try(self._y)
        except RecipeError:
            # uncounted pixels have no share of any class
            if masked:
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
        arguments = dict(named.arguments)
        for name, value in arguments.items():
            if isinstance(value, list):
                arguments[name] = torch.tensor(value)
        try:
            if masked and "ignore_index" in inspect.signature(make).parameters:
                arguments.setdefault("ignore_index", NOT_COUNTED)
            loss = make(**arguments)
        except Exception as error:
            # anybody's class
            raise RecipeError(f"{self._setting} cannot be made: {first_line(error)}") from None
        return loss  # type: ignore[no-any-return]

    def require_shares(self) -> None:
        """Raises RecipeError: it cannot be computed for shares of classes."""
        self._try(one_hot(self._y, self._logits.shape[1]).float())

    def _try(self, y: Tensor) -> None:
        try:
            with warnings.catch_warnings():
                # about shapes that do not fit: these raise an error here
                warnings.simplefilter("ignore")
                value = self._loss(self._logits, y)
        except Exception as error:
            # anybody's loss
            what = "class numbers"
            if y.is_floating_point():
                what = "shares of classes, as MixUp makes them"
            raise RecipeError(
                f"{self._setting} does not take {what}: {shorten(first_line(error))}"
            ) from None
        if not isinstance(value, Tensor) or value.ndim:
            raise RecipeError(
                f"{self._setting} must give one number for a batch: leave out reduction"
            )

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
        """The fields of `answer.per_image.Answers` for this task; call `metrics` before."""
        return {}


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
    learnt = kind(task, classes, loss)
    learnt.moments = moments
    return learnt


def learnt_from(dataset: Dataset, loss: Named | None = None) -> Learnt:
    """What networks learn from these images. Raises RecipeError as `learnt_of`."""
    return learnt_of(dataset.task, len(dataset.classes), loss, dataset.moments)


class Learnt(ABC):
    """What networks of a task learn: `learnt_of` makes one for a data set.

    A task with logits needs a loss and a tally:

        class ClassOfImage(Learnt):
            def loss(self, logits, y):
                return cross_entropy(logits, y, reduction="sum")

            def tally(self):
                return Images(self.classes)
    """

    recordable = True
    """Whether all batches have the same operations: compiling and recording need it."""
    moments: Moments | None = None
    """Mean and standard deviation of the training images' labels or numbers, (classes,) each."""

    def __init__(self, task: Task, classes: int, loss: Named | None = None) -> None:
        self.task = task
        self.classes = classes
        self._own = None
        if loss:
            self._own = OwnLoss(loss, task.output(classes, (2, 2)))

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
            self._own.require_shares()

    def judge(self, output: object, x: Tensor, y: Tensor, tally: Tally) -> Tensor:
        """Counts a batch, and gives the sum of its log-losses.

        Args:
            output: what the network returned for x.
            x: float (B, C, H, W) images.
            y: their labels, as the task has them.
            tally: takes the answers.
        """
        logits = self.logits(output, x)
        tally.add(logits, y)
        return self.loss(logits, y)

    @abstractmethod
    def tally(self) -> Tally:
        """A new tally, to score a split."""
