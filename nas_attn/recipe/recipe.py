"""The recipe, a TOML file (`studies/*.toml`): every setting of a study, its default, its limits. A
study keeps it as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from nas_attn.errors import did_you_mean
from nas_attn.recipe import tables, tasks
from nas_attn.recipe.protocol import (
    OPEN_RUNGS,
    Augment,
    Named,
    Schedule,
    TargetSection,
    TrainingSection,
)
from nas_attn.recipe.sections import (
    AnswerSection,
    BackboneSection,
    CocoSection,
    DataSection,
    GroupsSection,
    LatencySection,
    Limits,
    LogSection,
    SearchSection,
    SplitsSection,
    StorageSection,
    TaskSection,
)
from nas_attn.recipe.target import AUTO
from nas_attn.space.schema import Section, SpaceSpec
from nas_attn.system.importing import PYTHON

__all__ = [
    "OPEN_RUNGS",
    "AnswerSection",
    "Augment",
    "BackboneSection",
    "CocoSection",
    "DataSection",
    "GroupsSection",
    "LatencySection",
    "Limits",
    "LogSection",
    "Named",
    "Recipe",
    "Schedule",
    "SearchSection",
    "SplitsSection",
    "StorageSection",
    "TargetSection",
    "TaskSection",
    "TrainingSection",
    "lower_is_better",
    "objective_name",
]


_Changes = dict[str, dict[str, Any]]
AUTOS: Mapping[str, str] = {"data": "resplit", "backbone": "norms", "target": "learning_rate"}
"""Section -> its key which a study decides where it is `auto`."""
STATED_RATE = {"preset", "learning_rate", "finetune_learning_rate", "evaluator"}
"""Keys of `[training]` that say a learning rate."""
KEPT = "kept"
"""Context of validation: the table is what a study keeps, which names all keys."""


def _name_in(table: Mapping[str, Any], section: str) -> str:
    part = table.get(section)
    return str(part.get("name", "")) if isinstance(part, Mapping) else ""


def _has_our_trainer(table: Mapping[str, Any]) -> bool:
    """Whether our own trainer trains, unless an evaluator does."""
    variants = tasks.variants(_name_in(table, "task") or tasks.USUAL_TASK)
    backbone = _name_in(table, "backbone")
    return any(one.own_trainer and one.fits(backbone, evaluated=False) for one in variants)


def _usual_fine_tuning(table: Mapping[str, Any], training: Mapping[str, Any]) -> dict[str, Any]:
    """How our own trainer fine-tunes, unless a recipe says how weights are changed: by a preset, an
    optimizer, or a learning rate, which would be SGD's. None for who trains otherwise.
    """
    if {"preset", "optimizer", "learning_rate", "evaluator"} & training.keys():
        return {}
    if not _has_our_trainer(table):
        return {}
    row = tables.find_data_set(_name_in(table, "data"))
    # digits and text must not be mirrored
    unmirrored: dict[str, Any] = {"augment": []} if row is not None and row.small else {}
    return {"preset": tables.FINE_TUNING_PRESET, **unmirrored}


def _training_like(target: Mapping[str, Any], start: str) -> dict[str, Any]:
    """What a search takes over from its target, from which it starts alike."""
    alike = {
        name: target[name] for name in ("weight_decay", "batch_size", "augment") if name in target
    }
    if isinstance(target.get("epochs"), int):
        alike["rungs"] = [target["epochs"]]
    if target.get("learning_rate") not in (None, AUTO):
        rate = "learning_rate" if start == "scratch" else "finetune_learning_rate"
        alike[rate] = target["learning_rate"]
    if target.get("freeze") == "backbone":
        alike["backbone_learning_rate"] = 0.0
    return alike


class Recipe(Section):
    """A study as written: backbone, data, space, target, training, latency, search, limits, answer,
    storage, log.
    """

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    space: SpaceSpec
    task: TaskSection = Field(default_factory=TaskSection)
    objectives: list[str] = Field(default_factory=lambda: ["accuracy", "latency"], min_length=1)
    """{metrics}; all: {costs}; or a metric of the evaluator, `name` if higher is better, `-name` if
    lower is better. Default: the task's own metric and the latency.
    """
    backbone: BackboneSection
    data: DataSection
    target: TargetSection = Field(default_factory=TargetSection)
    training: TrainingSection = Field(default_factory=TrainingSection)
    latency: LatencySection = Field(default_factory=LatencySection)
    search: SearchSection = Field(default_factory=SearchSection)
    limits: Limits = Field(default_factory=Limits)
    answer: AnswerSection = Field(default_factory=AnswerSection)
    storage: StorageSection = Field(default_factory=StorageSection)
    log: LogSection = Field(default_factory=LogSection)

    @model_validator(mode="before")
    @classmethod
    def _own_metric(cls, table: Any) -> Any:
        """Without objectives, the task's metric and the latency."""
        task = tasks.TASKS.get(_name_in(table, "task")) if isinstance(table, dict) else None
        return table if task is None else {"objectives": [task.metric, "latency"], **table}

    @model_validator(mode="before")
    @classmethod
    def _search_as_target(cls, table: Any) -> Any:
        """The search trains as the target does, unless `[training]` says otherwise."""
        if not isinstance(table, dict):
            return table
        training = table.get("training", {})
        target = table.get("target", {})
        if not (isinstance(training, dict) and isinstance(target, dict)):
            return table
        weights = target.get("weights") or training.get("weights")
        start = target.get("start") or ("pretrained" if weights else "scratch")
        given = {}
        if start == "pretrained" and weights:
            given = {"weights": weights}
        target = {**target, "start": start, **given}
        if training.get("start") in (None, start):
            # our own trainers can find them
            if "epochs" not in target and not {"rungs", "evaluator"} & training.keys():
                target["epochs"] = AUTO
            no_rate = not STATED_RATE & training.keys() and _has_our_trainer(table)
            if target.get("epochs") == AUTO and no_rate:
                target.setdefault("learning_rate", AUTO)
            alike = _training_like(target, start)
            training = {"start": start, **given, **alike, **training}
        if training.get("start") == "pretrained":
            training = {**_usual_fine_tuning(table, training), **training}
        return {**table, "target": target, "training": training}

    @field_validator("objectives")
    @classmethod
    def _each_once(cls, objectives: list[str]) -> list[str]:
        if len(set(objectives)) != len(objectives):
            raise ValueError(f"names an objective twice: {objectives}")
        return objectives

    @model_validator(mode="after")
    def _one_length(self, info: ValidationInfo) -> Self:
        given = "rungs" in self.training.model_fields_set and info.context != KEPT
        if self.target_is_open and self.starts_alike and given:
            raise ValueError(
                "target.epochs = 'auto' also sets training.rungs: leave rungs out, or give"
                " target.epochs a number"
            )
        return self

    @model_validator(mode="after")
    def _one_rate(self) -> Self:
        found = self.target.epochs == AUTO or self.target.found
        alike = self.starts_alike and self.training.evaluator is None
        if self.target.learning_rate == AUTO and not (found and alike):
            raise ValueError(
                "target.learning_rate = 'auto' needs target.epochs = 'auto', our own trainer, and a"
                " search that starts as the target: give a rate, or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.data.name == "external":
            if self.data.input_shape is None:
                raise ValueError(
                    "data.name = 'external' needs data.input_shape = [channels, height, width]"
                )
            if self.training.start == "backbone":
                raise ValueError(
                    "data.name = 'external' needs training.start = 'scratch' or 'pretrained'"
                )
        if (self.target.start == "pretrained") != (self.target.weights is not None):
            raise ValueError("target.start = 'pretrained' and target.weights = '…' belong together")
        task = tasks.of(self)
        # else any metric that it returns
        if self.training.evaluator is None:
            metrics = {*task.metrics, *tables.COSTS}
            for objective in self.objectives:
                if objective not in metrics and not tables.is_own_cost(objective):
                    # two operations are one multiplication and addition
                    meant = "macs" if objective.lower().endswith("flops") else objective
                    raise ValueError(
                        f"unknown objective '{objective}': {did_you_mean(meant, metrics)}"
                    )
        ratio = self.limits.max_latency_ratio
        if ratio is not None and ratio < 1 and self.space.sites.originals == "keep":
            raise ValueError(
                f"limits.max_latency_ratio = {ratio:g} cannot be met: attention is added to the"
                " backbone, whose ratio is 1; give 1 or more"
            )
        task.check(self)
        return self

    @model_validator(mode="after")
    def _can_freeze(self) -> Self:
        if self.target.freeze is not None and self.target.start == "scratch":
            raise ValueError(
                f"target.freeze = '{self.target.freeze}' needs trained weights, and target.start ="
                " 'scratch' begins at random: name them in target.weights, or remove freeze"
            )
        if self.target.freeze is not None and self.training.evaluator is not None:
            raise ValueError(
                f"target.freeze = '{self.target.freeze}' is not for an evaluator, which trains by"
                " itself: freeze there with nas_attn.freeze_all_but_attention(model), and remove it"
            )
        return self

    @model_validator(mode="after")
    def _reads_table(self) -> Self:
        labels = tasks.of(self).labels
        if self.data.table is not None and labels in ("masks", "boxes"):
            raise ValueError(
                "data.table is for classification, multi-label and regression, not for the task"
                f" '{self.task.name}': remove it, or set task.name"
            )
        groups = self.data.groups
        has_table = self.data.table is not None or labels in ("tags", "numbers")
        if groups is not None and groups.column is not None and not has_table:
            raise ValueError(
                f"data.groups.column = '{groups.column}' is a column of data.table: give that, or"
                " groups by file or pattern"
            )
        return self

    @model_validator(mode="after")
    def _can_resplit(self) -> Self:
        if self.data.resplit is True and not self.may_resplit:
            raise ValueError(
                "data.resplit = true is only for our own trainer, and not for runs that start from"
                " a trained backbone, which has seen the images of one division: leave it out"
            )
        return self

    @property
    def needs_program(self) -> bool:
        """Whether a program gave its model or its training as Python objects: a loop, a function of
        `na.search`. Then only that program can train, and no command.
        """
        return any(
            name is not None and name.startswith(PYTHON)
            for name in (self.backbone.name, self.training.evaluator)
        )

    @property
    def starts_alike(self) -> bool:
        """Whether the runs of the search start as the target does."""
        return self.training.start == self.target.start

    @property
    def target_is_open(self) -> bool:
        """Whether the study must find out first how long the target trains."""
        return self.target.epochs == AUTO

    @property
    def rate_is_open(self) -> bool:
        """Whether the study must find out first at which rate it trains."""
        return self.target_is_open and self.target.learning_rate == AUTO

    def with_length(self, epochs: int, rate: float = 1.0) -> Recipe:
        """The recipe with a target of so many epochs, which the study has found.

        Args:
            epochs: of the target.
            rate: times the usual learning rate.
        """
        changed: _Changes = {"target": {"epochs": epochs, "found": True}}
        if self.starts_alike:
            changed["training"] = {"rungs": [epochs], "rate_factor": rate}
        return self._with(changed)

    def with_target(self, epochs: int) -> Recipe:
        """The recipe with a target of so many epochs. Where the search starts as the target does,
        its last rung is as long, and its other rungs keep their shares.
        """
        changed: _Changes = {"target": {"epochs": epochs, "found": False}}
        if self.target.learning_rate == AUTO:
            # it was found, or is the usual one
            changed["target"]["learning_rate"] = None
        if self.starts_alike:
            times = epochs / self.training.rungs[-1]
            rungs = sorted({max(1, round(times * rung)) for rung in self.training.rungs})
            changed["training"] = {"rungs": rungs}
        return self._with(changed)

    def with_autos_of(self, other: Recipe) -> Recipe:
        """This recipe with the other's `AUTOS`, where its own may be any (`auto`)."""
        return self._with(
            {
                section: {key: getattr(getattr(other, section), key)}
                for section, key in AUTOS.items()
                if getattr(getattr(self, section), key) == AUTO
            }
        )

    def _with(self, changed: _Changes) -> Recipe:
        """The recipe with other values: section -> key -> value. They are not checked."""
        return self.model_copy(
            update={
                section: getattr(self, section).model_copy(update=dict(keys))
                for section, keys in changed.items()
            }
        )

    def is_that_of(self, kept: Recipe) -> bool:
        """Whether it says what a study's recipe says, but for what that study decided and found."""
        mine = self.with_autos_of(kept).model_dump()
        return mine in (kept.model_dump(), kept.as_asked().model_dump())

    def with_resplit(self, resplit: bool) -> Recipe:
        """This recipe with what its `data.resplit = "auto"` stands for."""
        return self._with({"data": {"resplit": resplit}}) if self.data.resplit == AUTO else self

    @property
    def network(self) -> BackboneSection:
        """The backbone of its runs, with what `norms = "auto"` stands for in them."""
        if self.backbone.norms != "auto":
            return self.backbone
        frozen = self.training.start == "pretrained" and self.backbone.name in tables.FROZEN_NORMS
        norms = "frozen" if frozen else "as_built"
        return self.backbone.model_copy(update={"norms": norms})

    @property
    def may_resplit(self) -> bool:
        """Whether its trainings can divide the images anew for each seed: our own trainer does, and
        a trained backbone has seen the images of one division.
        """
        starts = (self.training.start, self.target.start)
        ours = self.training.evaluator is None and tasks.of(self).own_trainer
        return ours and "backbone" not in starts and self.data.name != "external"

    def as_asked(self) -> Recipe:
        """The recipe before its study found how long the target trains."""
        if not self.target.found:
            return self
        changed: _Changes = {"target": {"epochs": AUTO, "found": False}}
        if self.starts_alike:
            changed["training"] = {"rungs": OPEN_RUNGS, "rate_factor": 1.0}
        return self._with(changed)

    @property
    def augmentations(self) -> set[str]:
        """Names of all augmentations, of search and target."""
        names = set[str]()
        for augment in (*self.training.augmentation, *(self.target.augment or ())):
            names |= augment.names
        return names

    @property
    def first_seed(self) -> int:
        """The first seed of runs, below what NumPy takes as a seed. Each `search.seed` has a
        thousand from here on.
        """
        return 1000 * self.search.seed % 2**31

    @property
    def target_training(self) -> TrainingSection:
        """How the target trains, in full: one rung, its last epoch. The modules' form is the one
        that was searched.
        """
        training = self.training
        target = self.target
        given = target.model_dump(include={"weight_decay", "batch_size"})
        changed: dict[str, Any] = {
            name: value for name, value in given.items() if value is not None
        }
        if target.freeze == "backbone":
            changed["backbone_learning_rate"] = 0.0
        rate = "finetune_learning_rate"
        if target.start == "scratch":
            rate = "learning_rate"
        if isinstance(target.learning_rate, float):
            changed[rate] = target.learning_rate
        last = training.rungs[-1]
        epochs = target.epochs if isinstance(target.epochs, int) else None
        return training.model_copy(
            update={
                **changed,
                "start": target.start,
                "weights": target.weights,
                "rungs": [
                    epochs
                    or (last if self.starts_alike else max(training.backbone_epochs, 3 * last))
                ],
                "augment": training.augmentation if target.augment is None else target.augment,
                "transforms": None,
                "seeds": 1,
            }
        )

    def to_json(self) -> str:
        """What a study keeps. Keys stay in the order they were written in: choices, parameters and
        baselines follow it.
        """
        return json.dumps(self.model_dump(mode="json"))


def objective_name(objective: str) -> str:
    """The metric behind an objective: `-rmse` reads `rmse`."""
    return objective.removeprefix("-")


def lower_is_better(objective: str) -> bool:
    """Whether an objective is minimised."""
    if objective.startswith("-") or tables.is_cost(objective):
        return True
    row = tables.METRICS.get(objective)
    return row is not None and row.kind == "loss"
