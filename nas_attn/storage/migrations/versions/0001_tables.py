"""The first schema, written out as it was before the second revision."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    _create_study()
    _create_lease()
    _create_worker()
    _create_candidate()
    _create_score()
    _create_run()
    _create_session()
    _create_checkpoint()
    _create_test_reading()
    for name in (
        "protocol",
        "backbone",
        "weights_lost",
        "curve",
        "labels",
        "validation",
        "launch",
    ):
        _create_documents(f"nas_{name}")


def _create_study() -> None:
    op.create_table(
        "nas_study",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("recipe", sa.Text, nullable=False),
        sa.Column("versions", sa.Text, nullable=False),
        sa.Column("artifacts", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=True),
        sa.Column("sites", sa.Text, nullable=True),
        sa.Column("prior", sa.Text, nullable=True),
        sa.Column("published", sa.Text, nullable=True),
        sa.Column("swept", sa.Text, nullable=True),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("stop_asked_at", sa.Double, nullable=True),
        sa.Column("screen_until", sa.Double, nullable=True),
        sa.Column("test_from", sa.Double, nullable=True),
        sa.Column("ends_at", sa.Double, nullable=True),
        sa.Column("publish_at", sa.Double, nullable=True),
        sa.Column("trials", sa.Integer, nullable=False),
        sa.Column("rounds_before", sa.Integer, nullable=False),
        sa.Column("confirmed_trials", sa.Integer, nullable=True),
        sa.UniqueConstraint("name", name="nas_study_name"),
        sqlite_autoincrement=True,
    )


def _create_lease() -> None:
    op.create_table(
        "nas_lease",
        sa.Column("study_id", sa.Integer, nullable=False),
        sa.Column("resource", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.Column("ttl_s", sa.Double, nullable=False),
        sa.Column("released", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("study_id", "resource", name="nas_lease_pkey"),
    )


def _create_worker() -> None:
    op.create_table(
        "nas_worker",
        sa.Column("study_id", sa.Integer, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("device", sa.Text, nullable=False),
        sa.Column("doing", sa.Text, nullable=False),
        sa.Column("waiting", sa.Text, nullable=False),
        sa.Column("began_at", sa.Double, nullable=False),
        sa.Column("since", sa.Double, nullable=False),
        sa.Column("seen_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("study_id", "owner", name="nas_worker_pkey"),
    )


def _create_candidate() -> None:
    op.create_table(
        "nas_candidate",
        sa.Column("study_id", sa.Integer, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("placement", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("baseline", sa.Text, nullable=True),
        sa.Column("costs", sa.Text, nullable=True),
        sa.Column("trial", sa.Integer, nullable=False),
        sa.Column("by_prior", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("finished_at", sa.Double, nullable=True),
        sa.PrimaryKeyConstraint("study_id", "key", name="nas_candidate_pkey"),
    )


def _create_score() -> None:
    op.create_table(
        "nas_score",
        sa.Column("study_id", sa.Integer, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("protocol", sa.Text, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("metrics", sa.Text, nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("backbone", sa.Integer, nullable=False),
        sa.Column("rung", sa.Integer, nullable=False),
        sa.Column("epochs", sa.Integer, nullable=False),
        sa.Column("examples", sa.Integer, nullable=False),
        sa.Column("wall_s", sa.Double, nullable=False),
        sa.Column("device_s", sa.Double, nullable=False),
        sa.Column("correct", sa.LargeBinary, nullable=True),
        sa.Column("answers", sa.LargeBinary, nullable=True),
        sa.PrimaryKeyConstraint(
            "study_id", "key", "protocol", "seed", "backbone", "rung", name="nas_score_pkey"
        ),
    )


def _create_run() -> None:
    op.create_table(
        "nas_run",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("placement", sa.Text, nullable=False),
        sa.Column("protocol", sa.Text, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("study_id", sa.Integer, nullable=False),
        sa.Column("backbone", sa.Integer, nullable=False),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("finished_at", sa.Double, nullable=True),
        sa.UniqueConstraint(
            "study_id", "key", "protocol", "seed", "backbone", name="nas_run_identity"
        ),
        sa.Index("nas_run_state", "study_id", "state"),
        sqlite_autoincrement=True,
    )


def _create_session() -> None:
    op.create_table(
        "nas_session",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("study_id", sa.Integer, nullable=False, index=True),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )


def _create_checkpoint() -> None:
    op.create_table(
        "nas_checkpoint",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("study_id", sa.Integer, nullable=False, index=True),
        sa.Column("run", sa.Text, nullable=False),
        sa.Column("artifact", sa.Text, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("epochs", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sqlite_autoincrement=True,
    )


def _create_test_reading() -> None:
    op.create_table(
        "nas_test_reading",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("study_id", sa.Integer, nullable=False, index=True),
        sa.Column("read_at", sa.Double, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )


def _create_documents(name: str) -> None:
    op.create_table(
        name,
        sa.Column("study_id", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("study_id", "name", name=f"{name}_pkey"),
    )
