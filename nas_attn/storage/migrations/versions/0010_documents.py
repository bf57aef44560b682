"""Documents of all kinds are in one table."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

KINDS = (
    "protocol",
    "backbone",
    "weights_lost",
    "curve",
    "labels",
    "validation",
    "arithmetic",
    "images",
)


def upgrade() -> None:
    op.create_table(
        "nas_document",
        sa.Column("study_id", sa.Integer, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("study_id", "kind", "name", name="nas_document_pkey"),
    )
    for kind in KINDS:
        op.execute(
            "INSERT INTO nas_document (study_id, kind, name, content)"
            f" SELECT study_id, '{kind}', name, content FROM nas_{kind}"
        )
        op.drop_table(f"nas_{kind}")
