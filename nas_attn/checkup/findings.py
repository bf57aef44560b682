"""What a check found: facts with numbers, which `nas_attn.words.checkup` says in a sentence."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from nas_attn.errors import first_line, shorten

State = Literal["ok", "note", "bad"]
# who goes on after a capture that fails: torch alone, or nas_attn, which puts the process right
FailingCase = Literal["torch", "mended"]
# letters of an error's message
MESSAGE_LETTERS = 200


@dataclass(frozen=True, slots=True)
class Raised:
    """An error ended the look."""

    # `ValueError: its message`
    error: str
    kind: Literal["raised"] = "raised"


@dataclass(frozen=True, slots=True)
class Versions:
    """What Python has to run with."""

    python: str
    torch: str
    cores: int
    # packages that nas_attn needs, and that are not installed
    missing: tuple[str, ...]
    kind: Literal["versions"] = "versions"


@dataclass(frozen=True, slots=True)
class NoGpu:
    """Torch sees no GPU."""

    # the CUDA version that torch is built for; None: it is built without
    built_for: str | None
    kind: Literal["no_gpu"] = "no_gpu"


@dataclass(frozen=True, slots=True)
class Gpu:
    """The GPU that torch sees."""

    name: str
    memory_gib: float
    cuda: str | None
    kind: Literal["gpu"] = "gpu"


@dataclass(frozen=True, slots=True)
class Precision:
    """What `precision = "auto"` takes on the GPU: bfloat16, or float32."""

    bfloat16: bool
    kind: Literal["precision"] = "precision"


@dataclass(frozen=True, slots=True)
class Mps:
    """Whether several workers can compute on the GPU at the same time."""

    installed: bool
    kind: Literal["mps"] = "mps"


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """The process of a case did not end in time."""

    seconds: float
    kind: Literal["no_answer"] = "no_answer"


@dataclass(frozen=True, slots=True)
class ProcessEnded:
    """The process of a case ended without an answer."""

    status: int
    # the last line that it printed; empty: none
    last_line: str
    kind: Literal["process_ended"] = "process_ended"


@dataclass(frozen=True, slots=True)
class FailedCapture:
    """What a process cannot do any more after a capture that must fail."""

    case: FailingCase
    # its version
    torch: str
    # whether it did fail
    failed: bool = True
    # operation -> its error
    errors: Mapping[str, str] = field(default_factory=dict)
    kind: Literal["failed_capture"] = "failed_capture"


@dataclass(frozen=True, slots=True)
class WaitNoticed:
    """Whether torch tells, before a capture, what waits for the GPU."""

    noticed: bool
    kind: Literal["wait_noticed"] = "wait_noticed"


@dataclass(frozen=True, slots=True)
class BesidePinning:
    """A capture while another thread pins memory."""

    mode: str
    # whether nas_attn captures in this mode
    used: bool
    # of the capture or of the thread; empty: none
    error: str
    kind: Literal["beside_pinning"] = "beside_pinning"


@dataclass(frozen=True, slots=True)
class NearFloat64:
    """A module computes what float64 computes: relative distances."""

    float32: float
    bfloat16: float
    kind: Literal["near_float64"] = "near_float64"


@dataclass(frozen=True, slots=True)
class FarFromFloat64:
    """A module computes something else."""

    dtype: Literal["float32", "bfloat16"]
    distance: float
    # distance that this dtype may have
    most: float
    kind: Literal["far_from_float64"] = "far_from_float64"


@dataclass(frozen=True, slots=True)
class WaitingModule:
    """A module waits for the GPU, so that its steps are not recorded."""

    # file and line
    place: str
    kind: Literal["waiting_module"] = "waiting_module"


@dataclass(frozen=True, slots=True)
class EpochTime:
    """How fast a training is."""

    epoch_s: float
    images_per_s: float
    kind: Literal["epoch_time"] = "epoch_time"


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """No step of a training was recorded, although it should have been."""

    # what the trainer logged; empty: nothing
    reason: str
    kind: Literal["unrecorded"] = "unrecorded"


@dataclass(frozen=True, slots=True)
class StepProfile:
    """What the device does in a step."""

    kernels: float
    device_ms: float
    kind: Literal["step_profile"] = "step_profile"


@dataclass(frozen=True, slots=True)
class CastTimes:
    """The casts of a step's weights, weight by weight and all at once, beside the step."""

    weights: int
    apart_us: float
    together_us: float
    step_us: float
    kind: Literal["cast_times"] = "cast_times"

    @property
    def saved_share(self) -> float:
        """The share of the step that casting all at once would save."""
        return max(0.0, self.apart_us - self.together_us) / self.step_us


@dataclass(frozen=True, slots=True)
class TwoCopies:
    """A latency, and how far two copies of one network are apart."""

    reference_ms: float
    # relative difference
    apart: float
    # whether it is small enough
    steady: bool
    kind: Literal["two_copies"] = "two_copies"


CheckedFact = Annotated[
    Raised
    | Versions
    | NoGpu
    | Gpu
    | Precision
    | Mps
    | NoAnswer
    | ProcessEnded
    | FailedCapture
    | WaitNoticed
    | BesidePinning
    | NearFloat64
    | FarFromFloat64
    | WaitingModule
    | EpochTime
    | Unrecorded
    | StepProfile
    | CastTimes
    | TwoCopies,
    Field(discriminator="kind"),
]


@dataclass(frozen=True, slots=True)
class Finding:
    """One result. `note`: nas_attn works, but not as well as it could."""

    part: str
    subject: str
    state: State
    fact: CheckedFact
    values: Mapping[str, Any] = field(default_factory=dict)
    """All plain values, by name with unit: `epoch_s`, `peak_mb`."""


def found_by(look: Callable[[], Finding], part: str, subject: str) -> Finding:
    """The finding of a look; any error is a bad one."""
    try:
        return look()
    except Exception as error:
        raised = Raised(error_line(error))
        return Finding(part, subject, "bad", raised, {"error": type(error).__name__})


def error_line(error: BaseException) -> str:
    """`ValueError: its message`, in one line."""
    return shorten(f"{type(error).__name__}: {first_line(error)}", MESSAGE_LETTERS)


def append_line(path: Path, value: Mapping[str, Any]) -> None:
    """Adds a line of JSON to a file; it is on the disk when this returns, so that nothing of a run
    that is cut short is lost.
    """
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(value) + "\n")
        file.flush()
        os.fsync(file.fileno())
