"""The interface of a task. Each task is one subclass, in a file of its own. What needs torch is named by path."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from nas_attn import data_sets
from nas_attn.importing import named
from nas_attn.records import ALONE, Share

if TYPE_CHECKING:
    import torch

    from nas_attn.data import Dataset
    from nas_attn.data.loading import Classes
    from nas_attn.evaluation.evaluators import Evaluator
    from nas_attn.export.answers import Answers
    from nas_attn.recipe import DataSection, Recipe
    from nas_attn.training.learning import Learnt

EXTERNAL = "external"
"""Name of the data of an evaluator that brings its own."""
MIXING = frozenset({"mixup", "MixUp", "CutMix"})
"""Augmentations that mix the labels of images."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Per channel, of the images that torchvision's and nearly all of timm's weights were trained on."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long `init` proposes to train."""

    batch_size: int
    epochs: int
    rungs: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Hints:
    """What `init` says of a task, and proposes."""

    backbones: str
    """The backbones that there are, for a comment."""
    own_images: Mapping[str, str]
    """Options of `init` for images of one's own."""
    space: str = ""
    """Search space; empty: by the data."""
    target_epochs: int = 0
    """At least so many epochs of the target."""
    more_data: tuple[str, ...] = ()
    """Data sets that are not in the table."""


