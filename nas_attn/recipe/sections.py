"""The sections of a recipe: every setting of a study, its default, its limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from nas_attn.errors import did_you_mean
from nas_attn.recipe.tables import (
    FROZEN_NORMS,
    LATENCY_MODES,
    SAMPLERS,
    LatencyMode,
    task_names,
)
from nas_attn.space.notation import parse_choice
from nas_attn.space.schema import Section

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
# Channels, height or width of an image at most
LARGEST_SIDE = 16_384
# bands of an image at most
MOST_BANDS = 1024
Side = Annotated[int, Field(ge=1, le=LARGEST_SIDE)]
# of the network's input: a side of a square, or height and width
Pixels = Annotated[int, Field(ge=4, le=1024)]
InputSize = Pixels | tuple[Pixels, Pixels]
# how an image becomes as large
Fit = Literal["cut", "resize", "letterbox"]
# What NumPy, and with it Optuna's samplers, takes as a seed
Seed = Annotated[int, Field(ge=0, lt=2**32)]


def height_and_width(size: InputSize) -> tuple[int, int]:
    """Returns both sides of an input."""
    return (size, size) if isinstance(size, int) else size


class TaskSection(Section):
    """What the networks are for."""

    name: str = "classification"
    """`classification`: images into classes, scored by accuracy; `multi-label`: several labels per
    image, scored by mean average precision; `regression`: numbers, scored by their mean absolute
    error; `segmentation`: each pixel into a class, scored by mean IoU; `detection`: boxes, scored
    by mAP50-95.
    """

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in task_names():
            raise ValueError(f"unknown task '{name}': {did_you_mean(name, task_names())}")
        return name


class BackboneSection(Section):
    """The network that attention is put into."""

    name: str = Field(min_length=1)
    """`resnet8|14|20|32|56`, `torchvision:NAME`, `timm:NAME`, `smp:ARCHITECTURE/ENCODER`,
    `ultralytics:NAME.yaml` or `.pt`, `package.module:function`. `resnet8(width=10)` gives a width,
    too.
    """
    width: int | None = Field(default=None, ge=1, le=1024)
    """Channels of a CIFAR ResNet's first stage; None: 16."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments for the function that builds the model (torchvision, timm, smp, your
    own).
    """
    norms: Literal["auto", "frozen", "as_built"] = "auto"
    """Norms in the backbone of torchvision's `fasterrcnn_…`, `retinanet_…` and `fcos_resnet50_fpn`,
    all but `…_v2`. `frozen`: BatchNorm that never changes, as in their published networks.
    `as_built`: as without weights, where it is trained. `auto`: `frozen` in runs that start from
    weights.
    """

    @model_validator(mode="before")
    @classmethod
    def _from_notation(cls, table: Any) -> Any:
        """`resnet8(width=10)`, as an answer names a backbone, in its parts."""
        name = table.get("name") if isinstance(table, dict) else None
        if not isinstance(name, str) or "(" not in name:
            return table
        choice = parse_choice(name, "backbone.name")
        options = table.get("options", {})
        knobs = dict(choice.knobs)
        width = {"width": knobs.pop("width")} if "width" in knobs else {}
        options = {**options, **knobs} if isinstance(options, dict) else options
        return {**table, "name": choice.type, **width, "options": options}

    @model_validator(mode="after")
    def _can_be_frozen(self) -> Self:
        if self.norms == "frozen" and self.name not in FROZEN_NORMS:
            raise ValueError(
                f"norms = 'frozen' is for {', '.join(FROZEN_NORMS)}, not for '{self.name}': remove"
                " norms"
            )
        return self


class GroupsSection(Section):
    """For folders: images that belong together (a patient, a scene) and must not be on both sides
    of a split.
    """

    file: str | None = None
    """CSV file with the columns `image` (its path in the folder, or its file's name) and
    `group`.
    """
    pattern: str | None = None
    """Regular expression over an image's path below its class folder; the text of its first group
    names the group.
    """
    # studies from before it know their recipe again by its text
    column: str | None = Field(default=None, exclude_if=lambda column: column is None)
    """Column of the images' table, `patient_id`."""

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if [self.file, self.pattern, self.column].count(None) != 2:
            raise ValueError(
                "give one of file = 'groups.csv', pattern = '^([^_]+)_' and column = 'patient_id'"
            )
        try:
            re.compile(self.pattern or "")
        except re.error as error:
            raise ValueError(
                f"pattern '{self.pattern}' is not a regular expression ({error})"
            ) from None
        return self


class SplitsSection(Section):
    """For folders: which of the folders in it train, validate and test, by name."""

    train: list[str] = Field(min_length=1)
    """Folders with the training images, `["fold_0", "fold_1"]`."""
    validation: list[str] = Field(default_factory=list)
    """None: a part of the training images."""
    test: list[str] = Field(default_factory=list)
    """None: the networks cannot be tested in the end."""

    @property
    def by_split(self) -> dict[str, list[str]]:
        """Split -> its folders; only splits that have some."""
        by_split = {"train": self.train, "validation": self.validation, "test": self.test}
        return {split: names for split, names in by_split.items() if names}

    @model_validator(mode="after")
    def _each_folder_once(self) -> Self:
        names = [*self.train, *self.validation, *self.test]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"folder '{name}' is named twice: a folder is in one split")
        return self


