"""Tables and columns that came after the first schema; a new database has them."""

import sqlalchemy as sa
from alembic import op

from nas_attn.storage.tables import metadata

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    metadata.create_all(op.get_bind())
    for table in metadata.sorted_tables:
        there = {column["name"] for column in sa.inspect(op.get_bind()).get_columns(table.name)}
        for column in (column for column in table.columns if column.name not in there):
            default = None if column.nullable else "0"
            op.add_column(
                table.name, sa.Column(column.name, column.type, nullable=column.nullable, server_default=default)
            )
