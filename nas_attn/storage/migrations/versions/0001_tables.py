"""The first schema: the tables of `storage.tables`. Before a second revision, write them out here
as they are then.
"""

from alembic import op

from nas_attn.storage.tables import metadata

revision = "0001"
down_revision = None


def upgrade() -> None:
    metadata.create_all(op.get_bind(), checkfirst=False)
