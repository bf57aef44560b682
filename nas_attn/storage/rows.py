"""What the store hands out, and the way between rows and records."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from sqlalchemy import Row

from nas_attn.records import CandidateRow, Cost, Fingerprint, Score, Session, SessionSample

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on something and to write about it, until another takes it over."""

    resource: str
    """What is worked on, `trial/12`."""
    owner: str
    """Who works on it: host, process and a random part."""
    number: int
    """Grows with every holder of this resource: tells the present one from its predecessors."""
    ttl_s: float
    """Seconds that it lasts from the last renewal."""
    expires_at: float
    """Unix seconds by the database's clock; from then on others may take it."""


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """A lease as everyone sees it."""

    resource: str
    owner: str
    number: int
    expires_at: float
    """Unix seconds by the database's clock."""
    state: str
    """`held`, `expired` (its holder has died or hangs) or `released`. On SQLite one expires once this process has seen it
    unchanged for as long as it lasts."""


CURVES = "curve/"
"""Prefix of the study's attributes that hold curves of trainings, by the name of the run's files."""
LABELS = "labels/"
"""Prefix of the study's attributes that hold the labels behind results per image, by way of training."""
SEARCH = "search"
"""The way of training that a study searches with: the recipe's `[training]`."""


@dataclass(frozen=True, slots=True)
class Run:
    """One training of one network: what is the same here is the same computation."""

    key: str
    """Of the network; `backbone` for one of the study's own."""
    placement: str
    """Explicit notation."""
    seed: int
    backbone: int = 0
    """Number of the trained backbone that it starts from; 0 where it starts from none."""
    way: str = SEARCH
    """How it is trained: `search`, `target`, or another that the study keeps."""
    purpose: str = SEARCH
    """One of PURPOSES: what it is wanted for."""
    priority: int = 0
    """Those with a higher one are taken first."""

    @property
    def identity(self) -> tuple[str, str, int, int]:
        """(key, way, seed, backbone)."""
        return self.key, self.way, self.seed, self.backbone

    @property
    def files(self) -> str:
        """Name of its checkpoints."""
        return f"{self.way}:{self.key}:{self.seed}:{self.backbone}"

    @property
    def folder(self) -> str:
        """Name of a folder for an evaluator's own files."""
        return f"{self.key}-{self.seed}" if self.way == SEARCH else self.files.replace(":", "-")


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run in the queue."""

    id: int
    run: Run
    state: str
    """`waiting`, `done`, `pruned`, `failed` or `withdrawn`; who holds a waiting one's lease is at it."""
    reason: str
    attempts: int
    """Times that a worker took it and did not hand it back."""

    @property
    def resource(self) -> str:
        """Name of its lease."""
        return f"run/{self.id}"


@dataclass(frozen=True, slots=True)
class StoredScore:
    """A score and what it belongs to."""

    key: str
    """The candidate's key, or the backbone's."""
    purpose: str
    """One of PURPOSES: what the run was made for."""
    score: Score
    way: str = SEARCH
    """How it was trained."""
    backbone: int = 0
    """Number of the backbone that it started from."""


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """Where a run's checkpoint lies, and how to tell that it is whole."""

    id: int
    run: str
    artifact: str
    """Name in the artifact store."""
    sha256: str
    size: int
    """Bytes."""
    epochs: int
    """Epochs trained so far."""
    created_at: float
    """Unix seconds by the database's clock."""


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker of a study. Seconds are by the database's clock."""

    owner: str
    """As in its leases."""
    device: str
    doing: str
    """What it is at."""
    waiting: str
    """What it has said that it waits for; empty where it does not."""
    here_s: float
    """Seconds since it came."""
    at_it_s: float
    """Seconds since it began what it is at."""
    silent_s: float
    """Seconds since its last sign of life, a renewal of a lease included."""


@dataclass(frozen=True, slots=True)
class StudySummary:
    """A study in a list of studies."""

    name: str
    created_at: float
    """Unix seconds by the database's clock."""
    fingerprint: str | None
    """Device that its latencies are measured on."""
    candidates: Mapping[str, int]
    """State -> number of candidates in it."""


