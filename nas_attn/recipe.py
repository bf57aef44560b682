"""The recipe: the one place that knows every setting of a study, its default and its limits.

A recipe is a TOML file (`studies/*.toml`) with the sections below; a search space is a TOML file of its own
(`search_spaces/*.toml`) that the recipe names. `load_recipe` reads both, so that a `Recipe` is self-contained:
it is frozen into the study as JSON and needs no file afterwards.
"""

from __future__ import annotations

import itertools
import json
import re
import tomllib
import typing
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from nas_attn.errors import RecipeError, did_you_mean
from nas_attn.records import POSITIONS, Knob

Position = Literal["residual", "block", "stage"]
Grid = dict[str, Knob | list[Knob]]
"""Knob -> one value or several: all combinations are choices."""
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
S = typing.TypeVar("S", bound="Section")


class Section(BaseModel):
    """Base of all sections: frozen, and no key is ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


# ------------------------------------------------------------------------------------------- search space


class SitesSection(Section):
    """Which sites of the backbone are searched."""

    granularity: Literal["stage", "block"] = "stage"
    """One decision per stage, or one per block."""
    positions: list[Position] = Field(default=["residual"], min_length=1)
    """Where in a site a module may go; more than one: searched. A site that has none of them uses its default."""
    include: list[str] = Field(default_factory=lambda: ["*"], min_length=1)
    """Glob patterns over site names."""
    exclude: list[str] = Field(default_factory=list)
    """Glob patterns over site names that are left out."""
    custom: dict[str, list[str]] = Field(default_factory=dict)
    """Sites of one's own: name -> glob patterns over module paths, `neck = ["fpn.layer_blocks.0"]`; after each of them."""
    originals: Literal["keep", "search"] = "keep"
    """Attention that the backbone has of its own (`stageK.original`): stays, or is searched (kept, replaced, removed)."""

    @field_validator("custom")
    @classmethod
    def _own_names(cls, custom: dict[str, list[str]]) -> dict[str, list[str]]:
        for name, patterns in custom.items():
            if not re.fullmatch(r"[A-Za-z_][\w-]*", name) or re.fullmatch(r"stage\d+", name):
                raise ValueError(f"'{name}' is no name for a site of one's own: letters, digits, _ and -, not stage1")
            if not patterns:
                raise ValueError(f"'{name}' names no module: give it at least one path or glob")
        return custom


class PerSite(Section):
    """A restriction of one site (a glob over site names)."""

    choices: list[str] = Field(min_length=1)
    """Subset of the types under `[choices]`, and `none`."""


class SpaceLimits(Section):
    """Limits that hold for a placement as a whole."""

    max_modules: int | None = Field(default=None, ge=0)
    """At most this many sites with a module."""


class SpaceSpec(Section):
    """A search space as written: what may go where."""

    name: str = Field(min_length=1)
    sites: SitesSection = Field(default_factory=SitesSection)
    choices: dict[str, bool | Grid | list[Grid]] = Field(min_length=1)
    """Attention type -> knob -> one value or several (or a list of such tables); `none = false` takes `none` out."""
    per_site: dict[str, PerSite] = Field(default_factory=dict)
    limits: SpaceLimits = Field(default_factory=SpaceLimits)
    origin: str = Field(default="", exclude=True)
    """The file it was read from, for errors; not part of what it says."""

    @property
    def where(self) -> str:
        """Names it in an error."""
        return self.origin or f"search space '{self.name}'"

    @model_validator(mode="after")
    def _only_none_is_a_switch(self) -> Self:
        for name, value in self.choices.items():
            if isinstance(value, bool) and name != "none":
                raise ValueError(f"choices.{name} must be a table of knobs, `{name} = {{}}` for the defaults")
            if not isinstance(value, bool) and name == "none":
                raise ValueError("choices.none is a switch: `none = false` takes it out")
        if not self.types and not self.with_none:
            raise ValueError("choices is empty: name at least one attention type")
        for site, restriction in self.per_site.items():
            for name in restriction.choices:
                if name != "none" and name not in self.types:
                    raise ValueError(
                        f"per_site.{site}.choices has '{name}': {did_you_mean(name, [*self.types, 'none'])}"
                    )
        return self

    @property
    def with_none(self) -> bool:
        """Whether a site may stay without attention."""
        return bool(self.choices.get("none", True))

    @property
    def types(self) -> dict[str, list[dict[str, list[Knob]]]]:
        """Attention type -> its grids, each knob -> the values it may take."""
        grids = {name: value if isinstance(value, list) else [value] for name, value in self.choices.items()}
        return {
            name: [
                {knob: v if isinstance(v, list) else [v] for knob, v in g.items()}
                for g in tables
                if isinstance(g, dict)
            ]
            for name, tables in grids.items()
            if name != "none"
        }


