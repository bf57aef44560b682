"""Studies in a database: our tables beside Optuna's, and the only SQL in nas_attn. No torch, no Optuna."""

from nas_attn.storage.connection import optuna_engine_arguments
from nas_attn.storage.database import PART, Database
from nas_attn.storage.rows import CheckpointRow, Lease, LeaseRow, SplitReading, StoredScore, StudySummary
from nas_attn.storage.store import StudyStore
from nas_attn.storage.url import shown_url

__all__ = [
    "PART",
    "CheckpointRow",
    "Database",
    "Lease",
    "LeaseRow",
    "SplitReading",
    "StoredScore",
    "StudyStore",
    "StudySummary",
    "optuna_engine_arguments",
    "shown_url",
]
