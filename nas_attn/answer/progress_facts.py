"""How far a study is: counts, the best value so far, the phase, the time left."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from nas_attn.recipe.purposes import BACKBONE, LENGTH


class Phase(Enum):
    """What happens before or after the candidates."""

    LONGER = auto()
    """The bare network is trained for more epochs."""
    CONFIRMING = auto()
    """Further seeds and rounds for the candidates that matter."""
    TESTING = auto()
    RETRAINING = auto()
    NARROWING = auto()
    """The front's latencies are measured precisely."""


@dataclass(frozen=True, slots=True)
class PhaseProgress:
    """A phase, with its runs."""

    phase: Phase
    ended: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class EndedRun:
    """A run that has ended, on a worker."""

    placement: str
    seed: int
    state: str
    """`done`, or how it ended otherwise, as in the queue."""
    reason: str

    @property
    def done(self) -> bool:
        return self.state == "done"


@dataclass(frozen=True, slots=True)
class WorkersRun:
    """A run that a worker has taken."""

    purpose: str
    key: str
    placement: str
    seed: int
    protocol: str
    backbone: int
    trial: int | None = None
    """Of its candidate; None: it has none, or is no run of the search."""
    backbones: int = 0
    """How many its protocol trains, if it is one of them."""

    @property
    def placed(self) -> bool:
        """Whether its placement alone tells it from the study's other runs of this kind."""
        return self.trial is None and self.purpose not in (BACKBONE, LENGTH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The progress of a study."""

    trials: int
    """Planned in all."""
    scored: int
    pruned: int
    infeasible: int
    failed: int
    running: int
    objective: str
    """The first one that needs training, else the first."""
    best: float | None = None
    """Its best value so far; None if there is none."""
    left_s: float | None = None
    """Until everything is done; None if too few candidates are finished, or none is open."""
    phase: PhaseProgress | None = None
    """What happens besides the candidates."""

    @property
    def finished(self) -> int:
        return self.scored + self.pruned + self.infeasible + self.failed
