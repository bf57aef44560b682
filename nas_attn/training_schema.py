"""The schema of trainings: `[training]` and `[target]` of a recipe."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from nas_attn.errors import did_you_mean
from nas_attn.space_schema import Section
from nas_attn.training_presets import PRESETS

BATCHED: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "flip": {},
    "crop": {"padding": (0, 64)},
    "mixup": {"alpha": (0.0, 10.0)},
}
"""Augmentations of whole batches on the training device: name -> argument -> (above, at most)."""


class Named(BaseModel):
    """Something by its name in a library; all other keys are its arguments."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    name: str

    @property
    def arguments(self) -> dict[str, Any]:
        """All other keys."""
        return dict(self.model_extra or {})


class Schedule(Named):
    """A part of a learning rate's schedule: a class of torch.optim.lr_scheduler, over so many epochs."""

    epochs: float | None = Field(default=None, gt=0)
    """A whole number, or below 1 a share of the training; None: to the end, for the last part."""

    @field_validator("epochs")
    @classmethod
    def _whole(cls, epochs: float | None) -> float | None:
        if epochs is not None and epochs >= 1 and epochs % 1:
            raise ValueError(f"must be a whole number, or a share below 1, not {epochs}")
        return epochs


class Augment(Named):
    """One augmentation: `flip`, `crop` (padding), `mixup` (alpha), of whole batches on the training device; or a class of
    torchvision.transforms.v2 or a `package.module:function` that returns a transform, of each image."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        known = BATCHED.get(self.name)
        if known is None:
            if ":" not in self.name and not self.name[:1].isupper():
                known_names = f"{', '.join(BATCHED)}, or a class of torchvision.transforms.v2"
                raise ValueError(f"unknown augmentation '{self.name}': give {known_names}")
            return self
        if self.arguments.keys() != known.keys():
            wanted = f"needs {' and '.join(known)}" if known else "takes no arguments"
            raise ValueError(f"'{self.name}' {wanted}, not {', '.join(self.arguments) or 'none'}")
        for name, (low, high) in known.items():
            value = self.arguments[name]
            if isinstance(value, bool) or not isinstance(value, int | type(high)) or not low < value <= high:
                raise ValueError(f"{name} of '{self.name}' must be more than {low} and at most {high}, not {value!r}")
        return self


class TrainingSection(Section):
    """How a candidate is trained and scored."""

    start: Literal["scratch", "backbone", "pretrained"] = "backbone"
    """Candidates start from random weights, from a backbone that the study trains, or from your weights (`weights`)."""
    weights: str | None = None
    """For `pretrained`: a state_dict file (`.pt`, `.pth`, `.safetensors`, `.npz`), or `default` for the library's published weights."""
    init: Literal["auto", "paper", "identity"] = "auto"
    """Modules start in their published form or as the identity; `auto`: paper from scratch, else identity."""
    rungs: list[int] = Field(default_factory=lambda: [1, 3], min_length=1)
    """Epochs at which a candidate is scored and may be pruned, increasing."""
    backbone_epochs: int = Field(default=10, ge=1)
    """For `start = "backbone"`: epochs of each backbone."""
    backbones: int = Field(default=3, ge=1, le=64)
    """For `start = "backbone"`: number of backbones; the run with seed s starts from backbone s modulo this number."""
    batch_size: int = Field(default=128, ge=2)
    preset: str | None = None
    """Defaults from a published way to train: `cifar`, `fine-tune`, `timm-a3`, `torchvision-v2`."""
    optimizer: str = "SGD"
    """A class of torch.optim, or `package.module:Class`."""
    optimizer_arguments: dict[str, Any] | None = None
    """Its arguments beside rate and weight decay; left out: for SGD Nesterov momentum of 0.9, for AdamW betas of 0.9 and 0.99."""
    schedule: list[Schedule] = Field(default_factory=list)
    """Classes of torch.optim.lr_scheduler, one after the other, with their arguments, in epochs (`OneCycleLR`: in steps): `[{ name =
    "LinearLR", start_factor = 0.01, epochs = 5 }, { name = "CosineAnnealingLR" }]`. What depends on the length (`T_max`, `total_iters`)
    may be left out. Empty: one cycle per rung."""
    learning_rate: float = Field(default=0.1, gt=0)
    """Peak rate of the backbone's training and of training from scratch."""
    finetune_learning_rate: float | None = Field(default=None, gt=0)
    """Peak rate of candidates that start from trained weights; None: a fifth of `learning_rate`."""
    attention_learning_rate: float = Field(default=1.0, gt=0)
    """Factor on the learning rate of attention modules."""
    backbone_learning_rate: float = Field(default=1.0, ge=0)
    """Factor on the learning rate of the backbone in candidates; 0 freezes it."""
    weight_decay: float = Field(default=5e-4, ge=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    ema: float = Field(default=0.9, ge=0, lt=1)
    """Share of the averaged weights kept per hundredth of an epoch; 0 scores the last weights."""
    clip_norm: float | None = Field(default=None, gt=0)
    """Largest gradient norm; None: no clipping."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """`auto`: bfloat16 autocast on CUDA and on CPUs with instructions for it, else float32."""
    execution: Literal["auto", "eager", "compile", "cuda-graph"] = "auto"
    """How a training step runs: as it is, with torch.compile, or recorded once as a CUDA graph and replayed.
    `auto`: a CUDA graph on CUDA, else as it is; `compile` pays only in long trainings."""
    augment: list[Augment] = Field(default_factory=list)
    """What changes images while training, in this order: `{ name = "flip" }`, `{ name = "crop", padding = 4 }`, `{ name = "mixup", alpha
    = 0.2 }`, or a class of torchvision.transforms.v2 with its arguments, `{ name = "RandomResizedCrop", size = 224 }`. Masks and
    boxes follow."""
    transforms: str | None = None
    """`package.module:function` that returns a transform of your own; it follows `augment`."""
    seeds: int = Field(default=1, ge=1, le=64)
    """Runs with different seeds per candidate."""
    evaluator: str | None = None
    """`package.module:function` that trains and scores a candidate instead of the built-in trainer."""

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, table: Any) -> Any:
        preset = table.get("preset") if isinstance(table, dict) else None
        if preset is None:
            return table
        if preset not in PRESETS:
            raise ValueError(f"unknown preset '{preset}': {did_you_mean(str(preset), PRESETS)}")
        return {**PRESETS[preset], **table}

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
    def augmentation(self) -> list[Augment]:
        """All that changes images while training: `augment`, then `transforms`."""
        return [*self.augment, *([Augment(name=self.transforms)] if self.transforms else [])]

    @property
    def resolved_init(self) -> Literal["paper", "identity"]:
        """The form that is trained, timed, exported and keyed."""
        if self.init == "auto":
            return "paper" if self.start == "scratch" else "identity"
        return self.init

    @property
    def said(self) -> str:
        """How a candidate is trained to the last rung, for a sentence about what came out."""
        epochs = f"after {self.rungs[-1]} epoch{'s' if self.rungs[-1] > 1 else ''}"
        start = {
            "scratch": "from random weights",
            "backbone": "from this study's backbones" if self.backbones > 1 else "from this study's backbone",
            "pretrained": "from the given weights",
        }[self.start]
        return f"{epochs} {start}"


class TargetSection(Section):
    """How the network will finally be trained: by `validate` and `retrain`.

    The network, its modules' form included, is the one that was searched. Keys that are not given are as in `[training]`.
    """

    start: Literal["scratch", "backbone", "pretrained"] | None = None
    """Random weights; a new backbone for each block, trained like the study's; your weights; None: as in the search."""
    weights: str | None = None
    """For `pretrained`; None: those of `[training]`."""
    epochs: int | None = Field(default=None, ge=1)
    """None: `backbone_epochs`, and at least three times the last rung."""
    seeds: int = Field(default=8, ge=2, le=256)
    """Blocks of a validation, each with a new seed, and for `start = "backbone"` with a new backbone."""
    learning_rate: float | None = Field(default=None, gt=0)
    """Peak rate; None: that of `[training]` for this start."""
    weight_decay: float | None = Field(default=None, ge=0)
    """As in `[training]` unless given, here and below."""
    label_smoothing: float | None = Field(default=None, ge=0, lt=1)
    batch_size: int | None = Field(default=None, ge=2)
    augment: list[Augment] | None = None
    """Replaces `augment` and `transforms` of `[training]`."""
