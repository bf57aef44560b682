"""The queue of runs; scores say how they were trained and from which backbone. Studies begun before have one backbone."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    _widen_scores()
    op.create_table(
        "nas_run",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("study_id", sa.Integer, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("placement", sa.Text, nullable=False),
        sa.Column("way", sa.Text, nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("backbone", sa.Integer, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("wanted_at", sa.Double, nullable=False),
        sa.UniqueConstraint("study_id", "key", "way", "seed", "backbone", name="nas_run_identity"),
        sqlite_autoincrement=True,
    )
    op.create_index("nas_run_state", "nas_run", ["study_id", "state"])
    _enter_runs()
    _rename_checkpoints()
    _one_backbone()
    op.execute("UPDATE nas_attribute SET name = 'backbone/search/0' WHERE name = 'backbone'")


def _widen_scores() -> None:
    """SQLite changes no primary key, so the rows move into a new table."""
    op.rename_table("nas_score", "nas_score_old")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE nas_score_old DROP CONSTRAINT nas_score_pkey")
    op.create_table(
        "nas_score",
        sa.Column("study_id", sa.Integer, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("way", sa.Text, nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("backbone", sa.Integer, nullable=False),
        sa.Column("rung", sa.Integer, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("epochs", sa.Integer, nullable=False),
        sa.Column("metrics", sa.Text, nullable=False),
        sa.Column("examples", sa.Integer, nullable=False),
        sa.Column("wall_s", sa.Double, nullable=False),
        sa.Column("device_s", sa.Double, nullable=False),
        sa.Column("correct", sa.LargeBinary),
        sa.PrimaryKeyConstraint("study_id", "key", "way", "seed", "backbone", "rung", name="nas_score_pkey"),
    )
    same = "epochs, metrics, examples, wall_s, device_s, correct"
    # Of a run scored for two purposes (an earlier fault), the later name's stays: `search` after `confirm`.
    op.execute(
        f"INSERT INTO nas_score (study_id, key, way, seed, backbone, rung, purpose, {same}) "
        f"SELECT study_id, key, 'search', seed, 0, rung, purpose, {same} FROM nas_score_old AS old WHERE purpose = "
        "(SELECT max(purpose) FROM nas_score_old WHERE study_id = old.study_id AND key = old.key AND seed = old.seed "
        "AND rung = old.rung)"
    )
    op.drop_table("nas_score_old")


def _enter_runs() -> None:
    """Runs that have scores are in the queue as done, those of a candidate that is under way as waiting."""
    op.execute(
        "INSERT INTO nas_run (study_id, key, placement, way, seed, backbone, purpose, priority, state, reason, attempts, "
        "wanted_at) SELECT s.study_id, s.key, max(coalesce(c.placement, 'none')), 'search', s.seed, 0, max(s.purpose), 0, "
        "max(CASE WHEN c.state = 'running' THEN 'waiting' WHEN c.state = 'pruned' THEN 'pruned' ELSE 'done' END), '', 0, "
        "max(coalesce(c.created_at, 0)) FROM nas_score AS s LEFT JOIN nas_candidate AS c "
        "ON c.study_id = s.study_id AND c.key = s.key GROUP BY s.study_id, s.key, s.seed"
    )


def _rename_checkpoints() -> None:
    """`search:KEY:SEED` and `confirm:KEY:SEED` become `search:KEY:SEED:0`; the backbone's joins them."""
    connection = op.get_bind()
    rows = connection.execute(sa.text("SELECT id, run FROM nas_checkpoint")).all()
    for row in rows:
        purpose, _, rest = row.run.partition(":")
        if purpose in ("search", "confirm"):
            name = f"search:{rest}:0"
            connection.execute(
                sa.text("UPDATE nas_checkpoint SET run = :name WHERE id = :id"), {"name": name, "id": row.id}
            )


def _one_backbone() -> None:
    """A recipe frozen without a number of backbones meant one."""
    connection = op.get_bind()
    for row in connection.execute(sa.text("SELECT id, recipe FROM nas_study")).all():
        try:
            recipe = json.loads(row.recipe)
        except ValueError:
            continue
        training = recipe.get("training") if isinstance(recipe, dict) else None
        if isinstance(training, dict):
            training.setdefault("backbones", 1)
            text = json.dumps(recipe)
            connection.execute(
                sa.text("UPDATE nas_study SET recipe = :text WHERE id = :id"), {"text": text, "id": row.id}
            )
