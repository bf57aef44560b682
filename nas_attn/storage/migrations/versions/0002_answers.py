"""Scores also hold what a task says image by image, and how fast and with how much memory a run was trained."""

import sqlalchemy as sa
from alembic import op

from nas_attn.storage.tables import score

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    there = {column["name"] for column in sa.inspect(op.get_bind()).get_columns(score.name)}
    for name in {"answers", "peak_bytes", "images_per_s"} - there:  # a new database has them
        op.add_column(score.name, sa.Column(name, score.c[name].type, nullable=True))
