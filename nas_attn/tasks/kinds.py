"""Tasks: one object each, with everything that differs between them. Loads no torch: code that
needs it is named by its path.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from nas_attn import tables
from nas_attn.importing import named
from nas_attn.records import ALONE, Share

if TYPE_CHECKING:
    import torch

    from nas_attn.data import Dataset
    from nas_attn.data.dataset import Classes
    from nas_attn.evaluation.evaluators import Evaluator
    from nas_attn.export.formats import Answers
    from nas_attn.recipe import DataSection, Named, Recipe
    from nas_attn.training.learning import Learnt

EXTERNAL = "external"  # Name of the data of an evaluator that brings its own
MIXING = frozenset({"mixup", "MixUp", "CutMix"})  # Augmentations that mix the labels of images
IMAGENET_MEAN, IMAGENET_STD = (
    (0.485, 0.456, 0.406),
    (
        0.229,
        0.224,
        0.225,
    ),
)  # ImageNet's, per channel


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a network is trained from random weights by default."""

    batch_size: int
    epochs: int

    def tuned(self) -> int:
        """Epochs from published weights or the user's."""
        return max(3, self.epochs // 3)


@dataclass(frozen=True, slots=True)
class Hints:
    """What `init` says about a task, and what it proposes."""

    backbones: str  # The backbones that there are, for a comment
    own_images: Mapping[str, str]  # Options of `init` for the user's images
    space: str = ""  # Search space; empty: by the data
    more_data: tuple[str, ...] = ()  # Data sets that are not in the table


class Task(ABC):
    """A task: its metrics, its rules, its data, how it is learnt, timed and exported."""

    name: ClassVar[str]
    shares: ClassVar[
        Mapping[str, str]
    ]  # Metrics in percent (differences in points) -> title; the first is the default
    guessed: ClassVar[
        Sequence[str]
    ] = ()  # Of these: 1 / classes on average, if one class is guessed for all images
    losses: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"loss": "log-loss"}
    )  # Where lower is better -> title
    per_image: ClassVar[bool] = (
        False  # Whether a network is right or wrong about an image, for intervals on new images
    )
    conditions: ClassVar[Mapping[str, str]] = MappingProxyType(
        {}
    )  # Further conditions of a latency
    why_constant: ClassVar[str] = (
        ""  # Likely cause if all networks score the same; empty: nothing specific
    )
    answer: ClassVar[str] = "logits"  # What a network gives, `logits` or `boxes`
    labels: ClassVar[tables.Kind] = "classes"  # What its data sets know of an image
    own_trainer: ClassVar[bool] = True  # Whether our own trainer trains, unless an evaluator does
    paced_by_images: ClassVar[bool] = True  # Whether `init` looks at how many images a folder has
    normalised: ClassVar[bool] = (
        True  # Whether a network is fed normalised images; else from 0 to 1
    )
    hints: ClassVar[Hints]
    images_by: ClassVar[str]  # A subclass of `data.dataset.Classes`, which knows its images
    learnt_by: ClassVar[str]  # The loss and the metrics, a subclass of `training.learning.Learnt`
    trained_by: ClassVar[str] = (
        ""  # Function of the recipe: the default evaluator; empty: our trainer
    )
    exported_by: ClassVar[str] = (
        "nas_attn.export.formats:Answers"  # What a network answers as a file
    )

    @property
    def metric(self) -> str:
        """The task's default metric."""
        return next(iter(self.shares))

    def fits(self, backbone: str, *, evaluated: bool) -> bool:
        """Whether this object is the one of its name for this backbone."""
        return True

    def check(self, recipe: Recipe) -> None:
        """Raises a ValueError if the recipe asks for something that this task cannot do."""
        return

    def kind(self) -> Classes:
        """What is known of its images."""
        kind: Classes = named(self.images_by)()
        return kind

    def data_section(self, recipe: Recipe) -> DataSection:
        """The recipe's data. Published weights set the normalisation and, for a folder, the size at
        which they were validated.
        """
        section, row = recipe.data, tables.find_data_set(recipe.data.name)
        if "default" not in (recipe.training.weights, recipe.target.weights) or (
            row is not None and row.grey
        ):
            return section
        fed = named("nas_attn.backbones.building:published_input")(recipe.backbone.name)
        changed: dict[str, Any] = (
            {"mean": list(fed.mean), "std": list(fed.std)} if section.mean is None else {}
        )
        if section.name.startswith("folder:") and fed.size:
            size = section.size or fed.size
            resize = round(size * fed.resize / fed.size)
            changed |= {
                "size": size,
                "options": {
                    "resize": resize,
                    "interpolation": fed.interpolation,
                    **section.options,
                },
            }
        return section.model_copy(update=changed)

    def load(
        self, recipe: Recipe, *, device: torch.device | str, share: Share = ALONE
    ) -> Dataset | None:
        """The recipe's data; None if an evaluator brings its own. DataError if they cannot be
        loaded.
        """
        if recipe.data.name == EXTERNAL:
            return None
        dataset: Dataset = named("nas_attn.data:load")(
            self.data_section(recipe), device=device, share=share, task=self
        )
        return dataset

    def check_trainings(self, recipe: Recipe, dataset: Dataset | None) -> None:
        """Makes the transforms, optimizers and schedules of search and target before anything is
        trained; DataError, RecipeError.
        """
        if dataset is None or recipe.training.evaluator is not None:
            return
        for training in (recipe.training, recipe.target_training):
            dataset.train.check(training.augmentation)
            named("nas_attn.training.parameters:check_training")(training)
            learnt = self.learnt(len(dataset.classes), training.loss)
            if any(MIXING & one.names for one in training.augmentation):
                learnt.require_shares()

    def shape_and_classes(self, recipe: Recipe) -> tuple[tuple[int, int, int], int]:
        """Shape of a network's input, (C, H, W), and number of classes, if `load` gives None."""
        assert recipe.data.input_shape is not None  # the recipe's schema sees to it
        return recipe.data.input_shape, recipe.data.classes or 1

    def missing_test(self, recipe: Recipe) -> str:
        """Why there is no test split, with the way out; empty if there is one, or if only an
        evaluator knows.
        """
        dataset = self.load(recipe, device="cpu")
        return "" if dataset is None else dataset.missing_test

    def learnt(self, classes: int, loss: Named | None = None) -> Learnt:
        """The loss and the metrics, for the trainer. Raises RecipeError: `training.loss` cannot be
        made, or is for other outputs.
        """
        learnt: Learnt = named(self.learnt_by)(self, classes, loss)
        return learnt

    def output(self, classes: int, size: tuple[int, int]) -> tuple[int, ...]:
        """Shape of the logits for one image of this (height, width)."""
        return (classes,)

    def evaluator(self, recipe: Recipe) -> Evaluator | None:
        """The task's evaluator, if the recipe names none; None: our own trainer."""
        evaluator: Evaluator | None = named(self.trained_by)(recipe) if self.trained_by else None
        return evaluator

    @property
    def answers(self) -> Answers:
        """How its networks are exported."""
        answers: Answers = named(self.exported_by)(self)
        return answers

    def usual_backbone(self, data: str, *, small: bool) -> str:
        """What `init` proposes for these data."""
        return "resnet8" if small else "resnet20" if "cifar" in data else "torchvision:resnet18"

    @abstractmethod
    def pace(self, data: str, *, small: bool) -> Pace:
        """How long `init` proposes to train, unless a folder is small."""

    def pace_of_few(self, images: float) -> Pace:
        """How long `init` proposes to train on so few images: 600 steps, or 100 epochs."""
        epochs = min(100, max(20, round(600 * 16 / images)))
        return Pace(16, epochs)

    def trial_side(self, backbone: str) -> int:
        """Side of the images with which `init` builds a backbone to test it."""
        return 64

    def seen(self, data: str, images: float, backbone: str) -> str:
        """What `init` says about these data; `images`: to train on, 0 if that is not known."""
        return ""

    def training_lines(self, backbone: str) -> str:
        """Lines of `[training]` that this task adds to a recipe."""
        return ""

    def data_lines(self, data: str, backbone: str) -> str:
        """Lines of `[data]` about the images' size, and how many are made."""
        return FOLDER if data.startswith("folder:") else ""


