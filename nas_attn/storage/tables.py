"""Our tables, beside Optuna's in the same database: prefix `nas_`, own MetaData, no foreign key
into Optuna's. What a column holds stands below it; `docs/reference/database.md` is made from this.

A study's rows have its number (`study_id`), which is never used twice, so that a worker of a
deleted study cannot write into a new one of the same name. JSON is stored as text: PostgreSQL's own
type refuses NaN, the value of a diverged loss. Times are Unix seconds by the database's clock, for
SQLite this machine's.

A new database is made from this file as it is. A change needs a revision under
`migrations/versions`, which upgrades earlier databases, and counts in `SCHEMA_VERSIONS`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from sqlalchemy import BigInteger, Double, Index, MetaData, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

TABLE_PREFIX = "nas_"
VERSION_TABLE = "nas_alembic_version"

# Schema versions that this program knows, oldest first: the revisions.
SCHEMA_VERSIONS = tuple(f"{number:04}" for number in range(1, 11))

_NUMBERED = {"sqlite_autoincrement": True}
"""Numbers of rows are never used twice."""

Number = Annotated[int, mapped_column(primary_key=True)]
Key = Annotated[str, mapped_column(primary_key=True)]
KeyNumber = Annotated[int, mapped_column(primary_key=True, autoincrement=False)]
BigKey = Annotated[int, mapped_column(BigInteger, primary_key=True, autoincrement=False)]
Big = Annotated[int, mapped_column(BigInteger)]
Indexed = Annotated[int, mapped_column(index=True)]


class Base(DeclarativeBase):
    """All our tables."""

    metadata = MetaData(
        naming_convention={"ix": "ix_%(column_0_label)s", "pk": "%(table_name)s_pkey"}
    )
    type_annotation_map: ClassVar = {str: Text, float: Double}


class StudyTable(Base):
    """One study: its frozen recipe, and the settings that can change."""

    __tablename__ = "nas_study"
    __table_args__ = (UniqueConstraint("name", name="nas_study_name"), _NUMBERED)

    id: Mapped[Number]
    """Number of the study, never used twice."""
    name: Mapped[str]
    """Name of the study, and of its Optuna study."""
    recipe: Mapped[str]
    """The recipe as JSON, frozen at creation, but for a length of the target that it finds."""
    versions: Mapped[str]
    """Library -> version at creation, as JSON."""
    artifacts: Mapped[str]
    """Folder of checkpoints and weights, relative to the database's; or a bucket."""
    fingerprint: Mapped[str | None]
    """The device that its latencies are pinned to, as JSON; null: none yet."""
    sites: Mapped[str | None]
    """The sites that it began with, as JSON; null before that."""
    taking_over: Mapped[str | None]
    """The study whose runs it is still taking over; null: none."""
    published: Mapped[str | None]
    """The state of the study that optuna-dashboard's notes show; null: none yet."""
    swept: Mapped[str | None]
    """The state of the study at the last deletion of unneeded weights; null: none yet."""
    batches: Mapped[str | None]
    """Shape of its training batches (`records.Arithmetic`); null: not recorded."""
    created_at: Mapped[float]
    """When it was created."""
    stop_asked_at: Mapped[float | None]
    """When workers were last told to stop; those that began with another value here shall stop."""
    screen_until: Mapped[float | None]
    """When a timed search begins no new candidate; null: it has no time limit."""
    test_from: Mapped[float | None]
    """When a timed search begins no further confirmation; null: it has no time limit."""
    ends_at: Mapped[float | None]
    """When a timed search ends; null: it has no time limit."""
    exhausted_at: Mapped[float | None]
    """When nothing was left to try within the limits; null: there was, at the last look."""
    trials: Mapped[int]
    """Candidates to evaluate in all."""
    rounds_before: Mapped[int]
    """Confirmation rounds before the present candidates to confirm were chosen."""
    confirmed_trials: Mapped[int | None]
    """For how many trials the candidates to confirm were chosen; null: not yet."""


