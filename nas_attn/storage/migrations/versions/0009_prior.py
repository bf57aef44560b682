"""A search has no prior any more."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.drop_column("nas_study", "prior")
    op.drop_column("nas_candidate", "by_prior")
