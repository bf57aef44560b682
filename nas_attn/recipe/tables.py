"""What a recipe can name: costs, metrics, samplers, latency modes, data sets, tasks; presets.

Here is what a row says. The rows stand in `nas_attn.wiring`, which fills the tables when the
package is imported. A row has a function that imports what it needs: a list of names loads neither
torch nor Optuna.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from nas_attn.errors import DataError
from nas_attn.system.importing import load_object

Function = Callable[..., Any]
Load = Callable[[], Function]
"""Imports a function or class, and returns it."""
LoadClass = Callable[[], type[Any]]

# At batch size 1, counted and not measured: name in `COSTS` -> number; and `OWN_SIDE`
Costs = Mapping[str, float]
# the side in pixels of another backbone's images, where they are larger or smaller than the study's
OWN_SIDE = "input_side"


@dataclass(frozen=True, slots=True)
class Cost:
    """A cost of a network. Each cost can be an objective, and lower is better."""

    name: str
    title: str
    unit: Literal["ratio", "count", "bytes", "number"]
    """How its values are written: `1.132 ×`, `1.2 M`, `3.1 MB`, or as they are."""
    function: Load | None = None
    """Takes an `attachment.counting.CountedNetwork` and returns a number; None: it is measured."""
    limit: str = ""
    """The key of `[limits]` that bounds it; empty: it has no limit."""
    excess: str = ""
    """What is said of a candidate beyond the limit, with `{value}` and `{limit}`."""
    description: str = ""
    """What it is, in a line."""


COSTS: dict[str, Cost] = {}


def is_cost(objective: str) -> bool:
    """Whether an objective is a cost, and not a metric of a trained network."""
    return objective in COSTS or is_own_cost(objective)


def is_own_cost(objective: str) -> bool:
    """Whether an objective names a user's own function."""
    return ":" in objective and not objective.startswith("-")


def counted_costs(objectives: Iterable[str]) -> list[str]:
    """All costs that are counted: those of the table, and a user's own among the objectives."""
    counted = [row.name for row in COSTS.values() if row.function is not None]
    return [*counted, *(name for name in objectives if is_own_cost(name))]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric of a trained network, which can be an objective. A task lists its metrics and
    computes them. What else an evaluator returns has no row: it is a plain number.
    """

    name: str
    title: str
    kind: Literal["share", "number", "loss"] = "share"
    """`share`: from 0 to 1, higher is better, said in percent, its differences in points; `number`:
    any other value, higher is better, as of a correlation; `loss`: a number, lower is better.
    """
    implied: bool = False
    """Whether a percentage without a word means this metric."""
    right_or_wrong: bool = False
    """Whether it is the share of images that are right, so that it moves in steps of one image. One
    metric is: that of `Score.correct`.
    """
    per_image: Load | None = None
    """Of another metric: computes what each image contributes to it, an array (images,) whose mean
    is the metric, from `answer.contributions.ImageResults`. Without it, there are no intervals
    for new images.
    """
    needs_answers: bool = False
    """Whether that needs what is kept of a run's answers: the class that each image was taken for,
    or, without `per_image`, the contributions themselves. They are read only in studies with this
    metric among the objectives.
    """
    guess: Literal["", "on average", "always"] = ""
    """Where a network that answers one class for all images gets 1 / classes, which a run without a
    score counts as. `on average`: over the classes that it may answer.
    """
    witness: str = ""
    """A loss whose differences go with this metric's and vary less by which images are few. The
    model takes it as a second witness where that was measured (`answer.modelling`).
    """


METRICS: dict[str, Metric] = {}


def is_share(metric: str) -> bool:
    """Whether a metric is from 0 to 1, and higher is better."""
    row = METRICS.get(metric)
    return row is not None and row.kind == "share"


def is_per_image(metric: str) -> bool:
    """Whether it can be known what each image contributes to a metric."""
    row = METRICS.get(metric)
    return row is not None and (row.right_or_wrong or row.per_image is not None)


def witness_of(metric: str) -> str:
    """The metric that is a second witness to it; empty without one."""
    row = METRICS.get(metric)
    return "" if row is None else row.witness


def share_of_images() -> str:
    """The metric that is the share of images that are right."""
    return next(row.name for row in METRICS.values() if row.right_or_wrong)


def is_share_of_images(metric: str) -> bool:
    """Whether a metric is the share of images that are right."""
    return metric == share_of_images()


@dataclass(frozen=True, slots=True)
class Sampler:
    """What proposes placements: `search.sampler`."""

    name: str
    function: Load | None = None
    """Makes an Optuna sampler from `seed` and `trials` (of the whole study). Each proposal makes a
    new sampler with another seed, so that any worker can propose. None: `PlacementSampler`.
    """
    lists_all: bool = False
    """Without a function: whether all placements come in random order where the trials suffice."""
    redraws: int = 30
    """How often an Optuna sampler draws for a placement that was not tried; then an untried
    neighbour of its last draw is taken.
    """
    description: str = ""
    """How it proposes, in a line."""


SAMPLERS: dict[str, Sampler] = {}


@dataclass(frozen=True, slots=True)
class LatencyMode:
    """How a network is executed while it is timed: `latency.mode`."""

    name: str
    prepare: Load
    """Makes a network ready: called with a copy of the model (in eval mode, on the device, in the
    dtype), the `LatencySection` and an input (N, C, H, W), it returns a
    `nas_attn.latency.nets.Net`, mostly by `timed`.
    """
    package: str = ""
    """A package that it needs. A study's latencies belong to one version of it."""
    extra: str = ""
    """The extra of nas-attn that installs the package; empty: pip installs the package itself."""
    costly: bool = False
    """Preparing a network takes longer than timing it, so prepared ones are kept."""
    quantized: bool = False
    """It runs in int8: `prepare` is also given `images`, (M, C, H, W)."""
    devices: tuple[str, ...] = ("cpu", "cuda")
    dtypes: tuple[str, ...] = ("float32", "bfloat16", "float16")
    own_stream: bool = False
    """On a GPU it uses a CUDA stream of its own: the wall clock is taken."""
    by_command: bool = False
    """A user's program measures, perhaps on another machine: `latency.command`."""


