"""The sections of a recipe that say how networks are trained: in the search, and at the target."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from nas_attn.errors import did_you_mean, several
from nas_attn.recipe.tables import PRESETS
from nas_attn.space.schema import Section

# of a search that trains as the target, while this is not found yet
OPEN_RUNGS = [10]


BATCHED_TRANSFORMS: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "flip": {},
    "crop": {"padding": (0, 64)},
    "mixup": {"alpha": (0.0, 10.0)},
    "repeat": {"times": (1, 64)},
}
"""Augmentations of whole batches on the training device: name -> argument -> (above, at most).
`repeat` changes the order of an epoch.
"""


class Named(BaseModel):
    """A class or function of a library, by its name; all other keys are its arguments."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    name: str

    @model_validator(mode="before")
    @classmethod
    def _by_name_alone(cls, entry: Any) -> Any:
        if isinstance(entry, str):
            return {"name": entry}
        return entry

    @property
    def arguments(self) -> dict[str, Any]:
        """All other keys."""
        return dict(self.model_extra or {})


class Schedule(Named):
    """A part of the learning rate's schedule: a class of torch.optim.lr_scheduler, and how long it
    lasts.
    """

    epochs: float | None = Field(default=None, gt=0)
    """Number of epochs, or below 1 a share of the training; None: to the end (only in the last
    part).
    """

    @field_validator("epochs")
    @classmethod
    def _whole(cls, epochs: float | None) -> float | None:
        if epochs is not None and epochs >= 1 and epochs % 1:
            raise ValueError(f"must be a whole number, or a share below 1, not {epochs}")
        return epochs


class Augment(Named):
    """One augmentation: `flip`, `crop` (padding), `mixup` (alpha), of whole batches on the training
    device; `repeat` (times); or a class of torchvision.transforms.v2 or a `package.module:function`
    that returns a transform, of each image.
    """

    @property
    def names(self) -> set[str]:
        """Its own name, and those of the augmentations that it chooses among."""
        names = {self.name}
        inner = self.arguments.get("transforms")
        for transform in inner if isinstance(inner, list) else ():
            name = transform.get("name") if isinstance(transform, dict) else transform
            if isinstance(name, str):
                names.add(name)
        return names

    @model_validator(mode="after")
    def _known(self) -> Self:
        arguments = BATCHED_TRANSFORMS.get(self.name)
        if arguments is None:
            if ":" not in self.name and not self.name[:1].isupper():
                known_names = (
                    f"{', '.join(BATCHED_TRANSFORMS)}, or a class of torchvision.transforms.v2"
                )
                raise ValueError(f"unknown augmentation '{self.name}': give {known_names}")
            return self
        if self.arguments.keys() != arguments.keys():
            wanted = "takes no arguments"
            if arguments:
                wanted = f"needs {' and '.join(arguments)}"
            raise ValueError(f"'{self.name}' {wanted}, not {', '.join(self.arguments) or 'none'}")
        for name, (low, high) in arguments.items():
            value = self.arguments[name]
            if (
                isinstance(value, bool)
                or not isinstance(value, int | type(high))
                or not low < value <= high
            ):
                raise ValueError(
                    f"{name} of '{self.name}' must be more than {low} and at most {high}, not"
                    f" {value!r}"
                )
        return self