# ------------------------------------------------------------------------------------------- study


class BackboneSection(Section):
    """The network that attention is put into."""

    name: str = Field(min_length=1)
    """`resnet8|14|20|32|56`, `preact_resnet…`, `torchvision:NAME`, `timm:NAME`, `package.module:function`."""
    width: int | None = Field(default=None, ge=1, le=1024)
    """Channels of a CIFAR ResNet's first stage; None: 16."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments for the function that builds a torchvision, timm or user's model."""


class DataSection(Section):
    """The images."""

    name: str = Field(min_length=1)
    """`digits`, `digits-8x8`, `fashion-mnist`, `mnist`, `cifar10`, `cifar100`, `folder:PATH`, or `external`: the evaluator
    of `[training]` brings its own."""
    root: str = "data"
    """Where downloaded files lie, or are put."""
    validation: int | Fraction | None = None
    """Images (or share) of the training set kept for validation; None: the data set's own split, else a fifth."""
    train_subset: int | None = Field(default=None, ge=1)
    """At most this many training images (stratified)."""
    size: int | None = Field(default=None, ge=4, le=1024)
    """Side in pixels of a folder's images: the shorter side is scaled to it, the middle square kept; None: 64."""
    options: dict[str, int | float | bool | str] = Field(default_factory=dict)
    """Settings of a generated data set (`digits`: size, fragments, fragment_size, train, validation, test)."""
    broken_images: Literal["refuse", "skip"] = "refuse"
    """What to do about an image of a folder that cannot be read."""
    input_shape: tuple[int, int, int] | None = None
    """For `external`: (channels, height, width) of what the model is fed, to find its sites and time it."""
    classes: int | None = Field(default=None, ge=1)
    """For `external`: outputs of the model."""
    mean: list[float] | None = None
    """Per channel, 0 to 1, what images are normalised with; None: of the training split. For weights trained with others."""
    std: list[Annotated[float, Field(gt=0.0)]] | None = None
    """The standard deviations that go with `mean`."""
    memory_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.25
    """A folder whose images take more than this share of the free memory is read from disk in every epoch."""
    workers: int | None = Field(default=None, ge=1, le=256)
    """Processes that decode images read from disk in every epoch; None: as many as there are cores."""
    seed: int = Field(default=0, ge=0)
    """Seed of the split and of generated data."""

    @model_validator(mode="after")
    def _mean_with_std(self) -> Self:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std belong together: give both or neither")
        return self


class AugmentSection(Section):
    """Batched augmentation on the training device. Off where a value is 0 or false."""

    flip: bool = False
    """Mirror each image left-right with probability 1/2."""
    crop_padding: int = Field(default=0, ge=0, le=64)
    """Pad by this many pixels and crop back at a random place."""
    cutout: int = Field(default=0, ge=0, le=256)
    """Side in pixels of a random square set to the mean."""
    mixup: float = Field(default=0.0, ge=0.0, le=10.0)
    """Beta parameter of mixup."""