FOLDER = """\
# Side in pixels: the shorter side is scaled to it, the middle square is kept; ImageNet: 224.
size = 64
# "skip" leaves out unreadable images and reports their number; "refuse" is an error.
broken_images = "skip"
# The share of the training images to score on; default: the folder's val/, else a fifth.
# validation = 0.2
# Images of one patient or scene stay together; or file = "groups.csv".
# groups = { pattern = "^([^_]+)_" }
"""


class Classification(Task):
    """A class of each image, scored by accuracy."""

    name = "classification"
    shares = MappingProxyType(
        {
            "accuracy": "accuracy",
            "balanced_accuracy": "balanced accuracy",
            "macro_f1": "macro F1",
        }
    )
    guessed = ("accuracy", "balanced_accuracy")
    per_image = True
    images_by = "nas_attn.data.dataset:Classes"
    learnt_by = "nas_attn.training.learning:ClassOfImage"
    hints = Hints(
        backbones="resnet8|14|20|32|56, torchvision:NAME, timm:NAME, package.module:function",
        own_images={"data": "folder:PATH", "backbone": "torchvision:resnet18"},
    )

    def seen(self, data: str, images: float, backbone: str) -> str:
        source, _, place = data.partition(":")
        if source != "folder":
            return ""
        return str(named("nas_attn.data.inventory:take")(place).text())

    def pace(self, data: str, *, small: bool) -> Pace:
        if data.startswith("folder:"):
            return Pace(64, 20)
        return Pace(128, 10 if small else 20)