class LeaseTable(Base):
    """The right to work on something and to write about it."""

    __tablename__ = "nas_lease"

    study_id: Mapped[KeyNumber]
    """The study that this belongs to."""
    resource: Mapped[Key]
    """The piece of work, `run/12` or `scheduling`."""
    owner: Mapped[str]
    """The worker that has it, or had it last: host, process and a random part."""
    number: Mapped[int]
    """Grows with every holder, to tell the present one from its predecessors."""
    released: Mapped[bool]
    """Whether its holder has given it back."""


class WorkerTable(Base):
    """A worker that takes part in a study."""

    __tablename__ = "nas_worker"

    study_id: Mapped[KeyNumber]
    """The study that this belongs to."""
    owner: Mapped[Key]
    """The worker: host, process and a random part."""
    device: Mapped[str]
    """The device that it trains on, `cuda:0`; empty: it trains nothing, but takes runs over, or
    writes to trackers.
    """
    doing: Mapped[str]
    """Its current or last task."""
    waiting: Mapped[str]
    """What it waits for; empty: for nothing."""
    began_at: Mapped[float]
    """When it came."""
    since: Mapped[float]
    """When it began its task."""
    seen_at: Mapped[float]
    """When it gave its last sign of life; without one, others take its work over."""
    left_at: Mapped[float | None]
    """When it left, or was found dead; null: it is here."""
    ending: Mapped[str | None]
    """How it went: `left`, in order, or `lost`, without a word; null: it is here."""


class CandidateTable(Base):
    """The network of a trial of the search."""

    __tablename__ = "nas_candidate"

    study_id: Mapped[KeyNumber]
    """The study that this belongs to."""
    key: Mapped[Key]
    """Key of the network; equal networks have equal keys."""
    placement: Mapped[str]
    """Its placement, explicit, in notation."""
    state: Mapped[str]
    """`running`, `scored`, `pruned`, `infeasible` or `failed`."""
    reason: Mapped[str]
    """Why it ended so; empty: nothing to say."""
    baseline: Mapped[str | None]
    """Name of the baseline that it is; null: it is searched."""
    costs: Mapped[str | None]
    """Name of a cost -> number, as JSON, and `input_side` where another network takes images of
    another size than the study's; null: not counted yet.
    """
    trial: Mapped[int]
    """Number of its trial in Optuna's study."""
    created_at: Mapped[float]
    """When a worker claimed it."""
    finished_at: Mapped[float | None]
    """When it got its final state; null: it is running."""


class ScoreTable(Base):
    """The result of a run at a rung."""

    __tablename__ = "nas_score"

    study_id: Mapped[KeyNumber]
    """The study that this belongs to."""
    key: Mapped[Key]
    """Key of the network."""
    protocol: Mapped[Key]
    """Training protocol: `search`, `target`, or another one of the study."""
    purpose: Mapped[str]
    """What the run was for (`purposes`)."""
    metrics: Mapped[str]
    """Name of a metric -> value, as JSON."""
    seed: Mapped[BigKey]
    """Seed of the run."""
    backbone: Mapped[KeyNumber]
    """Number of the trained backbone that it began from; 0: none."""
    rung: Mapped[KeyNumber]
    """Index into the protocol's rungs."""
    epochs: Mapped[int]
    """Epochs trained so far."""
    examples: Mapped[int]
    """Images that were scored."""
    wall_s: Mapped[float]
    """Seconds of training and scoring since the run's previous rung; they add up."""
    device_s: Mapped[float]
    """Seconds of them on the device."""
    correct: Mapped[bytes | None]
    """Which images were classified correctly, one bit each; null: another task."""
    answers: Mapped[bytes | None]
    """The task's own results for each image; null: it has none."""
    arithmetic: Mapped[str | None]
    """How the run computed (`records.Arithmetic`), as JSON; null: not recorded."""
    owner: Mapped[str | None]
    """The worker that wrote it; null: not recorded."""
    recorded_at: Mapped[float | None]
    """When it was written; null: not recorded."""