@dataclass(frozen=True, slots=True)
class SplitReading:
    """One use of the test split."""

    read_at: float
    """Unix seconds by the database's clock."""
    reason: str


def read_as(kind: type[T], **values: Any) -> T:
    """A record of values from the database, which are of the types that it says: SQLite keeps whatever is put in.

    Raises:
        ValueError: they are not.
    """
    try:
        checked = _form(kind).model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        what = ".".join(map(str, first["loc"]))
        raise ValueError(f"{kind.__name__}.{what}: {first['msg']}") from None
    return kind(**{name: getattr(checked, name) for name in values})


_forms: dict[type, type[BaseModel]] = {}


def _form(kind: type) -> type[BaseModel]:
    """Checks the fields of a record: a strict model would want the record itself."""
    if kind not in _forms:
        hints = get_type_hints(kind)
        defaults = {
            f.name: ... if f.default is MISSING and f.default_factory is MISSING else None for f in fields(kind)
        }
        shape: dict[str, Any] = {name: (hints[name], default) for name, default in defaults.items()}
        _forms[kind] = create_model(kind.__name__, __config__=ConfigDict(extra="forbid", strict=True), **shape)
    return _forms[kind]


def to_candidate(row: Row[Any]) -> CandidateRow:
    """A row of `nas_candidate`."""
    cost = None
    if row.parameters is not None:
        cost = read_as(Cost, parameters=row.parameters, macs=row.macs, activation_bytes=row.activation_bytes)
    return read_as(
        CandidateRow,
        key=row.key,
        placement=row.placement,
        trial=row.trial,
        state=row.state,
        baseline=row.baseline,
        reason=row.reason,
        cost=cost,
        values=None if row.objective_values is None else tuple(json.loads(row.objective_values)),
        told=row.told,
        created_at=row.created_at,
        finished_at=row.finished_at,
    )


def from_score(score: Score) -> dict[str, Any]:
    """Columns of `nas_score`."""
    return {
        "seed": score.seed,
        "rung": score.rung,
        "epochs": score.epochs,
        "metrics": json.dumps(dict(score.metrics)),
        "examples": score.examples,
        "wall_s": score.wall_s,
        "device_s": score.device_s,
        "correct": score.correct,
    }


def to_score(row: Row[Any], *, with_correct: bool) -> StoredScore:
    """A row of `nas_score`; its `correct` column is needed only when asked for."""
    score = read_as(
        Score,
        seed=row.seed,
        rung=row.rung,
        epochs=row.epochs,
        metrics=json.loads(row.metrics),
        correct=row.correct if with_correct else None,
        examples=row.examples,
        wall_s=row.wall_s,
        device_s=row.device_s,
    )
    return read_as(StoredScore, key=row.key, purpose=row.purpose, score=score, way=row.way, backbone=row.backbone)


def to_run(row: Row[Any]) -> RunRow:
    """A row of `nas_run`."""
    names = ("key", "placement", "seed", "backbone", "way", "purpose", "priority")
    run = read_as(Run, **{name: getattr(row, name) for name in names})
    return read_as(RunRow, id=row.id, run=run, state=row.state, reason=row.reason, attempts=row.attempts)


def from_session(session: Session) -> str:
    """A latency session as JSON."""
    document = {
        "fingerprint": asdict(session.fingerprint),
        "conditions": dict(session.conditions),
        "started_at": session.started_at,
        "duration_s": session.duration_s,
        "reference_ms": session.reference_ms,
        "control_log_ratio": session.control_log_ratio,
        "samples": [asdict(sample) for sample in session.samples],
        "notes": dict(session.notes),
    }
    return json.dumps(document)


def to_session(document: str) -> Session:
    """The session that `from_session` wrote."""
    content = json.loads(document)
    fingerprint = content.pop("fingerprint")
    details = tuple((name, value) for name, value in fingerprint.pop("details"))
    samples = tuple(read_as(SessionSample, **sample) for sample in content.pop("samples"))
    machine = read_as(Fingerprint, **fingerprint, details=details)
    return read_as(Session, **content, fingerprint=machine, samples=samples)
