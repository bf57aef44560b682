"""Records of the store, and how rows become records: by the types of their fields."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter

from nas_attn.recipe.purposes import SEARCH
from nas_attn.storage.records import StoredPlacement

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on something and to write about it, until another worker takes it over."""

    # the piece of work, `run/12`
    resource: str
    # who works on it: host, process and a random part
    owner: str
    # grows with every holder, to tell the present one from its predecessors
    number: int


@dataclass(frozen=True, slots=True)
class Run:
    """One training of one network. Equal identities are equal computations."""

    # of the network; `backbone` for one of the study's own
    key: str
    # explicit
    placement: StoredPlacement
    seed: int
    # number of the trained backbone that it starts from; 0: none
    backbone: int = 0
    # training protocol: `search`, `target`, or another one of the study
    protocol: str = SEARCH
    # one of PURPOSES
    purpose: str = SEARCH
    # higher ones are taken first
    priority: int = 0
    # of a confirmation round: its number, from 1; of a validation: its number
    round: int = 0

    @property
    def identity(self) -> tuple[str, str, int, int]:
        return self.key, self.protocol, self.seed, self.backbone

    @property
    def files(self) -> str:
        """Name of its checkpoints."""
        return f"{self.protocol}:{self.key}:{self.seed}:{self.backbone}"

    @property
    def folder(self) -> str:
        """Name of a folder for an evaluator's own files, within its study."""
        if self.protocol == SEARCH:
            return f"{self.key}-{self.seed}"
        return self.files.replace(":", "-")


@dataclass(frozen=True, slots=True)
class RunRow:
    id: int
    run: Run
    # `waiting` (also while a worker has its lease), `done`, `pruned`, `failed` or `withdrawn`
    state: str
    reason: str
    # number of times that a worker took it without handing it back
    attempts: int
    # Unix seconds by the database's clock
    finished_at: float | None = None

    @property
    def resource(self) -> str:
        return f"run/{self.id}"


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker of a study. Seconds are by the database's clock."""

    owner: str
    device: str
    doing: str
    # what it waits for; else empty
    waiting: str
    # seconds since it came
    here_s: float
    # seconds since it began its current task
    at_it_s: float
    # seconds since its last sign of life
    silent_s: float


@dataclass(frozen=True, slots=True)
class StudySummary:
    name: str
    # Unix seconds by the database's clock
    created_at: float
    # device that its latencies are measured on
    fingerprint: str | None
    # state -> number of candidates in it
    candidates: Mapping[str, int]
    # that are here
    workers: int
    # whether Optuna's part of it is not there: deleted by Optuna, or never made
    lost: bool


def read_all(kind: type[T], rows: Iterable[Any]) -> list[T]:
    """Records of rows; other columns are ignored.

    Args:
        kind: of the records: a class of them, or a tuple's type.
        rows: mappings for a class, else sequences.

    Raises:
        ValidationError: a value of the wrong type or form, which SQLite allows.
    """
    plain = [dict(row) if isinstance(row, Mapping) else row for row in rows]
    records: list[T] = _adapter(kind).validate_python(plain)  # type: ignore[arg-type]
    return records


@cache
def _adapter(kind: Hashable) -> TypeAdapter[Any]:
    return TypeAdapter(list[kind])  # type: ignore[valid-type]
