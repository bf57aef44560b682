"""What the store hands out, and the way between rows and records."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Row

from nas_attn.records import CandidateRow, Cost, Fingerprint, Score, Session, SessionSample


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
    """`held`, `expired` (its holder has died or hangs) or `released`."""


@dataclass(frozen=True, slots=True)
class StoredScore:
    """A score and what it belongs to."""

    key: str
    """The candidate's key, or the backbone's."""
    purpose: str
    """`search`, `confirm` or `backbone`."""
    score: Score


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


def to_candidate(row: Row[Any]) -> CandidateRow:
    """A row of `nas_candidate`."""
    cost = None
    if row.parameters is not None:
        cost = Cost(parameters=row.parameters, macs=row.macs, activation_bytes=row.activation_bytes)
    return CandidateRow(
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
    score = Score(
        seed=row.seed,
        rung=row.rung,
        epochs=row.epochs,
        metrics=json.loads(row.metrics),
        correct=row.correct if with_correct else None,
        examples=row.examples,
        wall_s=row.wall_s,
        device_s=row.device_s,
    )
    return StoredScore(key=row.key, purpose=row.purpose, score=score)


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
    fields = json.loads(document)
    fingerprint = fields.pop("fingerprint")
    fingerprint["details"] = tuple((name, value) for name, value in fingerprint["details"])
    samples = tuple(SessionSample(**sample) for sample in fields.pop("samples"))
    return Session(fingerprint=Fingerprint(**fingerprint), samples=samples, **fields)
