"""Who works on a study, and when each candidate was finished."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
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
    op.add_column("nas_candidate", sa.Column("finished_at", sa.Double))
