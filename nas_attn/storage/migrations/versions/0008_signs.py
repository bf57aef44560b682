"""One sign of life a worker, in its row: leases have none of their own."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.drop_column("nas_lease", "expires_at")
    op.drop_column("nas_lease", "ttl_s")
    op.drop_column("nas_study", "publish_at")
