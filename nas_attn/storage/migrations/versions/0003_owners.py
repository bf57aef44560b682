"""Workers stay in their table; scores and sessions name theirs. Null: from before this revision."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("nas_worker", sa.Column("left_at", sa.Double, nullable=True))
    op.add_column("nas_worker", sa.Column("ending", sa.Text, nullable=True))
    for table in ("nas_score", "nas_session"):
        op.add_column(table, sa.Column("owner", sa.Text, nullable=True))
        op.add_column(table, sa.Column("recorded_at", sa.Double, nullable=True))