class TableSection(Section):
    """For folders: the CSV file with the labels or numbers of each image, and its columns."""

    file: str | None = None
    """Its path in the folder; None: the only one there, or `train.csv` beside `val.csv` and
    `test.csv`.
    """
    image: str | None = None
    """Column with the images: their paths in the folder, or their files' names, with or without an
    ending; None: the one that names most images.
    """
    columns: list[str] = Field(default_factory=list)
    """Columns to learn; none: all others. For classes the one with the class of each image. For
    labels either one with 0 or 1 for each label, or one with lists, `cat;dog`: what parts them is
    the first of `;`, `|` and `,` that occurs in it, else a space; an image may have a line for each
    label.
    """
    split: str | None = None
    """Column with train, val or test; None: `split` if there is one, else the folders."""


class CocoSection(Section):
    """Paths of a data set in COCO's format, below its folder; None: the usual ones."""

    train: str | None = None
    """File of annotations, `annotations/train.json`."""
    validation: str | None = None
    """None: the usual file if there is one, else a part of the training images."""
    test: str | None = None
    images: str | None = None
    """Folder of the images of all three."""


# With fewer validation images, which of them these are decides more of a run's score than its
# training does.
FEW_VALIDATED = 1000


class DataSection(Section):
    """The images."""

    name: str = Field(min_length=1)
    """{data_sets} (coco and yolo have boxes), `package.module:function` that returns a torch data
    set, or `external`: the evaluator of `[training]` brings its own.
    """
    root: str = "data"
    """Folder for downloaded files."""
    validation: int | Fraction | None = None
    """Images (or share) of the training set kept for validation; None: the data set's own split,
    else a fifth.
    """
    train_subset: int | None = Field(default=None, ge=1)
    """At most this many training images (stratified)."""
    size: InputSize | None = None
    """Side in pixels of the network's input, or `[height, width]`, for a folder's images and those
    of a data set of your own. None: for a folder the size that the weights are made for, published
    ones or a file of a network of torchvision or timm; without such weights 64. For detectors: side
    of the input, to which an image's longer side is scaled; None: 640 (ultralytics), 320 or the
    detector's own (torchvision).
    """
    # studies from before it know their recipe again by its text
    fit: Fit = Field(default="cut", exclude_if=lambda fit: fit == "cut")
    """How an image becomes as large as `size`. `cut`: it is scaled until it covers the input, and
    its middle kept; `resize`: both sides are scaled, each by itself; `letterbox`: it is scaled
    until all of it fits, and the rest is grey. Detectors always have the last.
    """
    options: dict[str, int | float | bool | str] = Field(default_factory=dict)
    """Settings of a generated data set (`digits`: size, fragments, fragment_size; `cued-digits`:
    height, width, bar, cue, contrast, noise; both: train, validation, test); of a folder (`resize`:
    the shorter side before the middle square is cut, `interpolation`; left out: as for the weights
    of the network); or keyword arguments of your own function.
    """
    broken_images: Literal["refuse", "skip"] = "refuse"
    """For an image that cannot be read: stop with an error, or leave it out."""
    # studies from before it know their recipe again by its text
    channels: int | None = Field(
        default=None, ge=1, le=MOST_BANDS, exclude_if=lambda number: number is None
    )
    """For a folder: the number of bands of its images, which are read as they are: TIFF (with
    tifffile), `.npy`, `.npz` with one array, DICOM (with pydicom), and what else is an image. All
    bits are kept, and each band is normalised by its own mean and deviation in the training
    images, unless `mean` and `std` are given. None: images become RGB.
    """
    # studies from before it know their recipe again by its text
    nodata: float | None = Field(default=None, exclude_if=lambda value: value is None)
    """With `channels`: the value of pixels without data, -9999. They count neither for mean nor for
    deviation, and are the mean for a network.
    """
    unknown: list[str] = Field(default_factory=list, exclude_if=lambda cells: not cells)
    """Cells of a folder's table, or labels of a data set of your own, that say that nobody knows:
    `["", "-1"]`; "" is an empty cell, and NaN. They are left out of loss and score; so is an image
    of which nothing else is known. None: such a cell is an error.
    """
    masks: str | None = Field(default=None, exclude_if=lambda pattern: pattern is None)
    """For segmentation of a folder: where an image's mask lies in it, `masks/{stem}_mask.png`.
    `{stem}` is the image's name without its ending, `{folder}` the path of its folder, below
    `images` if there is such a folder. None: `masks/{folder}/{stem}.png`.
    """
    input_shape: tuple[Side, Side, Side] | None = None
    """For `external`: (channels, height, width) of the model's input, to find its sites and to time
    it.
    """
    classes: int | None = Field(default=None, ge=1, le=1_000_000)
    """For `external`: number of the model's outputs."""
    mean: list[float] | None = None
    """Means per channel, 0 to 1, to normalise images; None: those that the weights are made for, as
    for `size`, else those of the training split. With `channels`: of values divided by 255.
    """
    std: list[Annotated[float, Field(gt=0.0)]] | None = None
    """The standard deviations that go with `mean`."""
    workers: int | None = Field(default=None, ge=1, le=256)
    """Processes that read a data set of your own and apply transforms; None: one per core."""
    seed: int = Field(default=0, ge=0)
    """Seed of the split and of generated data."""
    resplit: Literal["auto"] | bool = "auto"
    """Whether each seed divides the images anew into training and validation, the same for all
    networks of that seed, so that the luck of one division averages out. The test images stay.
    `auto`: if the data have no validation split of their own, less than 1,000 images are for
    validation, our own trainer trains, and not from a trained backbone.
    """
    groups: GroupsSection | None = Field(default=None)
    """Which images of a folder belong together; None: none do."""
    splits: SplitsSection | None = Field(default=None)
    """Which folders in a folder train, validate and test, as those of a cross-validation (`fold_0`,
    `fold_1`, …) must say; None: those that are called train, val and test.
    """
    # studies from before it know their recipe again by its text
    table: TableSection | None = Field(default=None, exclude_if=lambda table: table is None)
    """Which table has the labels of a folder's images, and which of its columns; None: it is
    found.
    """
    coco: CocoSection | None = Field(default=None)
    """Where the annotations and images of a `coco:FOLDER` are; None: usual places are searched."""

    @classmethod
    def stored(cls, table: Mapping[str, Any]) -> Self:
        """A section as it was written earlier: with `bits`, which images of 16 bits had, or before
        `resplit`, with one division.
        """
        known = {name: value for name, value in table.items() if name != "bits"}
        return cls.model_validate({"resplit": False, **known})

    @field_validator("unknown", mode="before")
    @classmethod
    def _as_cells(cls, unknown: object) -> object:
        cells = unknown if isinstance(unknown, list) else [unknown]
        is_number = (int, float)
        return [str(cell) if isinstance(cell, is_number) else cell for cell in cells]

    @field_validator("masks")
    @classmethod
    def _pattern(cls, masks: str | None) -> str | None:
        if masks is not None:
            others = re.sub(r"\{(stem|folder)\}", "", masks)
            if "{stem}" not in masks or {"{", "}"}.intersection(others):
                raise ValueError(
                    f"masks = '{masks}' must have {{stem}}, the image's name without its ending,"
                    " and may have {folder}: masks/{stem}_mask.png"
                )
            if masks.lower().endswith((".jpg", ".jpeg")):
                raise ValueError(
                    f"masks = '{masks}': JPEG does not keep class numbers: save masks as PNG"
                )
        return masks

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if escapes := [sign for sign in "\t\n\b\f\r" if sign in self.name]:
            raise ValueError(
                f"name = {self.name!r} has {escapes[0]!r}: in double quotes, a backslash begins an"
                " escape, so write a path in single quotes or with /"
            )
        keys = ("groups", "splits", "table", "channels", "masks")
        places = dict.fromkeys(keys, "folder:PATH")
        for key, place in {**places, "coco": "coco:FOLDER"}.items():
            source = f"{place.partition(':')[0]}:"
            if getattr(self, key) is not None and not self.name.startswith(source):
                raise ValueError(f"{key} is for {place}, and '{self.name}' is not one: remove it")
        if self.nodata is not None and self.channels is None:
            raise ValueError("nodata is a value of bands: give channels, too, or remove it")
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
    """Intra-op threads; with more than one, the wall clock is used instead of the thread's CPU
    time.
    """
    mode: str = "eager"
    """How the network runs, one of {latency_modes}. `eager` is torch as it is."""
    command: str | None = None
    """For `mode = "command"`: a program that measures elsewhere and prints milliseconds; `{onnx}`
    (or its last argument) is the path of an ONNX file.
    """
    tolerance: float = Field(default=0.02, gt=0, lt=1)
    """Measuring ends when the half-width of the 95 % interval is this share of the ratio; for the
    front at the end, half of it.
    """
    session_seconds: float = Field(default=3.0, gt=0)
    """Longest time of one session."""

    @property
    def front_tolerance(self) -> float:
        """Half-width that is enough for the front at the end."""
        return self.tolerance / 2

    @property
    def row(self) -> LatencyMode:
        """What there is to know of its mode."""
        return LATENCY_MODES[self.mode]

    @property
    def by_command(self) -> bool:
        """Whether a user's program measures."""
        return self.row.by_command

    @field_validator("mode")
    @classmethod
    def _known_mode(cls, name: str) -> str:
        if name not in LATENCY_MODES:
            raise ValueError(f"unknown mode '{name}': {did_you_mean(name, LATENCY_MODES)}")
        return name

    @model_validator(mode="after")
    def _mode_fits(self) -> Self:
        if self.by_command != (self.command is not None):
            raise ValueError("mode = 'command' and command = '…' belong together")
        if self.command is not None and not self.command.strip():
            raise ValueError("command must name a program, not ''")
        mode = self.row
        for key, value, taken in (
            ("device", self.device, mode.devices),
            ("dtype", self.dtype, mode.dtypes),
        ):
            if value not in taken:
                modes = " or ".join(f"'{one}'" for one in taken)
                raise ValueError(f"mode = '{self.mode}' takes {key} = {modes}, not '{value}'")
        return self