class TrainingSection(Section):
    """How a candidate is trained and scored."""

    start: Literal["scratch", "backbone", "pretrained"] = "scratch"
    """What the search's candidates start from: random weights, a backbone that the study trains, or
    your weights (`weights`). Left
    out: as the target.
    """
    weights: str | None = None
    """For `pretrained`: a state_dict file (`.pt`, `.pth`, `.safetensors`), or `default` for the
    library's published weights. Left out: those of the target.
    """
    init: Literal["paper", "identity"] = "identity"
    """Modules start in their published form or as the identity; in trained weights, the published
    form costs accuracy (`docs/benchmarks/start.md`).
    """
    rungs: list[int] = Field(default_factory=lambda: list(OPEN_RUNGS), min_length=1)
    """Epochs at which a candidate is scored and may be pruned, increasing. Left out: those of the
    target, or for `backbone` [1, 3].
    """
    backbone_epochs: int = Field(default=10, ge=1)
    """For `start = "backbone"`: epochs of each backbone."""
    backbones: int = Field(default=3, ge=1, le=64)
    """Number of seeds; each gets six or more candidates, and the bare backbone runs on all. With
    `start = "backbone"`: its backbones.
    """
    batch_size: int = Field(default=128, ge=2)
    """Images of each training batch; an epoch's last one is filled from its beginning."""
    accumulate: int = Field(default=1, ge=1, le=65536)
    """Batches whose gradients one step of the optimizer adds up: it sees `accumulate` times
    `batch_size` images.
    """
    loss: Named | None = None
    """A loss of torch.nn or `package.module:Class`, with its arguments: `{ name =
    "CrossEntropyLoss", label_smoothing = 0.1 }`, `"BCEWithLogitsLoss"`; None: cross-entropy. Scores
    are always the log-loss.
    """
    preset: str | None = None
    """Defaults from a published way to train; the recipe's own keys come first. `fine-tune` is
    ours, and taken by itself from trained weights, unless the recipe names another preset, an
    optimizer or a `learning_rate`. What differs from the sources of the others: biases and norms
    have no weight decay, and photographs are cropped from the middle square of `data.size`. `cifar`
    (He et al. 2015): nothing else.
    `layer-norm` (ConvNeXt, Liu et al. 2022): only its optimizer, AdamW, and the weight decay.
    `timm-a3` (Wightman et al. 2021): trains at `data.size`, not at 160 pixels, unless
    RandomResizedCrop has `size = 160`; needs timm. `torchvision-v2` (ResNet-50's IMAGENET1K_V2):
    not at 176 pixels unless RandomResizedCrop has `size = 176`, and `ema` averages over a shorter
    time (its own is 0.9996).
    """
    optimizer: str = "SGD"
    """A class of torch.optim, or `package.module:Class`."""
    optimizer_arguments: dict[str, Any] | None = None
    """Its arguments beside rate and weight decay; left out: for SGD Nesterov momentum of 0.9, for
    AdamW betas of 0.9 and 0.99.
    """
    schedule: list[Schedule] = Field(default_factory=list)
    """Classes of torch.optim.lr_scheduler, one after the other, with their arguments, in epochs
    (`OneCycleLR`: in steps): `[{ name = "LinearLR", start_factor = 0.01, epochs = 5 }, { name =
    "CosineAnnealingLR" }]`. What depends on the length (`T_max`, `total_iters`) may be left out.
    Empty: one cycle per rung.
    """
    learning_rate: float = Field(default=0.1, gt=0)
    """Peak rate of the backbone's training and of training from scratch."""
    finetune_learning_rate: float | None = Field(default=None, gt=0)
    """Peak rate of candidates that start from trained weights; None: a fifth of `learning_rate`."""
    rate_factor: float = Field(default=1.0, gt=0, exclude_if=lambda factor: factor == 1)
    """Times these rates. Written by a study that has found a better one
    (`target.learning_rate = "auto"`).
    """
    attention_learning_rate: float = Field(default=1.0, gt=0)
    """Factor on the learning rate of attention modules."""
    backbone_learning_rate: float = Field(default=1.0, ge=0)
    """Factor on the learning rate of the backbone in candidates; 0 freezes it."""
    head_learning_rate: Annotated[float, Field(gt=0)] | Literal["auto"] = 1.0
    """Factor on the learning rate of the head in candidates that start from trained weights: of
    every layer whose size depends on the number of classes. `auto`: 8,000 over the number of its
    inputs, at most 125. So answers learn as fast in every network.
    """
    weight_decay: float = Field(default=5e-4, ge=0)
    ema: float = Field(default=0.9, ge=0, lt=1)
    """Decay of the weights' exponential moving average per hundredth of an epoch; 0: the last
    weights are scored.
    """
    clip_norm: float | None = Field(default=None, gt=0)
    """Largest gradient norm; None: no clipping."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """`auto`: bfloat16 autocast on GPUs that compute in it and on CPUs known to be faster in it,
    else float32; decided once for a study and a kind of device.
    """
    memory_format: Literal["auto", "channels_last", "contiguous"] = Field(
        default="auto", exclude_if=lambda order: order == "auto"
    )
    """Order of images and weights in memory; `auto`: channels last."""
    threads: int | None = Field(
        default=None, ge=1, le=1024, exclude_if=lambda number: number is None
    )
    """CPU threads of each worker; None: its share of the cores."""
    execution: Literal["auto", "eager", "compile", "cuda-graph"] = "auto"
    """How a training step runs: as it is, with torch.compile, or recorded once as a CUDA graph and
    replayed.
    `auto`: a CUDA graph on CUDA, else as it is; `compile` pays only in long trainings.
    """
    augment: list[Augment] = Field(default_factory=list)
    """What changes images while training, in this order: `{ name = "flip" }`, `{ name = "crop",
    padding = 4 }`, `{ name = "mixup", alpha = 0.2 }`, or a class of torchvision.transforms.v2 with
    its arguments, `{ name = "RandomResizedCrop", size = 224 }`. Masks and boxes follow. `{ name =
    "repeat", times = 3 }`: an epoch takes a third of the images, each three times in a batch
    (repeated augmentation).
    """
    transforms: str | None = None
    """`package.module:function` that returns a transform of your own; it follows `augment`."""
    seeds: int = Field(default=1, ge=1, le=64)
    """Runs with different seeds per candidate."""
    evaluator: str | None = None
    """`package.module:function` that trains and scores a candidate instead of the built-in
    trainer.
    """

    @model_validator(mode="before")
    @classmethod
    def _with_usual(cls, table: Any) -> Any:
        """With the rungs of a start from a backbone, and the keys of a preset."""
        if isinstance(table, dict) and "layer_decay" in table:
            # what studies kept that were begun while there was such a key, and none for the head
            table = {"head_learning_rate": 1.0, **table}
            decay = table.pop("layer_decay")
            if decay != 1:
                raise ValueError(
                    f"layer_decay = {decay} is gone: only the version that has begun a study with"
                    " it can go on; in a new one give backbone_learning_rate"
                )
        if isinstance(table, dict) and table.get("start") == "backbone":
            table = {"rungs": [1, 3], **table}
        preset = table.get("preset") if isinstance(table, dict) else None
        if preset is None:
            return table
        if preset not in PRESETS:
            raise ValueError(f"unknown preset '{preset}': {did_you_mean(str(preset), PRESETS)}")
        return {**PRESETS[preset], **table}

    @field_validator("transforms")
    @classmethod
    def _a_function(cls, transforms: str | None) -> str | None:
        if transforms is not None and ":" not in transforms:
            raise ValueError(f"must be package.module:function, not '{transforms}'")
        return transforms

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
    def peak_rate(self) -> float:
        """The peak of a candidate's learning rate, which depends on its start."""
        rate = self.learning_rate
        if self.start != "scratch":
            rate = self.finetune_learning_rate or self.learning_rate / 5
        return self.rate_factor * rate

    @property
    def last_rung(self) -> int:
        """The rung at which a candidate is scored to the end."""
        return len(self.rungs) - 1

    @property
    def step_size(self) -> int:
        """Images of one step of the optimizer."""
        return self.batch_size * self.accumulate

    @property
    def augmentation(self) -> list[Augment]:
        """All that changes images while training: `augment`, then `transforms`."""
        return [*self.augment, *([Augment(name=self.transforms)] if self.transforms else [])]

    @property
    def said(self) -> str:
        """How a candidate is trained to the last rung, for a sentence about results."""
        epochs = f"after {several(self.rungs[-1], 'epoch')}"
        start = {
            "scratch": "from random weights",
            "backbone": (
                "from trained backbones of this study"
                if self.backbones > 1
                else "from this study's trained backbone"
            ),
            "pretrained": "from the given weights",
        }[self.start]
        return f"{epochs} {start}"


