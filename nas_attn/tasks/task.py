"""The interface of a task. Each task is one subclass, in a file of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from nas_attn import data_sets
from nas_attn.records import ALONE, Share

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from nas_attn.data import Dataset
    from nas_attn.data.kinds import Classes
    from nas_attn.evaluation.evaluators import Evaluator
    from nas_attn.evaluation.plan import Plan
    from nas_attn.export.formats import Format
    from nas_attn.recipe import DataSection, Recipe
    from nas_attn.training.learning import Learnt, Tally

EXTERNAL = "external"
"""Name of the data of an evaluator that brings its own."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Per channel, of the images that torchvision's and nearly all of timm's weights were trained on."""


@dataclass(frozen=True, slots=True)
class Interface:
    """What an exported network takes and gives."""

    classes: tuple[str, ...]
    mean: tuple[float, ...]
    """Per channel, on the scale 0 to 1; empty where the images are an evaluator's."""
    std: tuple[float, ...]
    output: tuple[int, ...]
    """Shape of the answer for one image."""


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

    @abstractmethod
    def kind(self) -> Classes:
        """What is known of its images."""

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
        from nas_attn import data

        if recipe.data.name == EXTERNAL:
            return None
        return data.load(self.data_section(recipe), device=device, share=share, task=self)

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

    # ------------------------------------------------------------------------------------ learning

    @abstractmethod
    def learnt(self, classes: int) -> Learnt:
        """The loss and the metrics, for the trainer."""

    def output(self, classes: int, size: tuple[int, int]) -> tuple[int, ...]:
        """Shape of the logits for one image of this (height, width)."""
        return (classes,)

    def evaluator(self, recipe: Recipe) -> Evaluator | None:
        """What trains and scores in place of our own trainer, where the recipe names no evaluator."""
        return None

    # ------------------------------------------------------------------------------------ export

    def interface(self, plan: Plan, dataset: Dataset | None) -> Interface:
        """What an exported network takes and gives."""
        output = self.output(plan.classes, plan.input_shape[1:])
        if dataset is None:
            return Interface(tuple(map(str, range(plan.classes))), (), (), output)
        return Interface(tuple(dataset.classes), dataset.mean, dataset.std, output)

    def graph(self, model: nn.Module, input_shape: tuple[int, int, int]) -> nn.Module:
        """The network as a file that holds a graph has it: images in, one tensor out."""
        from nas_attn.export.graphs import single_output

        return single_output(model, input_shape)

    def compared(self, plan: Plan, dataset: Dataset | None, *, stored: bool) -> Iterator[Tensor]:
        """Batches of different sizes on which an exported file is compared with its network.

        Args:
            stored: uint8 images as the data set holds them.
        """
        import torch

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
        import torch

        tally, split = self.learnt(len(dataset.classes)).tally(), dataset.validation
        for x, y in split.stored(batch) if stored else split.batches(batch):
            tally.add(torch.from_numpy(run(x.contiguous().numpy())), y)
        return tally

    def answer_said(self, shape: tuple[int, ...], format_: str) -> str:
        """What an exported network answers, for its card.

        Args:
            shape: for one image.
        """
        return f"({', '.join(map(str, ('N', *shape)))}) before softmax"

    def formats(self) -> Mapping[str, Format]:
        """Formats that only this task's networks can be written in."""
        return {}

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
