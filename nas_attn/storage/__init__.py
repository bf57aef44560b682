"""Studies in a database: our tables beside Optuna's, and the only SQL in nas_attn. No torch, no Optuna."""

from nas_attn.storage.connection import explained, optuna_engine_arguments, shown_url, translate_errors
from nas_attn.storage.database import Database
from nas_attn.storage.rows import (
    SEARCH,
    CheckpointRow,
    Lease,
    LeaseRow,
    Run,
    RunRow,
    SplitReading,
    StoredScore,
    StudySettings,
    StudySummary,
    WorkerRow,
)
from nas_attn.storage.store import StudyStore

__all__ = [
    "SEARCH",
    "CheckpointRow",
    "Database",
    "Lease",
    "LeaseRow",
    "Run",
    "RunRow",
    "SplitReading",
    "StoredScore",
    "StudySettings",
    "StudyStore",
    "StudySummary",
    "WorkerRow",
    "explained",
    "optuna_engine_arguments",
    "shown_url",
    "translate_errors",
]