LATENCY_MODES: dict[str, LatencyMode] = {}
Kind = Literal["classes", "tags", "numbers", "masks", "boxes"]
"""What is known of an image: its class, the labels that it has of several, a number for each of
some columns, a mask, boxes.
"""


@dataclass(frozen=True, slots=True)
class DataSet:
    """One data set, or one layout of a user's own files. The fields called after a `Kind` load the
    functions that read it with such labels, called with a `DataSection`; they return
    `nas_attn.data.samples.Parts`, or `Samples` of files that are not read yet.
    """

    name: str
    """Name in a recipe; for a layout with the place of its files, `folder:PATH`."""
    classes: Load | None = None
    tags: Load | None = None
    numbers: Load | None = None
    masks: Load | None = None
    boxes: Load | None = None
    grey: bool = False
    """Images of one channel: the mean and deviation of published weights do not apply."""
    small: bool = False
    """Small pictures, which need few epochs and must not be mirrored."""


DATA_SETS: dict[str, DataSet] = {}


def find_data_set(name: str) -> DataSet | None:
    """The row of a name in a recipe; None if there is none. Any other `package.module:function` is
    a user's own: if it takes a `split`, it returns a `torch.utils.data.Dataset`
    (`nas_attn.data.own`); otherwise it is called like those in the table.
    """
    source, colon, _ = name.partition(":")
    for row in DATA_SETS.values():
        if row.name == name or (colon and row.name.startswith(f"{source}:")):
            return row
    if not colon:
        return None

    def users() -> Function:
        own: Function = load_object(name, what="data set", error=DataError)
        return own

    return DataSet(name, classes=users, tags=users, numbers=users, masks=users, boxes=users)


def data_sets_with(kind: Kind) -> list[str]:
    """The data sets that have such labels."""
    return [row.name for row in DATA_SETS.values() if getattr(row, kind)]


@dataclass(frozen=True, slots=True)
class BackboneSource:
    """A package that has backbones: `backbone.name = "timm:resnet18"`."""

    name: str
    """The word before the colon."""
    package: str
    """Its name for pip. A study's results depend on its version."""
    licence: str
    build: Load
    """Builds a network, `backbones.building.Builder`: from the recipe's section, the name after the
    colon, the shape of an image, the number of classes, and whether to load published weights.
    """


BACKBONE_SOURCES: dict[str, BackboneSource] = {}
FROZEN_NORMS: Mapping[str, float] = MappingProxyType(
    {
        "torchvision:fasterrcnn_resnet50_fpn": 0.0,
        "torchvision:fasterrcnn_mobilenet_v3_large_fpn": 1e-5,
        "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn": 1e-5,
        "torchvision:retinanet_resnet50_fpn": 0.0,
        "torchvision:fcos_resnet50_fpn": 1e-5,
    }
)
"""Detectors that torchvision builds with a frozen BatchNorm in the backbone if they have trained
weights -> its eps for the published ones.
"""


@dataclass(frozen=True, slots=True)
class Integration:
    """A package of which attention must know more: its networks, or what its tools do to them."""

    name: str
    """The package; it is told of models whose classes come from it."""
    host: LoadClass
    """A subclass of `attachment.integrations.HostPackage`."""


INTEGRATIONS: dict[str, Integration] = {}


