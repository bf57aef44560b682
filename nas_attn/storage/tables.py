"""Our tables, beside Optuna's in the same database: prefix `nas_`, own MetaData, no foreign key
into Optuna's. Each column says what it holds; `docs/reference/database.md` is made from this file.

A study's rows have its number (`study_id`), which is never used twice, so that a worker of a
deleted study cannot write into a new one of the same name. JSON is stored as text: PostgreSQL's own
type refuses NaN, the value of a diverged loss. Times are Unix seconds by the database's clock, for
SQLite this machine's.

A new database is made from this file as it is. A change needs a revision under
`migrations/versions`, which upgrades earlier databases, and its number in `SCHEMA_VERSIONS`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.types import TypeEngine

TABLE_PREFIX = "nas_"
VERSION_TABLE = "nas_alembic_version"

# Schema versions that this program knows, oldest first: the revisions.
SCHEMA_VERSIONS = (
    "0001",
    "0002",
    "0003",
    "0004",
    "0005",
    "0006",
    "0007",
    "0008",
)

metadata = MetaData()


def _required(name: str, kind: type[TypeEngine[Any]], doc: str) -> Column[Any]:
    return Column(name, kind, nullable=False, doc=doc)


def _optional(name: str, kind: type[TypeEngine[Any]], doc: str) -> Column[Any]:
    return Column(name, kind, nullable=True, doc=doc)


def _row_number(doc: str = "Number of the row, never used twice.") -> Column[Any]:
    return Column("id", Integer, nullable=False, primary_key=True, autoincrement=True, doc=doc)


def _of_study(*, index: bool | None = None) -> Column[Any]:
    doc = "The study that this belongs to."
    return Column("study_id", Integer, nullable=False, index=index, doc=doc)


study = Table(
    "nas_study",
    metadata,
    _row_number("Number of the study, never used twice."),
    _required("name", Text, "Name of the study, and of its Optuna study."),
    _required(
        "recipe",
        Text,
        "The recipe as JSON, frozen at creation, but for a length of the target that it finds.",
    ),
    _required("versions", Text, "Library -> version at creation, as JSON."),
    _required(
        "artifacts",
        Text,
        "Folder of checkpoints and weights, relative to the database's; or a bucket.",
    ),
    _optional(
        "fingerprint",
        Text,
        "The device that its latencies are pinned to, as JSON; null: none yet.",
    ),
    _optional("sites", Text, "The sites that it began with, as JSON; null before that."),
    _optional(
        "taking_over",
        Text,
        "The study whose runs it is still taking over; null: none.",
    ),
    _optional("prior", Text, "Prior of its sampler, as JSON; null: no prior."),
    _optional(
        "published",
        Text,
        "The state of the study that optuna-dashboard's notes show; null: none yet.",
    ),
    _optional(
        "swept",
        Text,
        "The state of the study at the last deletion of unneeded weights; null: none yet.",
    ),
    _optional(
        "batches",
        Text,
        "Shape of its training batches (`records.Arithmetic`); null: not recorded.",
    ),
    _required("created_at", Double, "When it was created."),
    _optional(
        "stop_asked_at",
        Double,
        "When workers were last told to stop; those that began with another value here shall stop.",
    ),
    _optional(
        "screen_until",
        Double,
        "When a timed search begins no new candidate; null: it has no time limit.",
    ),
    _optional(
        "test_from",
        Double,
        "When a timed search begins no further confirmation; null: it has no time limit.",
    ),
    _optional(
        "ends_at",
        Double,
        "When a timed search ends; null: it has no time limit.",
    ),
    _optional(
        "exhausted_at",
        Double,
        "When nothing was left to try within the limits; null: there was, at the last look.",
    ),
    _required("trials", Integer, "Candidates to evaluate in all."),
    _required(
        "rounds_before",
        Integer,
        "Confirmation rounds before the present candidates to confirm were chosen.",
    ),
    _optional(
        "confirmed_trials",
        Integer,
        "For how many trials the candidates to confirm were chosen; null: not yet.",
    ),
    UniqueConstraint("name", name="nas_study_name"),
    sqlite_autoincrement=True,
    info={"doc": "One study: its frozen recipe, and the settings that can change."},
)

lease = Table(
    "nas_lease",
    metadata,
    _of_study(),
    _required("resource", Text, "The piece of work, `run/12` or `scheduling`."),
    _required(
        "owner",
        Text,
        "The worker that has it, or had it last: host, process and a random part.",
    ),
    _required(
        "number",
        Integer,
        "Grows with every holder, to tell the present one from its predecessors.",
    ),
    _required("released", Boolean, "Whether its holder has given it back."),
    PrimaryKeyConstraint("study_id", "resource", name="nas_lease_pkey"),
    info={"doc": "The right to work on something and to write about it."},
)

worker = Table(
    "nas_worker",
    metadata,
    _of_study(),
    _required("owner", Text, "The worker: host, process and a random part."),
    _required("device", Text, "The device that it trains on, `cuda:0`."),
    _required("doing", Text, "Its current or last task."),
    _required("waiting", Text, "What it waits for; empty: for nothing."),
    _required("began_at", Double, "When it came."),
    _required("since", Double, "When it began its task."),
    _required(
        "seen_at",
        Double,
        "When it gave its last sign of life; without one, others take its work over.",
    ),
    _optional("left_at", Double, "When it left, or was found dead; null: it is here."),
    _optional(
        "ending",
        Text,
        "How it went: `left`, in order, or `lost`, without a word; null: it is here.",
    ),
    PrimaryKeyConstraint("study_id", "owner", name="nas_worker_pkey"),
    info={"doc": "A worker that takes part in a study."},
)

candidate = Table(
    "nas_candidate",
    metadata,
    _of_study(),
    _required("key", Text, "Key of the network; equal networks have equal keys."),
    _required("placement", Text, "Its placement, explicit, in notation."),
    _required(
        "state",
        Text,
        "`running`, `scored`, `pruned`, `infeasible` or `failed`.",
    ),
    _required("reason", Text, "Why it ended so; empty: nothing to say."),
    _optional(
        "baseline",
        Text,
        "Name of the baseline that it is; null: it is searched.",
    ),
    _optional(
        "costs",
        Text,
        "Name of a cost -> number, as JSON; null: not counted yet.",
    ),
    _required("trial", Integer, "Number of its trial in Optuna's study."),
    _required("by_prior", Boolean, "Whether the prior has proposed it."),
    _required("created_at", Double, "When a worker claimed it."),
    _optional(
        "finished_at",
        Double,
        "When it got its final state; null: it is running.",
    ),
    PrimaryKeyConstraint("study_id", "key", name="nas_candidate_pkey"),
    info={"doc": "The network of a trial of the search."},
)

score = Table(
    "nas_score",
    metadata,
    _of_study(),
    _required("key", Text, "Key of the network."),
    _required(
        "protocol",
        Text,
        "Training protocol: `search`, `target`, or another one of the study.",
    ),
    _required("purpose", Text, "What the run was for (`purposes`)."),
    _required("metrics", Text, "Name of a metric -> value, as JSON."),
    _required("seed", BigInteger, "Seed of the run."),
    _required(
        "backbone",
        Integer,
        "Number of the trained backbone that it began from; 0: none.",
    ),
    _required("rung", Integer, "Index into the protocol's rungs."),
    _required("epochs", Integer, "Epochs trained so far."),
    _required("examples", Integer, "Images that were scored."),
    _required(
        "wall_s",
        Double,
        "Seconds of training and scoring since the run's previous rung; they add up.",
    ),
    _required("device_s", Double, "Seconds of them on the device."),
    _optional(
        "correct",
        LargeBinary,
        "Which images were classified correctly, one bit each; null: another task.",
    ),
    _optional(
        "answers",
        LargeBinary,
        "The task's own results for each image; null: it has none.",
    ),
    _optional(
        "arithmetic",
        Text,
        "How the run computed (`records.Arithmetic`), as JSON; null: not recorded.",
    ),
    _optional("owner", Text, "The worker that wrote it; null: not recorded."),
    _optional("recorded_at", Double, "When it was written; null: not recorded."),
    PrimaryKeyConstraint(
        "study_id", "key", "protocol", "seed", "backbone", "rung", name="nas_score_pkey"
    ),
    info={"doc": "The result of a run at a rung."},
)

run = Table(
    "nas_run",
    metadata,
    _row_number(),
    _required(
        "key",
        Text,
        "Key of the network; `backbone` for one of the study's own.",
    ),
    _required("placement", Text, "Its placement, explicit, in notation."),
    _required(
        "protocol",
        Text,
        "Training protocol: `search`, `target`, or another one of the study.",
    ),
    _required("purpose", Text, "What it is for (`purposes`)."),
    _required(
        "state",
        Text,
        "`waiting` (also while one works at it), `done`, `pruned`, `failed`, `withdrawn`.",
    ),
    _required("reason", Text, "Why it ended so; empty: nothing to say."),
    _required("seed", BigInteger, "Seed of the run."),
    _of_study(),
    _required(
        "backbone",
        Integer,
        "Number of the trained backbone that it begins from; 0: none.",
    ),
    _required(
        "round",
        Integer,
        "Number of the confirmation round or of the validation; 0: neither.",
    ),
    _required("priority", Integer, "Runs of a higher one are taken first."),
    _required(
        "attempts",
        Integer,
        "How often a worker took it without handing it back.",
    ),
    _optional("finished_at", Double, "When it ended; null: it has not."),
    UniqueConstraint("study_id", "key", "protocol", "seed", "backbone", name="nas_run_identity"),
    Index("nas_run_state", "study_id", "state"),
    sqlite_autoincrement=True,
    info={"doc": "The queue: one training of one network, waiting or ended."},
)

session = Table(
    "nas_session",
    metadata,
    _row_number(),
    _of_study(index=True),
    _required(
        "started_at",
        Double,
        "When it began, by the clock of the machine that measured.",
    ),
    _required("document", Text, "The session (`records.Session`), as JSON."),
    _optional("owner", Text, "The worker that measured it; null: not recorded."),
    _optional("recorded_at", Double, "When it was written; null: not recorded."),
    sqlite_autoincrement=True,
    info={"doc": "A latency session."},
)

checkpoint = Table(
    "nas_checkpoint",
    metadata,
    _row_number(),
    _of_study(index=True),
    _required("run", Text, "Name of the training, or of its weights (`weights:NAME`)."),
    _required("artifact", Text, "Name of the file in the artifacts."),
    _required("sha256", Text, "SHA-256 of the file."),
    _required("size", BigInteger, "Size of the file, in bytes."),
    _required("epochs", Integer, "Epochs trained."),
    _required("created_at", Double, "When it was recorded."),
    sqlite_autoincrement=True,
    info={"doc": "Where a checkpoint or trained weights are."},
)

test_reading = Table(
    "nas_test_reading",
    metadata,
    _row_number(),
    _of_study(index=True),
    _required("read_at", Double, "When they were read."),
    _required("reason", Text, "What for."),
    sqlite_autoincrement=True,
    info={"doc": "A use of the test images."},
)


def _documents(kind: str, *, doc: str, name: str, content: str) -> Table:
    """A table of a study's documents of one kind; only their writers and readers know their
    structure.
    """
    return Table(
        f"{TABLE_PREFIX}{kind}",
        metadata,
        _of_study(),
        _required("name", Text, doc=name),
        _required("content", Text, doc=content),
        PrimaryKeyConstraint("study_id", "name", name=f"{TABLE_PREFIX}{kind}_pkey"),
        info={"doc": doc},
    )


protocol = _documents(
    "protocol",
    doc="Training protocols of a study.",
    name="Name of the protocol.",
    content="The training and the data, as JSON.",
)
backbone = _documents(
    "backbone",
    doc="Backbones that a study has trained.",
    name="Number of the backbone, and the name of another network.",
    content="Where its weights are, as JSON; empty: they are lost.",
)
weights_lost = _documents(
    "weights_lost",
    doc="Trained weights that are not kept.",
    name="Name of the weights.",
    content="Why they are missing; empty: they exist again.",
)
curve = _documents(
    "curve",
    doc="Courses of trainings.",
    name="Name of a run's files.",
    content="The points of its training, as JSON.",
)
labels = _documents(
    "labels",
    doc="Labels behind the results per image.",
    name="Training protocol; or `seed-` and the seed whose own division this is.",
    content="Names of the classes and the labels in the order of the images, as JSON; of a seed's"
    " own division also which images these are.",
)
validation = _documents(
    "validation",
    doc="Validations: tests of a recommendation.",
    name="Number of the validation.",
    content="Its networks and comparisons, as JSON.",
)
arithmetic = _documents(
    "arithmetic",
    doc="How a study computes.",
    name="Kind of device, and the protocol where that computes otherwise.",
    content="The arithmetic (`records.Arithmetic`), as JSON.",
)
images = _documents(
    "images",
    doc="What the images are, as their first reader kept it, so that changes are noticed.",
    name="Checksum of how the data are read and divided; ` test` after it: the test images.",
    content="Digest, what is unknown, and the manifest (`data.manifest`), as JSON.",
)
