"""The first schema, from which earlier databases are upgraded; a new one begins with the last."""

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Does nothing: whatever has a revision has these tables."""