class SearchSection(Section):
    """How the space is searched."""

    trials: int = Field(default=30, ge=1)
    """Candidates, the baselines included."""
    sampler: str = "auto"
    """One of {samplers} ([samplers](#samplers)), or `package.module:function` that makes your
    own.
    """
    pruner: Literal["pareto_halving", "none"] = "pareto_halving"
    """Which candidates continue at a rung: the first few, later the best third by non-domination;
    `none`: all.
    """
    baselines: Literal["all", "none", "bare"] = "all"
    """`all`: the bare backbone, and each type with its first knobs at every site. Where latency
    counts, also controls: plain residual convolutions at every site, if all these take at most half
    of `trials`, and with relatives at most a third. `bare`: only the bare backbone.
    """
    controls: Literal["auto", "none"] | list[str] = "auto"
    """Larger and smaller networks, which the answer may take instead of attention. `auto`: where
    latency counts and all baselines are tried, from 6 trials on, up to a quarter of the candidates
    are relatives of the backbone: the next larger one, the next smaller one, then one more on each
    side, where it can be in another way (deeper, if the first is wider).
    Each starts as the backbone does, at random or from its own published weights, for which its
    images are prepared, if the backbone's are prepared for its own. `none`: no
    controls, plain convolutions neither. Or their names, `["resnet8(width=22)"]`: these are all
    tried, first; beside a backbone that starts from a file of weights, from their published ones.
    """
    confirm_seeds: int = Field(default=3, ge=0)
    """More seeds for the six networks that matter most after the search, then twice as many rounds
    of confirmation; 0: none, and no longer training.
    """
    seed: Seed = 0
    """Seed of proposals and runs. Searches whose seeds are less than 100 apart share no run's
    seed.
    """

    @field_validator("sampler")
    @classmethod
    def _known_sampler(cls, name: str) -> str:
        if name not in SAMPLERS and ":" not in name:
            raise ValueError(f"unknown sampler '{name}': {did_you_mean(name, SAMPLERS)}")
        return name