class TargetSection(Section):
    """How the network will finally be trained: by `test` and `retrain`, and by the search
    unless `[training]` says otherwise.

    The network, its modules' form included, is the one that was searched. Keys that are not given
    are as in `[training]`.
    """

    start: Literal["scratch", "pretrained"] = "scratch"
    """Random weights, or your weights (`weights`), into which attention is inserted. Left out:
    `pretrained` where weights are named.
    """
    weights: str | None = None
    """For `pretrained`: a file, or `default` for the library's published weights; left out: those
    of `[training]`.
    """
    epochs: Annotated[int, Field(ge=1)] | Literal["auto"] | None = None
    """`auto`: as long as the bare backbone needs. The study finds this first: it trains it for n,
    2n, 4n … epochs until twice as long is not clearly better (accuracy or loss). None: the search's
    last rung; or, if the search starts differently, three times that and at least
    `backbone_epochs`. Without `training.rungs` and an evaluator of one's own: `auto`.
    """
    # studies from before it know their recipe again by its text
    freeze: Literal["backbone"] | None = Field(default=None, exclude_if=lambda part: part is None)
    """`backbone`: only attention and the head train; all else keeps the weights it starts from, and
    its norms their statistics. It is `training.backbone_learning_rate = 0` of the target, and of
    the search unless `[training]` says otherwise. None: all trains.
    """
    found: bool = False
    """Written by a study: whether it found `epochs` itself."""
    seeds: int = Field(default=8, ge=2, le=256)
    """Blocks of a test, each with a new seed."""
    learning_rate: Annotated[float, Field(gt=0)] | Literal["auto"] | None = None
    """Peak rate; None: that of `[training]` for this start. `auto`: a third, one or three times the
    usual one. Where it costs less than a tenth of the search, the study first trains the bare
    backbone at all three, and takes another than the usual one if it is clearly better. Without a
    rate, a preset and an evaluator of one's own, `auto` where `epochs` is.
    """
    weight_decay: float | None = Field(default=None, ge=0)
    """As in `[training]` unless given, like the next one."""
    batch_size: int | None = Field(default=None, ge=2)
    augment: list[Augment] | None = None
    """Replaces `augment` and `transforms` of `[training]`."""