class TrainingSection(Section):
    """How a candidate is trained and scored."""

    start: Literal["scratch", "backbone", "pretrained"] = "backbone"
    """Random weights; the study's trained backbone; the user's weights (`weights`)."""
    weights: str | None = None
    """For `pretrained`: a state_dict file (`.pt`, `.pth`, `.npz`), or `default` for the source's own weights."""
    init: Literal["auto", "paper", "identity"] = "auto"
    """Modules in their published form or starting as the identity; `auto`: paper from scratch, identity else."""
    rungs: list[int] = Field(default_factory=lambda: [1, 3], min_length=1)
    """Epochs at which a candidate is scored and may be pruned, increasing."""
    backbone_epochs: int = Field(default=10, ge=1)
    """Epochs of the study's backbone, where `start` is `backbone`."""
    batch_size: int = Field(default=128, ge=2)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = Field(default=0.1, gt=0)
    """Peak rate of the backbone's training and of training from scratch."""
    finetune_learning_rate: float | None = Field(default=None, gt=0)
    """Peak rate of candidates that start from trained weights; None: a fifth of `learning_rate`."""
    attention_learning_rate: float = Field(default=1.0, gt=0)
    """Factor on the learning rate of attention modules."""
    backbone_learning_rate: float = Field(default=1.0, ge=0)
    """Factor on the learning rate of the backbone in candidates; 0 freezes it."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    ema: float = Field(default=0.9, ge=0, lt=1)
    """Share of the averaged weights kept per epoch-hundredth; 0 scores the last weights."""
    clip_norm: float | None = Field(default=None, gt=0)
    """Largest gradient norm; None: no clipping."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """`auto`: bfloat16 autocast on CUDA and on CPUs with instructions for it, else float32."""
    execution: Literal["auto", "eager", "compile", "cuda-graph"] = "auto"
    """How a training step is executed: as it is, through torch.compile, or recorded once as a CUDA graph and replayed.
    `auto`: a CUDA graph on CUDA, else as it is; `compile` pays only in long trainings."""
    augment: AugmentSection = Field(default_factory=AugmentSection)
    seeds: int = Field(default=1, ge=1, le=64)
    """Runs with different seeds behind each candidate's score."""
    evaluator: str | None = None
    """`package.module:function` that trains and scores a candidate instead of the built-in trainer."""
    threads: int | None = Field(default=None, ge=1)
    """Intra-op threads of a worker; None: the cores divided by the workers."""

    @field_validator("rungs")
    @classmethod
    def _increasing(cls, rungs: list[int]) -> list[int]:
        if rungs[0] < 1 or any(a >= b for a, b in itertools.pairwise(rungs)):
            raise ValueError(f"must be increasing numbers of epochs, like [1, 3, 9], not {rungs}")
        return rungs

    @model_validator(mode="after")
    def _weights_where_pretrained(self) -> Self:
        if (self.start == "pretrained") != (self.weights is not None):
            raise ValueError("start = 'pretrained' and weights = '…' belong together")
        return self

    @property
    def resolved_init(self) -> Literal["paper", "identity"]:
        """The form that is trained, timed, exported and keyed."""
        if self.init == "auto":
            return "paper" if self.start == "scratch" else "identity"
        return self.init


class LatencySection(Section):
    """How latency is measured."""

    device: Literal["cpu", "cuda"] = "cpu"
    batch_size: int = Field(default=1, ge=1)
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    channels_last: bool = False
    threads: int = Field(default=1, ge=1)
    """Intra-op threads; more than one uses the wall clock instead of the thread's CPU time."""
    mode: Literal["eager", "compile", "cuda-graph", "onnxruntime", "command"] = "eager"
    """How the network is executed: as it is, through torch.compile, replayed as a CUDA graph, by ONNX Runtime, or by `command`."""
    command: str | None = None
    """For `mode = "command"`: a program that measures elsewhere; `{onnx}` (or its last argument) is an ONNX file, it
    prints milliseconds."""
    command_timeout_s: float = Field(default=600.0, gt=0)
    """Time that one call of the command may take."""
    flush_l2: bool = True
    """CUDA, not ONNX Runtime: overwrite the L2 cache before each timed call, so that weights come from memory as in real use."""
    other_machine: Literal["leave", "refuse"] = "leave"
    """A worker on another machine than the study's latencies: leaves the measuring to one that fits, or refuses to work."""
    tolerance: float = Field(default=0.02, gt=0, lt=1)
    """Half-width of the 95 % interval that is enough to search, as a share."""
    front_tolerance: float = Field(default=0.01, gt=0, lt=1)
    """The same for the final front."""
    session_seconds: float = Field(default=3.0, gt=0)
    """Time that one session takes at most."""
    max_sessions: int = Field(default=24, ge=1)
    """Sessions a candidate gets at most."""

    @model_validator(mode="after")
    def _mode_fits(self) -> Self:
        if (self.mode == "command") != (self.command is not None):
            raise ValueError("mode = 'command' and command = '…' belong together")
        if self.command is not None and not self.command.strip():
            raise ValueError("command must name a program, not ''")
        if self.mode == "cuda-graph" and self.device != "cuda":
            raise ValueError("mode = 'cuda-graph' needs device = 'cuda'")
        if self.mode in ("onnxruntime", "command") and self.dtype == "bfloat16":
            raise ValueError(f"mode = '{self.mode}' takes dtype = 'float32' or 'float16', not 'bfloat16'")
        return self