class Limits(Section):
    """Limits of a candidate; beyond them it is recorded as infeasible and not trained."""

    max_latency_ratio: float | None = Field(default=None, gt=0)
    """In times of the bare backbone's latency."""
    max_latency_ms: float | None = Field(default=None, gt=0)
    """The same in milliseconds of the machine or device that measures."""
    max_parameters: int | None = Field(default=None, ge=1)
    max_macs: int | None = Field(default=None, ge=1)

    @property
    def bounds_latency(self) -> bool:
        """Whether there is a limit of the latency."""
        return self.max_latency_ratio is not None or self.max_latency_ms is not None

    def latency_ratio(self, reference_ms: float | None) -> float | None:
        """The limit of the latency, in times of the bare backbone's.

        Args:
            reference_ms: the bare backbone's milliseconds; None or NaN: not measured yet.

        Returns:
            The lower one of both limits; None where there is none, or none that is known yet.
        """
        known = [] if self.max_latency_ratio is None else [self.max_latency_ratio]
        if self.max_latency_ms is not None and reference_ms and reference_ms > 0:
            known.append(self.max_latency_ms / reference_ms)
        return min(known, default=None)

    def latency_text(self, reference_ms: float | None) -> str:
        """The limit of the latency as its user has written it."""
        ratio = self.latency_ratio(reference_ms)
        if self.max_latency_ms is None or ratio == self.max_latency_ratio:
            return f"limits.max_latency_ratio = {self.max_latency_ratio:g}"
        text = f"limits.max_latency_ms = {self.max_latency_ms:g}"
        return text if ratio is None else f"{text}, here a ratio of {ratio:.3g}"


class AnswerSection(Section):
    """What is recommended."""

    worth: float | None = Field(default=None, gt=0)
    """The smallest difference that counts, in the metric's unit (accuracy: 0.01 is a point). A
    smaller gain is not recommended, by whichever means. Among placements that are less than this
    below the best one, the fastest wins. A smaller network may lose less than this. None: a tenth
    of the best gain or of one run's noise, whichever is larger; for what a smaller network may
    lose, half a point of accuracy.
    """


class StorageSection(Section):
    """What a study keeps in addition to its results."""

    keep_weights: Literal["all", "front", "none"] = "all"
    """Which weights of the search to keep: `all` scored candidates'; at the end, only those of the
    `front`, the recommended candidate and the bare backbone; `none`. Those of `retrain` always
    stay.
    """


class LogSection(Section):
    """Where else a study is shown."""

    to: list[Literal["tensorboard", "mlflow", "wandb"]] = Field(default_factory=list)
    """Programs that get the ended runs and the answer whenever a worker ends. Their own variables
    configure them (MLFLOW_TRACKING_URI, WANDB_MODE); each needs the extra of its name.
    """
