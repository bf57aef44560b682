"""A lease says how long it lasts, so that whoever watches it knows when it is over without a clock."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("nas_lease", sa.Column("ttl_s", sa.Double))