class SearchSection(Section):
    """How the space is searched."""

    trials: int = Field(default=30, ge=1)
    """Candidates, the baselines included."""
    sampler: Literal["auto", "tpe", "nsga2", "random"] = "auto"
    pruner: Literal["pareto_halving", "none"] = "pareto_halving"
    eta: float = Field(default=3.0, gt=1)
    """Of the candidates at a rung, the best 1/eta go on."""
    baselines: Literal["all", "none", "bare"] = "all"
    """`all`: no attention, and each type with its first knobs at every site; `bare`: no attention only."""
    confirm_seeds: int = Field(default=2, ge=0)
    """Further seeds for the front and the baselines after the search."""
    time_limit_s: float | None = Field(default=None, gt=0)
    """No new candidate is begun after this many seconds of one call."""
    seed: int = 0


class Limits(Section):
    """What a candidate may cost; beyond, it is recorded as infeasible and not trained."""

    max_latency_ratio: float | None = Field(default=None, gt=0)
    max_parameters: int | None = Field(default=None, ge=1)
    max_macs: int | None = Field(default=None, ge=1)


class Recipe(Section):
    """A study as written: backbone, data, space, training, latency, search."""

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    space: SpaceSpec
    objectives: list[str] = Field(default_factory=lambda: ["accuracy", "latency"], min_length=1)
    """`accuracy`, `loss`, `latency`, `params`, `macs`, `memory`, or a metric of the evaluator: `name` where higher is
    better, `-name` where lower is."""
    backbone: BackboneSection
    data: DataSection
    training: TrainingSection = Field(default_factory=TrainingSection)
    latency: LatencySection = Field(default_factory=LatencySection)
    search: SearchSection = Field(default_factory=SearchSection)
    limits: Limits = Field(default_factory=Limits)

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
        if self.training.start == "backbone":
            raise ValueError("data.name = 'external' needs training.start = 'scratch' or 'pretrained'")
        return self

    @model_validator(mode="after")
    def _known_objectives(self) -> Self:
        if self.training.evaluator is None:  # else any metric that it returns
            for objective in self.objectives:
                if objective not in OBJECTIVES:
                    raise ValueError(f"objectives names '{objective}': {did_you_mean(objective, OBJECTIVES)}")
        return self

    def to_json(self) -> str:
        """Canonical text: equal recipes have equal texts."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True)


LOWER_IS_BETTER = frozenset({"loss", "latency", "params", "macs", "memory"})
OBJECTIVES = LOWER_IS_BETTER | {"accuracy"}
"""What a study may ask for without an evaluator of its own."""


def objective_name(objective: str) -> str:
    """The metric behind an objective: `-rmse` reads `rmse`."""
    return objective.removeprefix("-")


def lower_is_better(objective: str) -> bool:
    """Whether an objective is minimised."""
    return objective.startswith("-") or objective in LOWER_IS_BETTER


# ------------------------------------------------------------------------------------------- reading


def shipped(kind: Literal["search_spaces", "studies"]) -> dict[str, str]:
    """Name -> text of the TOML files that come with the package."""
    inside = resources.files("nas_attn") / "_shipped" / kind
    folder = inside if inside.is_dir() else Path(__file__).resolve().parent.parent / kind
    return {
        entry.name.removesuffix(".toml"): entry.read_text("utf-8")
        for entry in sorted(folder.iterdir(), key=lambda e: e.name)
        if entry.name.endswith(".toml")
    }


def load_space(name: str, *, relative_to: Path | None = None) -> SpaceSpec:
    """A search space by shipped name or path to a TOML file.

    Raises:
        RecipeError: it does not exist or is wrong; names file, key and the nearest valid name.
    """
    where, table = _read_toml("search_spaces", name, relative_to)
    return _validate(SpaceSpec, {**table, "origin": where}, where)


def load_recipe(name: str, *, overrides: dict[str, Any] | None = None) -> Recipe:
    """A recipe by shipped name or path to a TOML file, its space included.

    Args:
        overrides: dotted keys -> values that replace what the file says, `{"search.trials": 20}`.

    Raises:
        RecipeError: it does not exist or is wrong; names file, key and the nearest valid name.
    """
    where, table = _read_toml("studies", name, None)
    for key, value in (overrides or {}).items():
        _set(table, key.split("."), value, where)
    return recipe_from(table, where=where)


def recipe_from(table: dict[str, Any], *, where: str) -> Recipe:
    """A recipe from a table as in TOML; `where` names its origin in errors."""
    table = dict(table)
    space = table.get("space")
    if isinstance(space, str):
        origin = Path(where)
        table["space"] = load_space(space, relative_to=origin.parent if origin.is_file() else None)
    return _validate(Recipe, table, where)


def _read_toml(
    kind: Literal["search_spaces", "studies"], name: str, relative_to: Path | None
) -> tuple[str, dict[str, Any]]:
    """(where it lies, its table) of a shipped name or a path."""
    what = "search space" if kind == "search_spaces" else "recipe"
    path = Path(name).expanduser()
    if relative_to is not None and not path.is_absolute() and (relative_to / path).is_file():
        path = relative_to / path
    if path.is_file():
        where, text = str(path), _text(path, what)
    elif path.suffix == ".toml" or len(path.parts) > 1:
        raise RecipeError(f"{what} file '{name}' does not exist (looked in {Path.cwd()})")
    else:
        known = shipped(kind)
        if name not in known:
            raise RecipeError(f"unknown {what} '{name}': {did_you_mean(name, known)}; or give the path of a .toml file")
        where, text = f"{kind}/{name}.toml (shipped)", known[name]
    try:
        return where, tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{where} is not valid TOML: {error}") from None


def _text(path: Path, what: str) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{what} file '{path}' cannot be read: {error}") from None


def _set(table: dict[str, Any], keys: list[str], value: Any, where: str) -> None:
    for key in keys[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise RecipeError(f"{where}: '{key}' is not a section, so '{'.'.join(keys)}' cannot be set")
    table[keys[-1]] = value


def _validate(model: type[S], table: dict[str, Any], where: str) -> S:
    try:
        return model.model_validate(table)
    except ValidationError as error:
        raise RecipeError(sentence(model, error, where)) from None


def sentence(model: type[BaseModel], error: ValidationError, where: str) -> str:
    """One sentence for the first thing that is wrong: file, key, value, way out."""
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    path = [str(part) for part in first["loc"] if part not in ("bool", "int", "float", "str") and "[" not in str(part)]
    key = ".".join(path)
    if first["type"] == "extra_forbidden":
        fields = _fields_at(model, first["loc"][:-1])
        return f"{where}: unknown key '{key}': {did_you_mean(str(first['loc'][-1]), fields)}"
    if first["type"] == "missing":
        return f"{where}: '{key}' is missing"
    message = first["msg"].removeprefix("Value error, ")
    value = "" if first["type"] == "value_error" else f", not {first['input']!r}"
    return f"{where}: {key + ': ' if key else ''}{message[:1].lower()}{message[1:]}{value}"


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Keys that a section knows, found by walking an error's location."""
    for part in location:
        info = model.model_fields.get(str(part))
        annotation = info.annotation if info else None
        candidates = [annotation, *typing.get_args(annotation)]
        nested = [a for a in candidates if isinstance(a, type) and issubclass(a, BaseModel)]
        if nested:
            model = nested[0]
    return [name for name, field in model.model_fields.items() if not field.exclude]


assert typing.get_args(Position) == POSITIONS  # one vocabulary, written where each room may import it