class Segmentation(Task):
    """A class of each pixel, scored by mean IoU."""

    name = "segmentation"
    shares = MappingProxyType({"mean_iou": "mean IoU", "pixel_accuracy": "pixel accuracy"})
    labels = "masks"
    paced_by_images = False
    images_by = "nas_attn.data.dataset:Masks"
    learnt_by = "nas_attn.training.learning:ClassOfPixel"
    hints = Hints(
        backbones=(
            "smp:ARCHITECTURE/ENCODER, torchvision:NAME (lraspp_…, deeplabv3_…, fcn_…),"
            " package.module:function"
        ),
        own_images={"task": "segmentation", "data": "folder:PATH"},
    )

    def check(self, recipe: Recipe) -> None:
        for name in sorted(MIXING & recipe.augmentations):
            raise ValueError(
                f"training.augment: '{name}' is not supported for segmentation: remove it"
            )

    def seen(self, data: str, images: float, backbone: str) -> str:
        source, _, place = data.partition(":")
        return str(named("nas_attn.data.folder:seen_masks")(place)) if source == "folder" else ""

    def output(self, classes: int, size: tuple[int, int]) -> tuple[int, ...]:
        return (classes, *size)

    def usual_backbone(self, data: str, *, small: bool) -> str:
        return "torchvision:lraspp_mobilenet_v3_large"

    def pace(self, data: str, *, small: bool) -> Pace:
        return Pace(16, 10 if small else 20)

    def data_lines(self, data: str, backbone: str) -> str:
        if data.startswith("folder:"):
            return FOLDER.replace("size = 64\n", "size = 128\n")
        return "options = { size = 32, train = 2000, validation = 1000, test = 1000 }\n"


CLASSIFIERS = ("timm", "smp")  # Sources of networks that are no detectors
USUAL_DETECTOR = "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn"
USUAL_SIDE = 320  # Of a detector's input, unless the data or the detector says otherwise
FIXED_SIDES: Mapping[str, int] = {
    "ssd300_vgg16": 300,
    "ssdlite320_mobilenet_v3_large": 320,
}  # Of one size
# Side of a made image with a digit of 8 pixels; torchvision's smallest anchors are 32, so it is fed
# larger
MADE = 32
YOLO = "nas_attn.data.boxes"
COCO = """\
# Side of the detector's input; the longer side of an image is scaled to it.
size = {size}
# The share of the training images to score on, if there are no validation annotations.
# validation = 0.2
# Where the files are, if they are not found:
# [data.coco]
# train = "annotations/train.json"
# images = "images"
# validation = "annotations/val.json"
"""


