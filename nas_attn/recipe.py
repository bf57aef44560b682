"""The recipe: the one place that knows every setting of a study, its default and its limits.

A recipe is a TOML file (`studies/*.toml`) with the sections below; a search space is a TOML file of its own
(`search_spaces/*.toml`) that the recipe names. `load_recipe` reads both, so that a `Recipe` is self-contained:
it is frozen into the study as JSON and needs no file afterwards.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from nas_attn import costs, latency_modes, samplers, tasks
from nas_attn.errors import did_you_mean
from nas_attn.space_schema import Section, SpaceSpec
from nas_attn.tasks import TASKS
from nas_attn.training_schema import TargetSection as TargetSection
from nas_attn.training_schema import TrainingSection as TrainingSection

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
LARGEST = 16_384
"""Channels, height or width of an image at most."""
Side = Annotated[int, Field(ge=1, le=LARGEST)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""What NumPy, and with it Optuna's samplers, takes as a seed."""


class TaskSection(Section):
    """What the networks are for."""

    name: str = "classification"
    """`classification`: images into classes, scored by accuracy; `segmentation`: each pixel into a class, scored by mean IoU;
    `detection`: boxes, scored by mAP50-95."""

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in TASKS:
            raise ValueError(f"unknown task '{name}': {did_you_mean(name, TASKS)}")
        return name


class BackboneSection(Section):
    """The network that attention is put into."""

    name: str = Field(min_length=1)
    """`resnet8|14|20|32|56`, `preact_resnet…`, `torchvision:NAME`, `timm:NAME`, `smp:ARCHITECTURE/ENCODER`,
    `ultralytics:NAME.yaml` or `.pt`, `package.module:function`."""
    width: int | None = Field(default=None, ge=1, le=1024)
    """Channels of a CIFAR ResNet's first stage; None: 16."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments for the function that builds the model (torchvision, timm, smp, your own)."""


class GroupsSection(Section):
    """For folders: images that belong together (a patient, a scene) and must not be on both sides of a split."""

    file: str | None = None
    """CSV file with the columns `image` (its path in the folder, or its file's name) and `group`."""
    pattern: str | None = None
    """Regular expression over an image's path below its class folder; the text of its first group names the group."""

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.file is None) == (self.pattern is None):
            raise ValueError("give one of file = 'groups.csv' and pattern = '^([^_]+)_'")
        try:
            re.compile(self.pattern or "")
        except re.error as error:
            raise ValueError(f"pattern '{self.pattern}' is not a regular expression ({error})") from None
        return self


class CocoSection(Section):
    """Paths of a data set in COCO's format, below its folder; None: the usual ones."""

    train: str | None = None
    """File of annotations, `annotations/train.json`."""
    validation: str | None = None
    """None: the usual file if there is one, else a part of the training images."""
    test: str | None = None
    images: str | None = None
    """Folder of the images of all three."""


