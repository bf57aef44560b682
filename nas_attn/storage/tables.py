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

TABLE_PREFIX = "nas_"
VERSION_TABLE = "nas_alembic_version"

# Schema versions that this program knows, oldest first: the revisions.
SCHEMA_VERSIONS = (
    "0001",
    "0002",
    "0003",
    "0004",
    "0005",
)

metadata = MetaData()

study = Table(
    "nas_study",
    metadata,
    Column(
        "id",
        Integer,
        nullable=False,
        primary_key=True,
        autoincrement=True,
        doc="Number of the study, never used twice.",
    ),
    Column("name", Text, nullable=False, doc="Name of the study, and of its Optuna study."),
    Column(
        "recipe",
        Text,
        nullable=False,
        doc="The recipe as JSON, frozen at creation; `extend` gives it another space.",
    ),
    Column("versions", Text, nullable=False, doc="Library -> version at creation, as JSON."),
    Column(
        "artifacts",
        Text,
        nullable=False,
        doc="Folder of checkpoints and weights, relative to the database's; or a bucket.",
    ),
    Column(
        "fingerprint",
        Text,
        nullable=True,
        doc="The device that its latencies are pinned to, as JSON; null: none yet.",
    ),
    Column(
        "sites", Text, nullable=True, doc="The sites that it began with, as JSON; null before that."
    ),
    Column("prior", Text, nullable=True, doc="Prior of its sampler, as JSON; null: no prior."),
    Column(
        "published",
        Text,
        nullable=True,
        doc="The state of the study that optuna-dashboard's notes show; null: none yet.",
    ),
    Column(
        "swept",
        Text,
        nullable=True,
        doc="The state of the study at the last deletion of unneeded weights; null: none yet.",
    ),
    Column(
        "batches",
        Text,
        nullable=True,
        doc="Shape of its training batches (`records.Arithmetic`); null: not recorded.",
    ),
    Column("created_at", Double, nullable=False, doc="When it was created."),
    Column(
        "stop_asked_at",
        Double,
        nullable=True,
        doc="Workers that began before this time shall stop; null: none shall.",
    ),
    Column(
        "screen_until",
        Double,
        nullable=True,
        doc="When a timed search begins no new candidate; null: it has no time limit.",
    ),
    Column(
        "test_from",
        Double,
        nullable=True,
        doc="When a timed search begins no further confirmation; null: it has no time limit.",
    ),
    Column(
        "ends_at",
        Double,
        nullable=True,
        doc="When a timed search ends; null: it has no time limit.",
    ),
    Column(
        "exhausted_at",
        Double,
        nullable=True,
        doc="When nothing was left to try within the limits; null: there was, at the last look.",
    ),
    Column(
        "publish_at",
        Double,
        nullable=True,
        doc="When optuna-dashboard's notes are to be refreshed; null: at once.",
    ),
    Column("trials", Integer, nullable=False, doc="Candidates to evaluate in all."),
    Column(
        "rounds_before",
        Integer,
        nullable=False,
        doc="Confirmation rounds before the present candidates to confirm were chosen.",
    ),
    Column(
        "confirmed_trials",
        Integer,
        nullable=True,
        doc="For how many trials the candidates to confirm were chosen; null: not yet.",
    ),
    UniqueConstraint("name", name="nas_study_name"),
    sqlite_autoincrement=True,
    info={"doc": "One study: its frozen recipe, and the settings that can change."},
)

lease = Table(
    "nas_lease",
    metadata,
    Column("study_id", Integer, nullable=False, doc="The study that this belongs to."),
    Column("resource", Text, nullable=False, doc="The piece of work, `run/12` or `scheduling`."),
    Column(
        "owner",
        Text,
        nullable=False,
        doc="The worker that has it, or had it last: host, process and a random part.",
    ),
    Column(
        "number",
        Integer,
        nullable=False,
        doc="Grows with every holder, to tell the present one from its predecessors.",
    ),
    Column(
        "expires_at",
        Double,
        nullable=False,
        doc="From then on other workers may take it, unless it is renewed.",
    ),
    Column("ttl_s", Double, nullable=False, doc="Seconds that it lasts from a renewal."),
    Column("released", Boolean, nullable=False, doc="Whether its holder has given it back."),
    PrimaryKeyConstraint("study_id", "resource", name="nas_lease_pkey"),
    info={"doc": "The right to work on something and to write about it."},
)