class Task(ABC):
    """A task: its metrics, its rules, its data, how it is learnt, timed and exported."""

    name: ClassVar[str]
    shares: ClassVar[Mapping[str, str]]
    """Metrics that are shares of what there is to get right, shown in percent, their differences in points -> title.
    The first is the task's own."""
    losses: ClassVar[Mapping[str, str]] = MappingProxyType({"loss": "log-loss"})
    """Metrics of which lower is better -> title."""
    per_image: ClassVar[bool] = False
    """Whether a network is right or wrong about an image, so that something can be said of new images."""
    conditions: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """What is to be said of a latency beside the conditions of its measurement."""
    why_constant: ClassVar[str] = ""
    """What may be wrong where all networks score the same; empty: nothing peculiar to this task."""
    answer: ClassVar[str] = "logits"
    """What a network gives, `logits` or `boxes`."""
    labels: ClassVar[data_sets.Kind] = "classes"
    """What its data sets say of an image."""
    own_trainer: ClassVar[bool] = True
    """Whether our own trainer trains, unless an evaluator does."""
    paced_by_images: ClassVar[bool] = True
    """Whether `init` proposes how long to train by how many images a folder has."""
    normalised: ClassVar[bool] = True
    """Whether a network is fed normalised images; else from 0 to 1."""
    hints: ClassVar[Hints]
    images_by: ClassVar[str]
    """What knows its images, a subclass of `data.loading.Classes`."""
    learnt_by: ClassVar[str]
    """The loss and the metrics, a subclass of `training.learning.Learnt`."""
    trained_by: ClassVar[str] = ""
    """Function of the recipe: the evaluator in place of our own trainer, where the recipe names none."""
    exported_by: ClassVar[str] = "nas_attn.export.answers:Answers"
    """What a network answers as a file."""

    @property
    def metric(self) -> str:
        """What the task is scored by, unless a recipe says otherwise."""
        return next(iter(self.shares))

    def fits(self, backbone: str, *, evaluated: bool) -> bool:
        """Whether this object stands for its name with this backbone."""
        return True

    def check(self, recipe: Recipe) -> None:
        """Raises:
        ValueError: the recipe asks for what this task cannot do.
        """
        return

    # ------------------------------------------------------------------------------------ data

    def kind(self) -> Classes:
        """What is known of its images."""
        kind: Classes = named(self.images_by)()
        return kind

    def data_section(self, recipe: Recipe) -> DataSection:
        """The recipe's data; published weights come with the normalisation that they were trained with."""
        section, row = recipe.data, data_sets.find(recipe.data.name)
        grey = row is not None and row.grey
        if recipe.training.weights != "default" or section.mean is not None or grey:
            return section
        return section.model_copy(update={"mean": list(IMAGENET_MEAN), "std": list(IMAGENET_STD)})

    def load(self, recipe: Recipe, *, device: torch.device | str, share: Share = ALONE) -> Dataset | None:
        """The recipe's data; None where what trains brings its own.

        Raises:
            DataError: they cannot be had.
        """
        if recipe.data.name == EXTERNAL:
            return None
        dataset: Dataset = named("nas_attn.data:load")(self.data_section(recipe), device=device, share=share, task=self)
        return dataset

    def check_trainings(self, recipe: Recipe, dataset: Dataset | None) -> None:
        """Makes the transforms, optimizers and schedules of search and target, so that nothing is trained in vain.

        Raises:
            DataError: a transform is unknown, fails, or does not fit the images.
            RecipeError: an optimizer or a schedule is unknown, or does not take its arguments.
        """
        if dataset is None or recipe.training.evaluator is not None:
            return
        for training in (recipe.training, recipe.target_training):
            dataset.train.check(training.augmentation)
            named("nas_attn.training.parameters:check_training")(training)

    def shape_and_classes(self, recipe: Recipe) -> tuple[tuple[int, int, int], int]:
        """What a network is fed, (C, H, W), and how many classes it tells apart, where `load` gives None.

        Raises:
            DataError: the data are not there.
        """
        assert recipe.data.input_shape is not None  # the recipe's schema sees to it
        return recipe.data.input_shape, recipe.data.classes or 1

    def missing_test(self, recipe: Recipe) -> str:
        """Why there is no test split, with the way out; empty where there is one, or only an evaluator knows."""
        dataset = self.load(recipe, device="cpu")
        return "" if dataset is None else dataset.missing_test

    # ------------------------------------------------------------------------------------ training, export

    def learnt(self, classes: int) -> Learnt:
        """The loss and the metrics, for the trainer."""
        learnt: Learnt = named(self.learnt_by)(self, classes)
        return learnt

    def output(self, classes: int, size: tuple[int, int]) -> tuple[int, ...]:
        """Shape of the logits for one image of this (height, width)."""
        return (classes,)

    def evaluator(self, recipe: Recipe) -> Evaluator | None:
        """What trains and scores in place of our own trainer, where the recipe names no evaluator."""
        evaluator: Evaluator | None = named(self.trained_by)(recipe) if self.trained_by else None
        return evaluator

    @property
    def answers(self) -> Answers:
        """How its networks are exported."""
        answers: Answers = named(self.exported_by)(self)
        return answers

    # ------------------------------------------------------------------------------------ `init`

    def usual_backbone(self, data: str, *, small: bool) -> str:
        """What `init` proposes for these data."""
        return "resnet8" if small else "resnet20" if "cifar" in data else "torchvision:resnet18"

    @abstractmethod
    def pace(self, data: str, *, small: bool) -> Pace:
        """How long `init` proposes to train, where a folder is not small."""

    def pace_of_few(self, images: float) -> Pace:
        """How long `init` proposes to train on so few images: 600 steps, or 100 epochs."""
        epochs = min(100, max(20, round(600 * 16 / images)))
        return Pace(16, epochs, (max(1, epochs // 20), max(3, epochs // 7)))

    def training_lines(self, backbone: str) -> str:
        """Lines of `[training]` that this task adds to a recipe."""
        return ""

    def data_lines(self, data: str, backbone: str) -> str:
        """Lines of `[data]` about the images' size, and how many are made."""
        return FOLDER if data.startswith("folder:") else ""


FOLDER = """\
size = 64                          # side in pixels: the shorter side is scaled to it, the middle square is kept; ImageNet: 224
broken_images = "refuse"           # skip: leave out unreadable images and report their number
# validation = 0.2                 # share of the training images to score on; default: the folder's val/, else a fifth
# groups = { pattern = "^([^_]+)_" }  # images of one patient or scene stay together; or file = "groups.csv"
"""