class DataSection(Section):
    """The images."""

    name: str = Field(min_length=1)
    """`digits`, `cued-digits`, `digits-8x8`, `fashion-mnist`, `mnist`, `cifar10`, `cifar100`, `folder:PATH`, `coco:FOLDER` and
    `yolo:PATH.yaml` (boxes), `package.module:function` that returns a torch data set, or `external`: the evaluator of `[training]`
    brings its own."""
    root: str = "data"
    """Where downloaded files lie, or are put."""
    validation: int | Fraction | None = None
    """Images (or share) of the training set kept for validation; None: the data set's own split, else a fifth."""
    train_subset: int | None = Field(default=None, ge=1)
    """At most this many training images (stratified)."""
    size: int | None = Field(default=None, ge=4, le=1024)
    """Side in pixels of a folder's images: the shorter side is scaled to it, the middle square kept; None: 64. For detectors
    the side that they are fed, which the longer side is scaled to; None: 640 (ultralytics), 320 or their own (torchvision)."""
    options: dict[str, int | float | bool | str] = Field(default_factory=dict)
    """Settings of a generated data set (`digits`: size, fragments, fragment_size; `cued-digits`: height, width, bar, cue,
    contrast, noise; both: train, validation, test)."""
    broken_images: Literal["refuse", "skip"] = "refuse"
    """For an image that cannot be read: stop with an error, or leave it out."""
    input_shape: tuple[Side, Side, Side] | None = None
    """For `external`: (channels, height, width) of the model's input, to find its sites and to time it."""
    classes: int | None = Field(default=None, ge=1, le=1_000_000)
    """For `external`: number of the model's outputs."""
    mean: list[float] | None = None
    """Means per channel, 0 to 1, to normalise images; None: those of the training split. For weights that need others."""
    std: list[Annotated[float, Field(gt=0.0)]] | None = None
    """The standard deviations that go with `mean`."""
    memory_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.25
    """A folder whose images need more than this share of the free memory is read from disk in every epoch."""
    workers: int | None = Field(default=None, ge=1, le=256)
    """Processes that decode images from disk in every epoch; None: one per core."""
    seed: int = Field(default=0, ge=0)
    """Seed of the split and of generated data."""
    groups: GroupsSection | None = Field(default=None)
    """Which images of a folder belong together; None: none do."""
    coco: CocoSection | None = Field(default=None)
    """Where the annotations and images of a `coco:FOLDER` are; None: usual places are searched."""

    @model_validator(mode="after")
    def _groups_of_folders(self) -> Self:
        if self.groups is not None and not self.name.startswith("folder:"):
            raise ValueError(f"groups need files, and '{self.name}' has none: remove groups, or use folder:PATH")
        return self

    @model_validator(mode="after")
    def _coco_of_coco(self) -> Self:
        if self.coco is not None and not self.name.startswith("coco:"):
            raise ValueError(f"coco is only for coco:FOLDER, and '{self.name}' is not one: remove coco")
        return self

    @model_validator(mode="after")
    def _mean_with_std(self) -> Self:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std belong together: give both or neither")
        return self


class LatencySection(Section):
    """How latency is measured."""

    device: Literal["cpu", "cuda"] = "cpu"
    batch_size: int = Field(default=1, ge=1)
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    channels_last: bool = False
    threads: int = Field(default=1, ge=1, le=1024)
    """Intra-op threads; with more than one, the wall clock is used instead of the thread's CPU time."""
    mode: str = "eager"
    """How the network runs: `eager` (as it is), `compile` (torch.compile), `cuda-graph` (replayed), `onnxruntime`, `openvino`,
    `ncnn`, in int8 `onnxruntime-int8`, `openvino-int8`, or `command`."""
    command: str | None = None
    """For `mode = "command"`: a program that measures elsewhere and prints milliseconds; `{onnx}` (or its last argument) is
    the path of an ONNX file."""
    tolerance: float = Field(default=0.02, gt=0, lt=1)
    """Half-width of the 95 % interval that is enough while searching, as a share of the ratio."""
    front_tolerance: float = Field(default=0.01, gt=0, lt=1)
    """The same for the front at the end."""
    session_seconds: float = Field(default=3.0, gt=0)
    """Longest time of one session."""
    max_sessions: int = Field(default=24, ge=1)
    """Largest number of sessions per candidate."""

    @field_validator("mode")
    @classmethod
    def _known_mode(cls, name: str) -> str:
        if name not in latency_modes.ROWS:
            raise ValueError(f"unknown mode '{name}': {did_you_mean(name, latency_modes.ROWS)}")
        return name

    @model_validator(mode="after")
    def _mode_fits(self) -> Self:
        if (self.mode == "command") != (self.command is not None):
            raise ValueError("mode = 'command' and command = '…' belong together")
        if self.command is not None and not self.command.strip():
            raise ValueError("command must name a program, not ''")
        mode = latency_modes.ROWS[self.mode]
        for key, value, taken in (("device", self.device, mode.devices), ("dtype", self.dtype, mode.dtypes)):
            if value not in taken:
                known = " or ".join(f"'{one}'" for one in taken)
                raise ValueError(f"mode = '{self.mode}' takes {key} = {known}, not '{value}'")
        return self


