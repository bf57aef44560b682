"""Our tables, beside Optuna's in the same database: prefix `nas_`, own MetaData, no foreign key into Optuna's.

A study's rows carry its number (`study_id`), which is never given out twice, so that a worker of a deleted study cannot
write into a new one of the same name. There are no foreign keys: SQLite enforces them only if every program that opens
the file asks for it, and `Database.delete_study` deletes from all tables in one transaction.

Mappings and tuples are stored as JSON text: PostgreSQL's own JSON type refuses NaN, which a diverged loss is.
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

PREFIX = "nas_"
VERSION_TABLE = "nas_alembic_version"

metadata = MetaData()

study = Table(
    "nas_study",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("name", Text, nullable=False),
    Column("recipe", Text, nullable=False),
    Column("versions", Text, nullable=False),
    Column("fingerprint", Text),
    Column("created_at", Double, nullable=False),
    Column("trials", Integer, nullable=False),
    Column("artifacts", Text, nullable=False),
    Column("sites", Text),
    Column("confirmed_trials", Integer),
    Column("duels_before", Integer, nullable=False),
    Column("stop_asked_at", Double),
    Column("screen_until", Double),
    Column("test_from", Double),
    Column("ends_at", Double),
    Column("published", Text),
    Column("publish_at", Double),
    Column("swept", Text),
    UniqueConstraint("name", name="nas_study_name"),
    sqlite_autoincrement=True,
)

lease = Table(
    "nas_lease",
    metadata,
    Column("study_id", Integer, nullable=False),
    Column("resource", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("released", Boolean, nullable=False),
    Column("ttl_s", Double, nullable=False),
    PrimaryKeyConstraint("study_id", "resource", name="nas_lease_pkey"),
)

worker = Table(
    "nas_worker",
    metadata,
    Column("study_id", Integer, nullable=False),
    Column("owner", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("doing", Text, nullable=False),
    Column("waiting", Text, nullable=False),
    Column("began_at", Double, nullable=False),
    Column("since", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
    PrimaryKeyConstraint("study_id", "owner", name="nas_worker_pkey"),
)

candidate = Table(
    "nas_candidate",
    metadata,
    Column("study_id", Integer, nullable=False),
    Column("key", Text, nullable=False),
    Column("placement", Text, nullable=False),
    Column("trial", Integer, nullable=False),
    Column("baseline", Text),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("costs", Text),
    Column("created_at", Double, nullable=False),
    Column("finished_at", Double),
    PrimaryKeyConstraint("study_id", "key", name="nas_candidate_pkey"),
)

score = Table(
    "nas_score",
    metadata,
    Column("study_id", Integer, nullable=False),
    Column("key", Text, nullable=False),
    Column("way", Text, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("backbone", Integer, nullable=False),
    Column("rung", Integer, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("epochs", Integer, nullable=False),
    Column("metrics", Text, nullable=False),
    Column("examples", Integer, nullable=False),
    Column("wall_s", Double, nullable=False),
    Column("device_s", Double, nullable=False),
    Column("correct", LargeBinary),
    PrimaryKeyConstraint("study_id", "key", "way", "seed", "backbone", "rung", name="nas_score_pkey"),
)

run = Table(
    "nas_run",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("study_id", Integer, nullable=False),
    Column("key", Text, nullable=False),
    Column("placement", Text, nullable=False),
    Column("way", Text, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("backbone", Integer, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("round", Integer, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("wanted_at", Double, nullable=False),
    UniqueConstraint("study_id", "key", "way", "seed", "backbone", name="nas_run_identity"),
    Index("nas_run_state", "study_id", "state"),
    sqlite_autoincrement=True,
)

session = Table(
    "nas_session",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("study_id", Integer, nullable=False, index=True),
    Column("started_at", Double, nullable=False),
    Column("document", Text, nullable=False),
    sqlite_autoincrement=True,
)

checkpoint = Table(
    "nas_checkpoint",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("study_id", Integer, nullable=False, index=True),
    Column("run", Text, nullable=False),
    Column("artifact", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("epochs", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    sqlite_autoincrement=True,
)


def _documents(name: str) -> Table:
    return Table(
        name,
        metadata,
        Column("study_id", Integer, nullable=False),
        Column("name", Text, nullable=False),
        Column("content", Text, nullable=False),
        PrimaryKeyConstraint("study_id", "name", name=f"{name}_pkey"),
    )


way = _documents("nas_way")
backbone = _documents("nas_backbone")
weights_lost = _documents("nas_weights_lost")
curve = _documents("nas_curve")
labels = _documents("nas_labels")
validation = _documents("nas_validation")
launch = _documents("nas_launch")

test_reading = Table(
    "nas_test_reading",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("study_id", Integer, nullable=False, index=True),
    Column("read_at", Double, nullable=False),
    Column("reason", Text, nullable=False),
    sqlite_autoincrement=True,
)
