"""What a task is: its metrics, its rules, and what `init` proposes for it. Loads no torch.

A task is a folder beside this file, and one row in `nas_attn.wiring`, which names

- a `Task`, as here: what holds of the task before anything is loaded;
- a `nas_attn.training.tasks.data.TaskData`: how its images are read;
- a `nas_attn.training.learnt.Learnt`: the loss and the metrics;
- a `nas_attn.export.formats.TaskExport`: how its networks are exported;
- if another trainer than ours trains its networks: a function that makes an evaluator of a recipe.

For example, a task with a depth for each pixel:

    class Depth(Task):
        name = "depth"
        metrics = ("r2", "rmse")
        hints = Hints(backbones="smp:ARCHITECTURE/ENCODER", own_images={"task": "depth"})

        def check(self, recipe):
            if recipe.training.loss is not None:
                raise ValueError("training.loss is not supported for depth: remove it")

        def output(self, classes, size):
            return (1, *size)

        ...

All methods are pure: the same answer for the same arguments, from any thread.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

from nas_attn.recipe.tables import METRICS, Kind, TaskRow

if TYPE_CHECKING:
    # A module that loads pydantic, which `nas-attn --help` does without.
    from nas_attn.recipe.protocol import TrainingSection
    from nas_attn.recipe.sections import (
        BackboneSection,
        DataSection,
        Fit,
        InputSize,
        TaskSection,
    )

EXTERNAL = "external"
"""Name of the data of an evaluator that brings its own."""
MIXING = frozenset({"mixup", "MixUp", "CutMix"})
"""Augmentations that mix the labels of images."""
DETECTOR_SIDE = 320
"""Side of a detector's input, unless the data or the detector says otherwise."""
YOLO_SIDE = 640
"""The same of Ultralytics' detectors."""
USUAL_SIDE = 64
"""Side of the images with which `init` builds a backbone to test it."""


class RecipeParts(Protocol):
    """What a task looks at in a recipe (`nas_attn.recipe.recipe.Recipe`)."""

    @property
    def task(self) -> TaskSection: ...

    @property
    def backbone(self) -> BackboneSection: ...

    @property
    def data(self) -> DataSection: ...

    @property
    def training(self) -> TrainingSection: ...

    @property
    def augmentations(self) -> set[str]:
        """Names of all augmentations, of search and target."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a network is trained by default."""

    batch_size: int
    epochs: int
    """From random weights."""
    tuned: int
    """Epochs from published weights or the user's."""


@dataclass(frozen=True, slots=True)
class Hints:
    """What `init` says about a task, and what it proposes."""

    backbones: str
    """The backbones that there are, for a comment."""
    own_images: Mapping[str, str]
    """Options of `init` for the user's images."""
    space: str = ""
    """Search space; empty: by the data."""
    more_data: tuple[str, ...] = ()
    """Data sets that are not in the table."""


