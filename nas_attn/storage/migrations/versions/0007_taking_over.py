"""Whether a study is still taking over what another one has."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("nas_study", sa.Column("taking_over", sa.Text, nullable=True))
