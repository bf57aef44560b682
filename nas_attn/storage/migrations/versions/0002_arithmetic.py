"""How a study computes, and how each of its runs did. Studies from before have nothing there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "nas_arithmetic",
        sa.Column("study_id", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("study_id", "name", name="nas_arithmetic_pkey"),
    )
    op.add_column("nas_study", sa.Column("batches", sa.Text, nullable=True))
    op.add_column("nas_score", sa.Column("arithmetic", sa.Text, nullable=True))