class Task(ABC):
    """A task: what holds of it before torch or any image is loaded."""

    name: ClassVar[str]
    """`task.name` in a recipe. Several tasks may have one name: `fits` tells them apart."""
    metrics: ClassVar[Sequence[str]]
    """What its networks are scored by, rows of `nas_attn.recipe.tables.METRICS`; the first is the
    default.
    """
    per_image: ClassVar[bool] = False
    """Whether a network is right or wrong about an image, for intervals on new images."""
    conditions: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Further conditions of a latency."""
    answer: ClassVar[str] = "logits"
    """What a network gives, `logits`, `numbers` or `boxes`."""
    said: ClassVar[str] = "before softmax"
    """What an exported network's outputs are, on its card."""
    labels: ClassVar[Kind] = "classes"
    """What its data sets know of an image."""
    own_trainer: ClassVar[bool] = True
    """Whether our own trainer trains, unless an evaluator does."""
    paced_by_images: ClassVar[bool] = True
    """Whether `init` looks at how many images a folder has."""
    normalised: ClassVar[bool] = True
    """Whether a network is fed normalised images; else from 0 to 1."""
    backbone: ClassVar[str]
    """What `init` proposes, where it is the same for all data."""
    hints: ClassVar[Hints]
    training_lines: ClassVar[str] = ""
    """Lines of `[training]` that `init` adds to a recipe."""

    def __init__(self, row: TaskRow) -> None:
        """`row`: where the task's other parts are."""
        self.row = row

    @property
    def metric(self) -> str:
        """The task's default metric."""
        return self.metrics[0]

    @property
    def exact_when_guessing(self) -> str | None:
        """Its metric that is exactly 1 / classes if one class is guessed for all images."""
        return next((name for name in self.metrics if METRICS[name].guess == "always"), None)

    @property
    def losses(self) -> list[str]:
        """Those of its metrics that are lower for better networks."""
        return [name for name in self.metrics if METRICS[name].kind == "loss"]

    def fits(
        self,
        backbone: str,  # noqa: ARG002 - where several tasks have one name, it tells them apart
        *,
        evaluated: bool,  # noqa: ARG002 - as before
    ) -> bool:
        """Whether this is the task of its name for this backbone. `evaluated`: the user's evaluator
        trains and scores, not the task's own trainer.
        """
        return True

    def check(self, recipe: RecipeParts) -> None:
        """Raises a ValueError if the recipe asks for something that this task cannot do, as most
        cannot mix labels.
        """
        refuse_mixing(self.name, recipe)

    def output(
        self,
        classes: int,
        size: tuple[int, int],  # noqa: ARG002 - masks are as large as their images
    ) -> tuple[int, ...]:
        """Shape of the logits for one image of this (height, width)."""
        return (classes,)

    def usual_backbone(
        self,
        data: str,  # noqa: ARG002 - small images may take a small network
        *,
        small: bool,  # noqa: ARG002 - as before
    ) -> str:
        """What `init` proposes for these data."""
        return self.backbone

    @abstractmethod
    def pace(self, data: str, *, small: bool) -> Pace:
        """How long `init` proposes to train, unless a folder is small."""

    def pace_of_few(self, images: float) -> Pace:
        """How long `init` proposes to train on so few images: 600 steps, or 100 epochs."""
        epochs = min(100, max(20, round(600 * 16 / images)))
        return Pace(16, epochs, epochs // 3)

    def trial_side(
        self,
        backbone: str,  # noqa: ARG002 - a detector may take no other
    ) -> int:
        """Side of the images with which `init` builds a backbone to test it."""
        return USUAL_SIDE

    def input_side(self, backbone: str) -> int:
        """Side of the input that `init` proposes for photographs of usual shape."""
        return self.trial_side(backbone)

    def data_lines(self, data: str, backbone: str, proposed: InputProposal | None) -> str:
        """Gives the lines of `[data]` about the images' size, and how many are made.

        Args:
            data: name of the data.
            backbone: name of the network.
            proposed: by what the images are; None: nobody has seen them.
        """
        if not data.startswith("folder:"):
            return ""
        return folder_lines(proposed or InputProposal(self.input_side(backbone), "cut"))


def refuse_mixing(task: str, recipe: RecipeParts) -> None:
    """Raises a ValueError: a recipe mixes images, whose labels this task cannot mix."""
    for name in sorted(MIXING & recipe.augmentations):
        raise ValueError(f"training.augment: '{name}' is not supported for {task}: remove it")


class InputProposal(NamedTuple):
    """How images become a network's input, as `init` proposes it."""

    size: InputSize
    fit: Fit
    # bands that are read; None: images become RGB
    channels: int | None = None
    # a sentence, where the network or its weights decide; empty: the images do
    why: str = ""
    # what trained weights want; None: that of the training images
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    # torchvision's name of it; None: bilinear
    interpolation: str | None = None


def input_lines(proposed: InputProposal) -> str:
    """Lines of `[data]` about how a user's images become the network's input."""
    size = proposed.size if isinstance(proposed.size, int) else list(proposed.size)
    bands = ""
    if proposed.channels is not None:
        bands = (
            f"channels = {proposed.channels}   # bands, read as they are; without it, images become"
            " RGB\n"
        )
    of_weights = ""
    if proposed.mean is not None and proposed.std is not None:
        of_weights = f"""\
# What the network's weights are made for; so is the share of an image that is cut out.
mean = {list(proposed.mean)}
std = {list(proposed.std)}
options = {{ interpolation = "{proposed.interpolation}" }}
"""
    return f"""\
{bands}# Pixels of the network's input: a side, or [height, width]; ImageNet: 224.
size = {size}
# cut: its middle is kept; resize: both sides are scaled; letterbox: all of it is kept, beside grey.
fit = "{proposed.fit}"
{of_weights}# "skip" leaves out unreadable images and reports their number; "refuse" is an error.
broken_images = "skip"
"""


def folder_lines(proposed: InputProposal) -> str:
    """Lines of `[data]` for the user's folder of images."""
    return f"""\
{input_lines(proposed)}\
# The share of the training images to score on; default: the folder's val/, else a fifth.
# validation = 0.2
# Images of one patient or scene stay together; or file = "groups.csv".
# groups = {{ pattern = "^([^_]+)_" }}
"""
