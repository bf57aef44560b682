"""The first schema, as it was before the second revision."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def _columns(kind: Any, names: str, *, nullable: bool = False) -> list[sa.Column[Any]]:
    return [sa.Column(name, kind, nullable=nullable) for name in names.split()]


def _number() -> sa.Column[Any]:
    return sa.Column("id", sa.Integer, primary_key=True, autoincrement=True)


def _numbered(name: str, *rest: Any) -> None:
    """A table of a study with numbered rows; no number is used twice."""
    study_id = sa.Column("study_id", sa.Integer, nullable=False, index=True)
    op.create_table(name, _number(), study_id, *rest, sqlite_autoincrement=True)


def _keyed(name: str, keys: str, *rest: sa.Column[Any]) -> None:
    """A table with the study and these columns as its key."""
    key = sa.PrimaryKeyConstraint("study_id", *keys.split(), name=f"{name}_pkey")
    op.create_table(name, *_columns(sa.Integer, "study_id"), *rest, key)


def upgrade() -> None:
    op.create_table(
        "nas_study",
        _number(),
        *_columns(sa.Text, "name recipe versions artifacts"),
        *_columns(sa.Text, "fingerprint sites prior published swept", nullable=True),
        *_columns(sa.Double, "created_at"),
        *_columns(
            sa.Double, "stop_asked_at screen_until test_from ends_at publish_at", nullable=True
        ),
        *_columns(sa.Integer, "trials rounds_before"),
        *_columns(sa.Integer, "confirmed_trials", nullable=True),
        sa.UniqueConstraint("name", name="nas_study_name"),
        sqlite_autoincrement=True,
    )
    _keyed(
        "nas_lease",
        "resource",
        *_columns(sa.Text, "resource owner"),
        *_columns(sa.Integer, "number"),
        *_columns(sa.Double, "expires_at ttl_s"),
        *_columns(sa.Boolean, "released"),
    )
    _keyed(
        "nas_worker",
        "owner",
        *_columns(sa.Text, "owner device doing waiting"),
        *_columns(sa.Double, "began_at since seen_at"),
    )
    _keyed(
        "nas_candidate",
        "key",
        *_columns(sa.Text, "key placement state reason"),
        *_columns(sa.Text, "baseline costs", nullable=True),
        *_columns(sa.Integer, "trial"),
        *_columns(sa.Boolean, "by_prior"),
        *_columns(sa.Double, "created_at"),
        *_columns(sa.Double, "finished_at", nullable=True),
    )
    _keyed(
        "nas_score",
        "key protocol seed backbone rung",
        *_columns(sa.Text, "key protocol purpose metrics"),
        *_columns(sa.BigInteger, "seed"),
        *_columns(sa.Integer, "backbone rung epochs examples"),
        *_columns(sa.Double, "wall_s device_s"),
        *_columns(sa.LargeBinary, "correct answers", nullable=True),
    )
    op.create_table(
        "nas_run",
        _number(),
        *_columns(sa.Text, "key placement protocol purpose state reason"),
        *_columns(sa.BigInteger, "seed"),
        *_columns(sa.Integer, "study_id backbone round priority attempts"),
        *_columns(sa.Double, "finished_at", nullable=True),
        sa.UniqueConstraint(
            "study_id", "key", "protocol", "seed", "backbone", name="nas_run_identity"
        ),
        sa.Index("nas_run_state", "study_id", "state"),
        sqlite_autoincrement=True,
    )
    _numbered("nas_session", *_columns(sa.Double, "started_at"), *_columns(sa.Text, "document"))
    _numbered(
        "nas_checkpoint",
        *_columns(sa.Text, "run artifact sha256"),
        *_columns(sa.BigInteger, "size"),
        *_columns(sa.Integer, "epochs"),
        *_columns(sa.Double, "created_at"),
    )
    _numbered("nas_test_reading", *_columns(sa.Double, "read_at"), *_columns(sa.Text, "reason"))
    for name in ("protocol", "backbone", "weights_lost", "curve", "labels", "validation", "launch"):
        _keyed(f"nas_{name}", "name", *_columns(sa.Text, "name content"))