class SearchSection(Section):
    """How the space is searched."""

    trials: int = Field(default=30, ge=1)
    """Candidates, the baselines included."""
    sampler: str = "auto"
    """`auto`: all placements where `trials` suffices for them, else `placement`, which learns what choices add at each site and what
    types share over sites; `tpe`, `nsga2`, `gp` and `random` are Optuna's; or `package.module:function` that makes one of your own."""
    pruner: Literal["pareto_halving", "none"] = "pareto_halving"
    """Which candidates continue at a rung: the best third by non-domination; `none`: all."""
    baselines: Literal["all", "none", "bare"] = "all"
    """`all`: the bare backbone, and each type with its first knobs at every site. Where latency counts, also controls: plain
    residual convolutions at every site, if all these take at most half of `trials`. `bare`: only the bare backbone."""
    confirm_seeds: int = Field(default=2, ge=0)
    """More seeds for the front and the baselines after the search, then up to twice as many rounds of confirmation; 0: none."""
    seed: Seed = 0
    """Seed of proposals and runs. Neighbouring seeds share most of their runs' seeds; for independent searches, use seeds
    1,000 apart."""

    @field_validator("sampler")
    @classmethod
    def _known_sampler(cls, name: str) -> str:
        if name not in samplers.ROWS and ":" not in name:
            raise ValueError(f"unknown sampler '{name}': {did_you_mean(name, samplers.ROWS)}")
        return name


class Limits(Section):
    """Limits of a candidate; beyond them it is recorded as infeasible and not trained."""

    max_latency_ratio: float | None = Field(default=None, gt=0)
    max_parameters: int | None = Field(default=None, ge=1)
    max_macs: int | None = Field(default=None, ge=1)


class StorageSection(Section):
    """What a study keeps in addition to its results."""

    keep_weights: Literal["all", "front", "none"] = "all"
    """Trained weights of the search: of all scored candidates; at the end, of the front, the recommended candidate and the
    bare backbone only; of none. Those of `retrain` always stay."""


