"""What a study stores: scores, latency sessions, candidates, arithmetic."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, Literal

from pydantic import Field, Json, PlainValidator

from nas_attn.attention.choice import Knob
from nas_attn.recipe.purposes import SEARCH
from nas_attn.recipe.tables import Costs
from nas_attn.space.notation import parse
from nas_attn.space.placement import BARE_NAME, Placement


def _parsed(text: object) -> Placement:
    if not isinstance(text, str):
        raise ValueError(f"a placement is {type(text).__name__}, not text")
    return parse(text)


StoredPlacement = Annotated[Placement, PlainValidator(_parsed)]
"""A placement that a row has in notation."""

Batches = Literal["filled", "uneven", "own"]
FILLED: Batches = "filled"
"""Training batches: all of `batch_size` images, the last one filled from the epoch's beginning. The
others are of studies from before.
"""


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """How a training computes, apart from the order of sums. It is decided once for a study and a
    kind of device. A score has that of its run: `execution` is `eager` where no step could be
    recorded. Only results of equal arithmetic, by `comparable`, are compared as pairs.
    """

    # bfloat16: by autocast
    precision: Literal["float32", "bfloat16"]
    memory_format: Literal["channels_last", "contiguous"]
    execution: Literal["eager", "compile", "cuda-graph"]
    # float32 operations that round to TF32
    tf32: Literal["none", "convolutions", "matmul", "all"]
    # whether one kernel steps all parameters
    fused: bool
    batches: Batches

    @property
    def comparable(self) -> Arithmetic:
        """The same for all whose results are compared: a CUDA graph replays the operations of an
        eager step.
        """
        return replace(self, execution="eager") if self.execution == "cuda-graph" else self

    @property
    def text(self) -> str:
        """As JSON. Equal arithmetics have equal texts."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_text(cls, text: str) -> Arithmetic:
        """From `text`. ValueError, TypeError: it is not such a text."""
        return cls(**json.loads(text))


ASIDE = frozenset({"train_loss_sum", "loading_share", "peak_bytes", "images_per_s"})
"""Metrics of a score that are not results."""


@dataclass(frozen=True, slots=True)
class Score:
    """One run's result at one rung."""

    seed: int
    # Index into the recipe's rungs
    rung: int
    # Epochs trained so far
    epochs: int
    # `accuracy` (0 to 1), `loss` (mean, nats), an evaluator's own; those of ASIDE
    metrics: Json[Mapping[str, float]]
    # Per validation image, right or wrong, as bits (numpy.packbits order)
    correct: bytes | None = None
    # Validation images behind `correct`
    examples: int = 0
    # Seconds of training and scoring since the previous rung
    wall_s: float = 0.0
    # Seconds the device worked on it (CPU: process time of the training threads)
    device_s: float = 0.0
    # Seconds in which the training waited for images
    waited_s: float = 0.0
    # Results per image and class: `answer.per_image.Answers`
    answers: bytes | None = None
    # Most memory while training: of the GPU's tensors, on a CPU of the process
    peak_bytes: float | None = None
    # In training, without scoring; None without an uninterrupted epoch
    images_per_s: float | None = None
    # How it was computed (`Arithmetic.text`). None: not recorded, as in studies from before, or
    # computed by an evaluator
    arithmetic: str | None = None

    @property
    def kept(self) -> Score:
        """The score as a study keeps it, with waiting time, memory and speed among its metrics."""
        share = min(1.0, self.waited_s / self.wall_s) if self.wall_s else 0.0
        spent = {
            # an evaluator's waiting is not known
            "loading_share": share if self.waited_s else None,
            "peak_bytes": self.peak_bytes,
            "images_per_s": self.images_per_s,
        }
        return replace(
            self,
            metrics={**self.metrics, **{name: v for name, v in spent.items() if v is not None}},
        )

    def as_plain(self) -> dict[str, Any]:
        """The score in JSON's types."""
        packed = {
            name: None if (blob := getattr(self, name)) is None else base64.b64encode(blob).decode()
            for name in _BLOBS
        }
        return {**asdict(self), "metrics": dict(self.metrics), **packed}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Score:
        """The score from `as_plain`'s output."""
        return cls(
            **{
                **plain,
                **{
                    name: base64.b64decode(plain[name])
                    for name in _BLOBS
                    if plain.get(name) is not None
                },
            }
        )


