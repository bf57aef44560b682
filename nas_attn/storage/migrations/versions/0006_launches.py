"""Workers are started by scripts of the user, which a study does not remember."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.drop_table("nas_launch")