class Recipe(Section):
    """A study as written: backbone, data, space, training, target, latency, search, storage."""

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    space: SpaceSpec
    task: TaskSection = Field(default_factory=TaskSection)
    objectives: list[str] = Field(default_factory=lambda: ["accuracy", "latency"], min_length=1)
    """Classification: `accuracy`, `balanced_accuracy` (mean over classes), `macro_f1`, `loss`; segmentation: `mean_iou`,
    `pixel_accuracy`, `loss`; detection: `map50_95`, `map50`; all: `latency`, `params`, `macs`, `memory`; or a metric of the
    evaluator, `name` if higher is better, `-name` if lower is better. Default: the task's own metric and the latency."""
    backbone: BackboneSection
    data: DataSection
    training: TrainingSection = Field(default_factory=TrainingSection)
    target: TargetSection = Field(default_factory=TargetSection)
    latency: LatencySection = Field(default_factory=LatencySection)
    search: SearchSection = Field(default_factory=SearchSection)
    limits: Limits = Field(default_factory=Limits)
    storage: StorageSection = Field(default_factory=StorageSection)

    @model_validator(mode="before")
    @classmethod
    def _own_metric(cls, table: Any) -> Any:
        """Without objectives, the task's metric and the latency."""
        if not isinstance(table, dict) or "objectives" in table or not isinstance(table.get("task"), dict):
            return table
        task = TASKS.get(str(table["task"].get("name")))
        return table if task is None else {**table, "objectives": [task.metric, "latency"]}

    @field_validator("objectives")
    @classmethod
    def _each_once(cls, objectives: list[str]) -> list[str]:
        if len(set(objectives)) != len(objectives):
            raise ValueError(f"names an objective twice: {objectives}")
        return objectives

    @model_validator(mode="after")
    def _evaluator_where_external(self) -> Self:
        if self.data.name != "external":
            return self
        if self.data.input_shape is None:
            raise ValueError("data.name = 'external' needs data.input_shape = [channels, height, width]")
        for name, start in (("training", self.training.start), ("target", self.target.start)):
            if start == "backbone":
                raise ValueError(f"data.name = 'external' needs {name}.start = 'scratch' or 'pretrained'")
        return self

    @model_validator(mode="after")
    def _target_weights(self) -> Self:
        start = self.target.start or self.training.start
        if start == "pretrained" and not (self.target.weights or self.training.weights):
            raise ValueError("target.start = 'pretrained' needs target.weights = '…'")
        if start != "pretrained" and self.target.weights is not None:
            raise ValueError("target.weights = '…' needs target.start = 'pretrained'")
        return self

    @model_validator(mode="after")
    def _known_objectives(self) -> Self:
        if self.training.evaluator is None:  # else any metric that it returns
            task = tasks.of(self)
            known = {*task.shares, *task.losses, *costs.ROWS}
            if latency_modes.ROWS[self.latency.mode].quantized:
                known |= {f"{name}{latency_modes.IN_INT8}" for name in task.shares}
            for objective in self.objectives:
                if objective not in known and not costs.is_own(objective):
                    raise ValueError(f"unknown objective '{objective}': {did_you_mean(objective, known)}")
        return self

    @model_validator(mode="after")
    def _limit_can_be_met(self) -> Self:
        ratio = self.limits.max_latency_ratio
        if ratio is not None and ratio < 1 and self.space.sites.originals == "keep":
            raise ValueError(
                f"limits.max_latency_ratio = {ratio:g} cannot be met: attention is added to the backbone, whose ratio is 1; "
                "give more than 1"
            )
        return self

    @model_validator(mode="after")
    def _fits_its_task(self) -> Self:
        tasks.of(self).check(self)
        return self

    @property
    def augmentations(self) -> set[str]:
        """Names of all augmentations, of search and target."""
        return {one.name for one in (*self.training.augmentation, *(self.target.augment or ()))}

    @property
    def target_training(self) -> TrainingSection:
        """How the target trains, in full: one rung, its last epoch. The modules' form is the one that was searched."""
        training, target = self.training, self.target
        start = target.start or training.start
        given = target.model_dump(exclude={"start", "weights", "epochs", "seeds", "learning_rate", "augment"})
        changed: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        rate = "learning_rate" if start == "scratch" else "finetune_learning_rate"
        if target.learning_rate is not None:
            changed[rate] = target.learning_rate
        epochs = target.epochs or max(training.backbone_epochs, 3 * training.rungs[-1])
        return training.model_copy(
            update={
                **changed,
                "start": start,
                "weights": (target.weights or training.weights) if start == "pretrained" else None,
                "rungs": [epochs],
                "init": training.resolved_init,
                "augment": training.augmentation if target.augment is None else target.augment,
                "transforms": None,
                "seeds": 1,
            }
        )

    def to_json(self) -> str:
        """What a study keeps. Keys stay in the order they were written in: choices, parameters and baselines follow it."""
        return json.dumps(self.model_dump(mode="json"))


LOWER_IS_BETTER = {name for task in TASKS.values() for name in task.losses}


def objective_name(objective: str) -> str:
    """The metric behind an objective: `-rmse` reads `rmse`."""
    return objective.removeprefix("-")


def lower_is_better(objective: str) -> bool:
    """Whether an objective is minimised."""
    return objective.startswith("-") or costs.is_cost(objective) or objective in LOWER_IS_BETTER