@dataclass(frozen=True, slots=True)
class TaskRow:
    """Where the parts of a task are, each a class of its own; `nas_attn.recipe.task` says more."""

    name: str
    task: str
    """`task.name` in a recipe. Of several rows with one such name, the first whose `Task.fits` is
    taken.
    """
    facts: LoadClass
    """A subclass of `recipe.task.Task`."""
    data: LoadClass
    """A subclass of `training.tasks.data.TaskData`."""
    learnt: LoadClass
    """A subclass of `training.learnt.Learnt`."""
    answers: LoadClass
    """A subclass of `export.formats.TaskExport`."""
    evaluator: Load | None = None
    """Function of a recipe that makes an evaluator; None: our own trainer trains."""


TASK_ROWS: dict[str, TaskRow] = {}


def task_names() -> list[str]:
    """What a recipe can give as `task.name`."""
    return list(dict.fromkeys(row.task for row in TASK_ROWS.values()))


_SGD = {"optimizer": "SGD", "optimizer_arguments": {"momentum": 0.9}}
_CUTMIX = {"name": "CutMix", "alpha": 1.0}
LAYER_NORM_PRESET = "layer-norm"
"""For networks with layer norms and no batch norm, which often learn nothing with SGD."""
FINE_TUNING_PRESET = "fine-tune"
"""For networks that start from trained weights."""
PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    # Name -> keys of `[training]`; differences from the sources are listed at `preset` in
    # `nas_attn.recipe.recipe`
    {
        # He et al., 1512.03385, section 4.2: 64,000 steps, a tenth of the rate from 32,000 and from
        # 48,000 on.
        "cifar": {
            **_SGD,
            "batch_size": 128,
            "learning_rate": 0.1,
            "weight_decay": 1e-4,
            "ema": 0.0,
            "schedule": [{"name": "MultiStepLR", "milestones": [0.5, 0.75]}],
            "augment": [{"name": "flip"}, {"name": "crop", "padding": 4}],
        },
        # Ours, chosen by measurement (research/notes/training.md): what a start from given weights
        # means. From these, the peak is a fifth of the rate; the head, which is new, learns faster.
        FINE_TUNING_PRESET: {
            "optimizer": "AdamW",
            "batch_size": 16,
            "learning_rate": 0.0025,
            "head_learning_rate": "auto",
            "weight_decay": 0.05,
            "ema": 0.0,
            "augment": [{"name": "flip"}],
        },
        # ConvNeXt (Liu et al., 2201.03545, table 5), but for the rate, which is for batches of
        # about a hundred.
        LAYER_NORM_PRESET: {"optimizer": "AdamW", "learning_rate": 1e-3, "weight_decay": 0.05},
        # Wightman et al., ResNet strikes back, 2110.00476, table 2, A3: 100 epochs, 5 of them
        # warm-up from 1e-4.
        "timm-a3": {
            "optimizer": "timm.optim:Lamb",
            "batch_size": 2048,
            "learning_rate": 8e-3,
            "weight_decay": 0.02,
            "ema": 0.0,
            "loss": {
                "name": "timm.loss:BinaryCrossEntropy",
                "smoothing": 0.0,
                "target_threshold": 0.2,
            },
            "schedule": [
                {"name": "LinearLR", "start_factor": 0.0125, "epochs": 0.05},
                {"name": "CosineAnnealingLR"},
            ],
            "augment": [
                {"name": "RandomResizedCrop", "interpolation": "bicubic"},
                {"name": "RandomHorizontalFlip"},
                {"name": "ToPILImage"},
                {
                    "name": "timm.data.auto_augment:rand_augment_transform",
                    "config_str": "rand-m6-mstd0.5-inc1",
                    "hparams": {},
                },
                {"name": "ToImage"},
                {"name": "RandomChoice", "transforms": [{"name": "MixUp", "alpha": 0.1}, _CUTMIX]},
            ],
        },
        # torchvision's weights IMAGENET1K_V2 (600 epochs):
        # https://pytorch.org/blog/how-to-train-state-of-the-art-models-using-torchvision-latest-primitives
        "torchvision-v2": {
            **_SGD,
            "batch_size": 1024,
            "learning_rate": 0.5,
            "weight_decay": 2e-5,
            "loss": {"name": "CrossEntropyLoss", "label_smoothing": 0.1},
            "schedule": [
                {"name": "LinearLR", "start_factor": 0.01, "epochs": 0.01},
                {"name": "CosineAnnealingLR"},
            ],
            "augment": [
                {"name": "repeat", "times": 4},
                {"name": "RandomResizedCrop"},
                {"name": "RandomHorizontalFlip"},
                {"name": "TrivialAugmentWide"},
                {"name": "RandomErasing", "p": 0.1},
                {"name": "RandomChoice", "transforms": [{"name": "MixUp", "alpha": 0.2}, _CUTMIX]},
            ],
        },
    }
)
