"""What the store hands out, and the way between rows and records."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from itertools import chain, islice
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from sqlalchemy import Row

from nas_attn.records import CandidateRow, Fingerprint, Score, Session, SessionSample

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
    round: int = 0
    """Of a duel or of repeats: which round, from 1; of a validation: its number."""

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
class StudySettings:
    """What changes of a study while it goes on, beside its rows. Times are Unix seconds by the database's clock."""

    trials: int
    """How many candidates it is to evaluate in all."""
    artifacts: str
    """Folder of its checkpoints and weights, relative to the database's where it lies beside it; or a bucket."""
    confirmed_trials: int | None
    """For how many trials the candidates to confirm were chosen; None: not yet."""
    duels_before: int
    """Rounds of duels that had been held by then."""
    stop_asked_at: float | None
    """Workers that came before this time are to stop."""
    published: str | None
    """The state of the study that optuna-dashboard's notes show."""
    publish_at: float | None
    """When they are to be refreshed."""
    swept: str | None
    """The state of the study in which its weights were swept."""


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
    return read_all(kind, {name: [value] for name, value in values.items()})[0]


def read_all(kind: type[T], columns: Mapping[str, Sequence[Any]]) -> list[T]:
    """As `read_as` of each row, a column at a time.

    Args:
        columns: field -> its values, of all rows.
    """
    hints, order = _hints(kind)  # type: ignore[arg-type]
    if columns.keys() != set(order):
        raise ValueError(f"{kind.__name__} has other fields than {', '.join(columns)}")
    for name in order:
        if not _are(hints[name], columns[name]):
            raise ValueError(f"{kind.__name__}.{name} is of another type")
    return list(map(kind, *(columns[name] for name in order)))


@cache
def _hints(kind: type) -> tuple[dict[str, Any], list[str]]:
    return get_type_hints(kind), [field.name for field in fields(kind)]


def _are(hint: Any, values: Sequence[Any]) -> bool:
    """Whether all values are of a type."""
    wanted = set(get_args(hint)) if isinstance(hint, UnionType) else {hint}
    wanted |= {int} if float in wanted else set()
    rest = [value for value in values if type(value) not in wanted]
    nested = next((option for option in wanted if get_origin(option) in (tuple, Mapping)), None)
    if not rest or nested is None:
        return not rest
    arguments = get_args(nested)
    if get_origin(nested) is Mapping:
        contents = [entry for value in rest if type(value) is dict for entry in value.items()]
        types = zip(arguments, zip(*contents, strict=True), strict=False)
        return {dict} == set(map(type, rest)) and all(_are(inner, found) for inner, found in types)
    if set(map(type, rest)) != {tuple}:
        return False
    if arguments[1:] == (...,):
        return _are(arguments[0], list(chain(*rest)))
    return {len(arguments)} == set(map(len, rest)) and all(map(_are, arguments, zip(*rest, strict=True)))


def _contents(texts: Sequence[str]) -> list[Any]:
    """What each text is in JSON, read in one go."""
    try:
        found = json.loads(f"[{','.join(texts)}]")
    except ValueError:
        found = []
    return found if len(found) == len(texts) else [json.loads(text) for text in texts]


def _columns(rows: Sequence[Row[Any]]) -> dict[str, Sequence[Any]]:
    """Column -> its values."""
    return dict(zip(rows[0]._fields, zip(*rows, strict=True), strict=True)) if rows else {}


def to_candidates(rows: Sequence[Row[Any]]) -> list[CandidateRow]:
    """Rows of `nas_candidate`."""
    if not rows:
        return []
    columns = _columns(rows)
    counted = iter(_contents([text for text in columns["costs"] if text is not None]))
    columns["cost"] = [None if text is None else next(counted) for text in columns["costs"]]
    return read_all(CandidateRow, {f.name: columns[f.name] for f in fields(CandidateRow)})


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


def to_scores(rows: Sequence[Row[Any]], *, with_correct: bool) -> list[StoredScore]:
    """Rows of `nas_score`; their `correct` column is needed only when asked for."""
    if not rows:
        return []
    columns = _columns(rows)
    columns["metrics"] = _contents(columns["metrics"])
    if not with_correct:
        columns["correct"] = [None] * len(rows)
    scores = read_all(Score, {f.name: columns[f.name] for f in fields(Score)})
    names = ("key", "purpose", "way", "backbone")
    return read_all(StoredScore, {"score": scores, **{name: columns[name] for name in names}})


def to_run(row: Row[Any]) -> RunRow:
    """A row of `nas_run`."""
    names = ("key", "placement", "seed", "backbone", "way", "purpose", "priority", "round")
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


def to_sessions(documents: Sequence[str]) -> list[Session]:
    """The sessions that `from_session` wrote."""
    contents, machines = _contents(documents), dict[str, Fingerprint]()
    samples = iter(_records(SessionSample, [sample for content in contents for sample in content["samples"]]))
    for content in contents:
        text = json.dumps(content["fingerprint"])
        if text not in machines:
            of = content["fingerprint"]
            details = tuple((name, value) for name, value in of.pop("details"))
            machines[text] = read_as(Fingerprint, **of, details=details)
        content["fingerprint"] = machines[text]
        content["samples"] = tuple(islice(samples, len(content["samples"])))
    return _records(Session, contents)


def _records(kind: type[T], contents: Sequence[Mapping[str, Any]]) -> list[T]:
    """Records of mappings."""
    if not contents:
        return []
    names = contents[0].keys()
    if any(content.keys() != names for content in contents):
        raise ValueError(f"{kind.__name__} has other fields than {', '.join(names)}")
    return read_all(kind, {name: [content[name] for content in contents] for name in names})