# Fields of a score that are bytes
_BLOBS = ("correct", "answers")


@dataclass(frozen=True, slots=True)
class StoredScore:
    """A score as the study's database holds it."""

    # The candidate's key, or the backbone's
    key: str
    # One of PURPOSES: what the run was made for
    purpose: str
    score: Score
    protocol: str = SEARCH
    # Number of the backbone that it started from
    backbone: int = 0
    # The worker that wrote it; None: not recorded, or never written
    owner: str | None = None
    # When it was written, in Unix seconds by the database's clock
    recorded_at: float | None = None


@dataclass(frozen=True, slots=True)
class SplitReading:
    """A reading of the test split."""

    # Unix seconds by the database's clock
    read_at: float
    reason: str


@dataclass(frozen=True, slots=True)
class EpochPoint:
    """One point of a training's curve."""

    # Trained so far
    epochs: int
    # Mean training loss over the last epoch's images, as augmented, by `training.loss`
    train_loss: float
    # Of the averaged weights on the validation split
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The machine and software that a latency belongs to."""

    # `cpu`, `cuda`, or `command` if a user's command measures elsewhere
    device: str
    # CPU or GPU model, or the command
    name: str
    # (name, value), sorted: driver, runtime and library versions, threads, limits
    details: tuple[tuple[str, str], ...]

    @property
    def id(self) -> str:
        """Short text that is equal for machines whose latencies may be pooled."""
        import hashlib

        text = repr((self.device, self.name, self.details))
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class SessionSample:
    """One candidate's part in one latency session."""

    key: str
    # Median over rounds of log(time / geometric mean of the bare backbone's two copies), study's
    # clock
    log_ratio: float
    # Median of the study's clock, milliseconds a call
    candidate_ms: float
    # The same on the wall clock
    wall_log_ratio: float
    wall_ms: float
    calls: int


# Key of a note on processes that used the device during a session
BESIDE = "beside"


@dataclass(frozen=True, slots=True)
class Session:
    """One short latency session: candidates, the bare backbone and its second copy, in random
    turns.
    """

    fingerprint: Fingerprint
    # Batch, input size, dtype, memory format, threads, mode, clock
    conditions: Mapping[str, Knob | None]
    # Unix seconds
    started_at: float
    duration_s: float
    reference_ms: float
    # A/A check: second copy of the bare backbone over the first
    control_log_ratio: float
    samples: tuple[SessionSample, ...]
    # What else ran on the device meanwhile
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Latency:
    """An estimate: ratio to the bare backbone, with its 95 % interval."""

    ratio: float
    low: float
    high: float
    # The study's time for the bare backbone; milliseconds = ratio x this
    reference_ms: float
    # Number of sessions; 0 if the additive model predicted it
    sessions: int
    # False if the additive model predicted it
    measured: bool = True

    @property
    def ms(self) -> float:
        return self.ratio * self.reference_ms

    @property
    def half_width(self) -> float:
        """Half the 95 % interval as a share of the ratio: 0.02 for ±2 %."""
        return math.sqrt(self.high / self.low) - 1


@dataclass(frozen=True, slots=True)
class CandidateRow:
    """A candidate's row in the study's database."""

    key: str
    # Explicit
    placement: StoredPlacement
    # Optuna's trial number
    trial: int
    # `running`, `scored`, `pruned`, `infeasible` or `failed`
    state: str
    # Name of the baseline (`BaselineName`), None for a searched one
    baseline: str | None
    reason: str
    cost: Annotated[Json[Costs] | None, Field(validation_alias="costs")]
    # Unix seconds, by the database's clock
    created_at: float
    # Likewise; None while it runs
    finished_at: float | None = None

    @property
    def is_bare(self) -> bool:
        """Whether it is the bare backbone."""
        return self.baseline == BARE_NAME