worker = Table(
    "nas_worker",
    metadata,
    Column("study_id", Integer, nullable=False, doc="The study that this belongs to."),
    Column("owner", Text, nullable=False, doc="The worker: host, process and a random part."),
    Column("device", Text, nullable=False, doc="The device that it trains on, `cuda:0`."),
    Column("doing", Text, nullable=False, doc="Its current or last task."),
    Column("waiting", Text, nullable=False, doc="What it waits for; empty: for nothing."),
    Column("began_at", Double, nullable=False, doc="When it came."),
    Column("since", Double, nullable=False, doc="When it began its task."),
    Column(
        "seen_at",
        Double,
        nullable=False,
        doc="When it gave its last sign of life; renewals of leases are further ones.",
    ),
    Column(
        "left_at", Double, nullable=True, doc="When it left, or was found dead; null: it is here."
    ),
    Column(
        "ending",
        Text,
        nullable=True,
        doc="How it went: `left`, in order, or `lost`, without a word; null: it is here.",
    ),
    PrimaryKeyConstraint("study_id", "owner", name="nas_worker_pkey"),
    info={"doc": "A worker that takes part in a study."},
)

candidate = Table(
    "nas_candidate",
    metadata,
    Column("study_id", Integer, nullable=False, doc="The study that this belongs to."),
    Column("key", Text, nullable=False, doc="Key of the network; equal networks have equal keys."),
    Column("placement", Text, nullable=False, doc="Its placement, explicit, in notation."),
    Column(
        "state",
        Text,
        nullable=False,
        doc="`running`, `scored`, `pruned`, `infeasible` or `failed`.",
    ),
    Column("reason", Text, nullable=False, doc="Why it ended so; empty: nothing to say."),
    Column(
        "baseline",
        Text,
        nullable=True,
        doc="Name of the baseline that it is; null: it is searched.",
    ),
    Column(
        "costs",
        Text,
        nullable=True,
        doc="Name of a cost -> number, as JSON; null: not counted yet.",
    ),
    Column("trial", Integer, nullable=False, doc="Number of its trial in Optuna's study."),
    Column("by_prior", Boolean, nullable=False, doc="Whether the prior has proposed it."),
    Column("created_at", Double, nullable=False, doc="When a worker claimed it."),
    Column(
        "finished_at",
        Double,
        nullable=True,
        doc="When it got its final state; null: it is running.",
    ),
    PrimaryKeyConstraint("study_id", "key", name="nas_candidate_pkey"),
    info={"doc": "The network of a trial of the search."},
)

score = Table(
    "nas_score",
    metadata,
    Column("study_id", Integer, nullable=False, doc="The study that this belongs to."),
    Column("key", Text, nullable=False, doc="Key of the network."),
    Column(
        "protocol",
        Text,
        nullable=False,
        doc="Training protocol: `search`, `target`, or another one of the study.",
    ),
    Column("purpose", Text, nullable=False, doc="What the run was for (`purposes`)."),
    Column("metrics", Text, nullable=False, doc="Name of a metric -> value, as JSON."),
    Column("seed", BigInteger, nullable=False, doc="Seed of the run."),
    Column(
        "backbone",
        Integer,
        nullable=False,
        doc="Number of the trained backbone that it began from; 0: none.",
    ),
    Column("rung", Integer, nullable=False, doc="Index into the protocol's rungs."),
    Column("epochs", Integer, nullable=False, doc="Epochs trained so far."),
    Column("examples", Integer, nullable=False, doc="Images that were scored."),
    Column(
        "wall_s",
        Double,
        nullable=False,
        doc="Seconds of training and scoring since the run's previous rung; they add up.",
    ),
    Column("device_s", Double, nullable=False, doc="Seconds of them on the device."),
    Column(
        "correct",
        LargeBinary,
        nullable=True,
        doc="Which images were classified correctly, one bit each; null: another task.",
    ),
    Column(
        "answers",
        LargeBinary,
        nullable=True,
        doc="The task's own results for each image; null: it has none.",
    ),
    Column(
        "arithmetic",
        Text,
        nullable=True,
        doc="How the run computed (`records.Arithmetic`), as JSON; null: not recorded.",
    ),
    Column("owner", Text, nullable=True, doc="The worker that wrote it; null: not recorded."),
    Column("recorded_at", Double, nullable=True, doc="When it was written; null: not recorded."),
    PrimaryKeyConstraint(
        "study_id", "key", "protocol", "seed", "backbone", "rung", name="nas_score_pkey"
    ),
    info={"doc": "The result of a run at a rung."},
)

