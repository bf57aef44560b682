"""What floors that build no sentence tell a user: facts, which `nas_attn.words` says."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from nas_attn.errors import NasAttnWarning


@dataclass(frozen=True, slots=True)
class UntrainedAverage:
    """An average of weights is mostly of untrained ones when it is first scored."""

    ema: float
    # share of the untrained weights
    kept: float
    epochs: int


@dataclass(frozen=True, slots=True)
class OtherThreads:
    """A run goes on with another number of threads than it began with."""

    before: int
    now: int


@dataclass(frozen=True, slots=True)
class BeginsAnew:
    """A run cannot go on in its arithmetic, and begins again in this machine's."""

    # precisions
    before: str
    now: str
    # that bfloat16 is not there is why
    lacks_bfloat16: bool


@dataclass(frozen=True, slots=True)
class OtherArithmetic:
    """This machine cannot compute as the study does."""

    # precisions; equal: other parts of the arithmetic are not there
    agreed: str
    here: str


@dataclass(frozen=True, slots=True)
class ContradictoryImages:
    """A study whose images contradict each other goes on, as it began before this was checked."""

    study: str
    # what contradicts what
    contradiction: str


@dataclass(frozen=True, slots=True)
class Failure:
    """Something failed, and the study goes on without it."""

    kind: Literal["checkpoint_not_read", "checkpoint_not_saved", "weights_lost", "not_measured"]
    why: str


@dataclass(frozen=True, slots=True)
class NotCompared:
    """A model's outputs are not compared before and after attaching."""

    # its class
    model: str
    why: Literal["no_numbers", "two_runs_differ", "it_fails"]
    # if it fails
    error: str = ""


Note = (
    NotCompared
    | UntrainedAverage
    | OtherThreads
    | BeginsAnew
    | OtherArithmetic
    | ContradictoryImages
    | Failure
)


@dataclass(frozen=True, slots=True)
class Wording:
    """How notes are said, in one language."""

    name: str
    text: Callable[[], Callable[..., str]]
    """Loads what takes a `Note` and returns a sentence."""
    wait: Callable[[], Callable[..., str]]
    """Loads what takes a `waiting.WaitFact` and returns a sentence."""


WORDINGS: dict[str, Wording] = {}


def wording() -> Wording:
    """The language in which notes are said."""
    return WORDINGS["english"]


def warn(note: Note, *, stacklevel: int = 1) -> None:
    """Gives a `NasAttnWarning` that says a note. `stacklevel`: as in `warnings.warn`."""
    text = wording().text()(note)
    warnings.warn(text, NasAttnWarning, stacklevel=stacklevel + 1)
