"""Whether a search has tried its whole space. A study from before learns it at its next search."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("nas_study", sa.Column("exhausted_at", sa.Double, nullable=True))