run = Table(
    "nas_run",
    metadata,
    Column(
        "id",
        Integer,
        nullable=False,
        primary_key=True,
        autoincrement=True,
        doc="Number of the row, never used twice.",
    ),
    Column(
        "key",
        Text,
        nullable=False,
        doc="Key of the network; `backbone` for one of the study's own.",
    ),
    Column("placement", Text, nullable=False, doc="Its placement, explicit, in notation."),
    Column(
        "protocol",
        Text,
        nullable=False,
        doc="Training protocol: `search`, `target`, or another one of the study.",
    ),
    Column("purpose", Text, nullable=False, doc="What it is for (`purposes`)."),
    Column(
        "state",
        Text,
        nullable=False,
        doc="`waiting` (also while one works at it), `done`, `pruned`, `failed`, `withdrawn`.",
    ),
    Column("reason", Text, nullable=False, doc="Why it ended so; empty: nothing to say."),
    Column("seed", BigInteger, nullable=False, doc="Seed of the run."),
    Column("study_id", Integer, nullable=False, doc="The study that this belongs to."),
    Column(
        "backbone",
        Integer,
        nullable=False,
        doc="Number of the trained backbone that it begins from; 0: none.",
    ),
    Column(
        "round",
        Integer,
        nullable=False,
        doc="Number of the confirmation round or of the validation; 0: neither.",
    ),
    Column("priority", Integer, nullable=False, doc="Runs of a higher one are taken first."),
    Column(
        "attempts",
        Integer,
        nullable=False,
        doc="How often a worker took it without handing it back.",
    ),
    Column("finished_at", Double, nullable=True, doc="When it ended; null: it has not."),
    UniqueConstraint("study_id", "key", "protocol", "seed", "backbone", name="nas_run_identity"),
    Index("nas_run_state", "study_id", "state"),
    sqlite_autoincrement=True,
    info={"doc": "The queue: one training of one network, waiting or ended."},
)

session = Table(
    "nas_session",
    metadata,
    Column(
        "id",
        Integer,
        nullable=False,
        primary_key=True,
        autoincrement=True,
        doc="Number of the row, never used twice.",
    ),
    Column("study_id", Integer, nullable=False, index=True, doc="The study that this belongs to."),
    Column(
        "started_at",
        Double,
        nullable=False,
        doc="When it began, by the clock of the machine that measured.",
    ),
    Column("document", Text, nullable=False, doc="The session (`records.Session`), as JSON."),
    Column("owner", Text, nullable=True, doc="The worker that measured it; null: not recorded."),
    Column("recorded_at", Double, nullable=True, doc="When it was written; null: not recorded."),
    sqlite_autoincrement=True,
    info={"doc": "A latency session."},
)

checkpoint = Table(
    "nas_checkpoint",
    metadata,
    Column(
        "id",
        Integer,
        nullable=False,
        primary_key=True,
        autoincrement=True,
        doc="Number of the row, never used twice.",
    ),
    Column("study_id", Integer, nullable=False, index=True, doc="The study that this belongs to."),
    Column(
        "run", Text, nullable=False, doc="Name of the training, or of its weights (`weights:NAME`)."
    ),
    Column("artifact", Text, nullable=False, doc="Name of the file in the artifacts."),
    Column("sha256", Text, nullable=False, doc="SHA-256 of the file."),
    Column("size", BigInteger, nullable=False, doc="Size of the file, in bytes."),
    Column("epochs", Integer, nullable=False, doc="Epochs trained."),
    Column("created_at", Double, nullable=False, doc="When it was recorded."),
    sqlite_autoincrement=True,
    info={"doc": "Where a checkpoint or trained weights are."},
)

test_reading = Table(
    "nas_test_reading",
    metadata,
    Column(
        "id",
        Integer,
        nullable=False,
        primary_key=True,
        autoincrement=True,
        doc="Number of the row, never used twice.",
    ),
    Column("study_id", Integer, nullable=False, index=True, doc="The study that this belongs to."),
    Column("read_at", Double, nullable=False, doc="When they were read."),
    Column("reason", Text, nullable=False, doc="What for."),
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
        Column("study_id", Integer, nullable=False, doc="The study that this belongs to."),
        Column("name", Text, nullable=False, doc=name),
        Column("content", Text, nullable=False, doc=content),
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
launch = _documents(
    "launch",
    doc="Launches of workers on a cluster.",
    name="Time of the launch.",
    content="What was launched, as JSON.",
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