class RunTable(Base):
    """The queue: one training of one network, waiting or ended."""

    __tablename__ = "nas_run"
    __table_args__ = (
        UniqueConstraint(
            "study_id", "key", "protocol", "seed", "backbone", name="nas_run_identity"
        ),
        Index("nas_run_state", "study_id", "state"),
        _NUMBERED,
    )

    id: Mapped[Number]
    """Number of the row, never used twice."""
    key: Mapped[str]
    """Key of the network; `backbone` for one of the study's own."""
    placement: Mapped[str]
    """Its placement, explicit, in notation."""
    protocol: Mapped[str]
    """Training protocol: `search`, `target`, or another one of the study."""
    purpose: Mapped[str]
    """What it is for (`purposes`)."""
    state: Mapped[str]
    """`waiting` (also while one works at it), `done`, `pruned`, `failed`, `withdrawn`."""
    reason: Mapped[str]
    """Why it ended so; empty: nothing to say."""
    seed: Mapped[Big]
    """Seed of the run."""
    study_id: Mapped[int]
    """The study that this belongs to."""
    backbone: Mapped[int]
    """Number of the trained backbone that it begins from; 0: none."""
    round: Mapped[int]
    """Number of the confirmation round or of the validation; 0: neither."""
    priority: Mapped[int]
    """Runs of a higher one are taken first."""
    attempts: Mapped[int]
    """How often a worker took it without handing it back."""
    finished_at: Mapped[float | None]
    """When it ended; null: it has not."""


class SessionTable(Base):
    """A latency session."""

    __tablename__ = "nas_session"
    __table_args__ = _NUMBERED

    id: Mapped[Number]
    """Number of the row, never used twice."""
    study_id: Mapped[Indexed]
    """The study that this belongs to."""
    started_at: Mapped[float]
    """When it began, by the clock of the machine that measured."""
    document: Mapped[str]
    """The session (`records.Session`), as JSON."""
    owner: Mapped[str | None]
    """The worker that measured it; null: not recorded."""
    recorded_at: Mapped[float | None]
    """When it was written; null: not recorded."""


class CheckpointTable(Base):
    """Where a checkpoint or trained weights are."""

    __tablename__ = "nas_checkpoint"
    __table_args__ = _NUMBERED

    id: Mapped[Number]
    """Number of the row, never used twice."""
    study_id: Mapped[Indexed]
    """The study that this belongs to."""
    run: Mapped[str]
    """Name of the training, or of its weights (`weights:NAME`)."""
    artifact: Mapped[str]
    """Name of the file in the artifacts."""
    sha256: Mapped[str]
    """SHA-256 of the file."""
    size: Mapped[Big]
    """Size of the file, in bytes."""
    epochs: Mapped[int]
    """Epochs trained."""
    created_at: Mapped[float]
    """When it was recorded."""


class TestReadingTable(Base):
    """A use of the test images."""

    __tablename__ = "nas_test_reading"
    __table_args__ = _NUMBERED

    id: Mapped[Number]
    """Number of the row, never used twice."""
    study_id: Mapped[Indexed]
    """The study that this belongs to."""
    read_at: Mapped[float]
    """When they were read."""
    reason: Mapped[str]
    """What for."""


class DocumentTable(Base):
    """A study's documents of several kinds; only their writers and readers know their structure."""

    __tablename__ = "nas_document"

    study_id: Mapped[KeyNumber]
    """The study that this belongs to."""
    kind: Mapped[Key]
    """`protocol`: how runs train, by the protocol's name. `backbone`: where the weights of one are,
    by its number and the name of another network; empty: they are lost. `weights_lost`: why trained
    weights are missing, by their name; empty: they exist again. `curve`: the points of a training,
    by the name of the run's files. `labels`: names of the classes and labels behind the results per
    image, in the images' order, by training protocol; or, with which images these are, by `seed-`
    and the seed whose own division this is. `validation`: networks and comparisons of a test, by
    its number. `arithmetic`: how a study computes (`records.Arithmetic`), by kind of device, and
    the protocol where that computes otherwise. `images`: what the images are, so that changes are
    noticed, by a checksum of how the data are read and divided, with ` test` after it for the test
    images.
    """
    name: Mapped[Key]
    """Name of the document."""
    content: Mapped[str]
    """The document, mostly as JSON."""