class Detection(Task):
    """Boxes with classes, scored by mAP50-95; trained by our own trainer."""

    name = "detection"
    shares = MappingProxyType({"map50_95": "mAP50-95", "map50": "mAP50"})
    losses = MappingProxyType({})
    conditions = MappingProxyType({"nms": "left out, where it is not part of the network itself"})
    why_constant = (
        "perhaps training is too brief for a detector to find anything (target.epochs), or the"
        " boxes do not match the images"
    )
    labels = "boxes"
    answer = "boxes"
    normalised = False
    images_by = "nas_attn.data.boxes:Boxes"
    learnt_by = "nas_attn.training.learning:BoxesOfImage"
    exported_by = "nas_attn.export.formats:Boxes"
    hints = Hints(
        backbones=(
            "torchvision:NAME (fasterrcnn_…, retinanet_…, fcos_…, ssd…), package.module:function"
        ),
        own_images={"task": "detection", "data": "coco:FOLDER", "backbone": USUAL_DETECTOR},
        space="detector",
    )

    def check(self, recipe: Recipe) -> None:
        backbone, data = recipe.backbone.name, recipe.data
        source, colon, _ = backbone.partition(":")
        if not colon or source in CLASSIFIERS:
            raise ValueError(
                f"backbone.name = '{backbone}' is not a detector: give"
                " torchvision:fasterrcnn_mobilenet_v3_large_320_fpn, another detector, or"
                " package.module:function for your own"
            )
        row = tables.find_data_set(data.name)
        if row is None or not row.boxes:
            raise ValueError(
                f"data.name = '{data.name}' has no boxes for '{backbone}': give"
                f" {' or '.join(tables.data_sets_with('boxes'))} (yolo:PATH.yaml is for a trainer"
                " that reads its images itself)"
            )
        mixing = sorted(MIXING & recipe.augmentations)
        asked = [
            *(["training.loss"] if recipe.training.loss else []),
            *(f"{name} in training.augment" for name in mixing),
            *(
                ["training.execution"]
                if recipe.training.execution in ("compile", "cuda-graph")
                else []
            ),
            *(f"data.{name}" for name in ("mean", "groups") if getattr(data, name) is not None),
        ]
        if asked:
            raise ValueError(f"{asked[0]} is not supported in detection: remove it")

    def data_section(self, recipe: Recipe) -> DataSection:
        """The recipe's data, with the side of the detector's input."""
        return recipe.data.model_copy(
            update={"size": recipe.data.size or usual_side(recipe.backbone.name)}
        )

    def load(
        self, recipe: Recipe, *, device: torch.device | str, share: Share = ALONE
    ) -> Dataset | None:
        if recipe.data.name != EXTERNAL:
            named("nas_attn.training.learning:require_scorer")()
        return super().load(recipe, device=device, share=share)

    def usual_backbone(self, data: str, *, small: bool) -> str:
        return USUAL_DETECTOR

    def trial_side(self, backbone: str) -> int:
        return usual_side(backbone)

    def seen(self, data: str, images: float, backbone: str) -> str:
        return str(named(f"{YOLO}:seen")(data)) if data.startswith("coco:") else ""

    def pace(self, data: str, *, small: bool) -> Pace:
        return Pace(16, 30)

    def pace_of_few(self, images: float) -> Pace:
        """1,500 steps, or 300 epochs: a detector finds nothing at all for the first few hundred
        steps.
        """
        return Pace(16, min(300, max(30, round(1500 * 16 / images))))

    def training_lines(self, backbone: str) -> str:
        return """\
learning_rate = 0.01               # candidates get a fifth of it, or finetune_learning_rate
clip_norm = 5.0                    # the first steps of a detector have large gradients
"""

    def data_lines(self, data: str, backbone: str) -> str:
        if data.startswith("coco:"):
            return COCO.format(size=usual_side(backbone))
        return sizes(
            data, MADE, FIXED_SIDES.get(backbone.removeprefix("torchvision:"), 4 * MADE), ""
        )


def usual_side(backbone: str) -> int:
    """Default side of the input of a detector, `torchvision:NAME` or another."""
    return FIXED_SIDES.get(backbone.removeprefix("torchvision:"), USUAL_SIDE)


def sizes(data: str, made: int, side: int, more: str) -> str:
    """Lines of `[data]` about the side of images: `made`, of a made image; `side`, of the
    detector's input.
    """
    said = f"side of the detector's input{more}"
    if data != "digits":
        return f"size = 640                         # {said}\n"
    made_images = f"options = {{ size = {made}, train = 1000, validation = 500, test = 500 }}\n"
    return f"{made_images}size = {side}                         # {said}\n"


class EvaluatedDetection(Detection):
    """A detection whose trainer, an evaluator, reads the images itself, from a YAML file in the
    layout of YOLO.
    """

    def fits(self, backbone: str, *, evaluated: bool) -> bool:
        return evaluated

    def check(self, recipe: Recipe) -> None:
        return

    def data_section(self, recipe: Recipe) -> DataSection:
        return recipe.data

    def load(
        self, recipe: Recipe, *, device: torch.device | str, share: Share = ALONE
    ) -> Dataset | None:
        return None

    def shape_and_classes(self, recipe: Recipe) -> tuple[tuple[int, int, int], int]:
        if recipe.data.name == EXTERNAL:
            return super().shape_and_classes(recipe)
        side = named(f"{YOLO}:side")(recipe.data)
        return (3, side, side), len(named(f"{YOLO}:class_names")(recipe.data))

    def missing_test(self, recipe: Recipe) -> str:
        if recipe.data.name == EXTERNAL or named(f"{YOLO}:described")(recipe.data).get("test"):
            return ""
        return (
            f"data YAML '{named(f'{YOLO}:data_file')(recipe.data)}' has no test split: add test:"
            " and its images"
        )
