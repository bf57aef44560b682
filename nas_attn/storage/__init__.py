"""Studies in a database: our tables beside Optuna's, and the only SQL in nas_attn. No torch, no
Optuna.
"""

from nas_attn.storage.connection import optuna_engine_arguments
from nas_attn.storage.database import Database
from nas_attn.storage.rows import (
    CheckpointRow,
    FormerWorker,
    Lease,
    NamePlace,
    Run,
    RunRow,
    StudySummary,
    WorkerRow,
)
from nas_attn.storage.store import StudyStore
from nas_attn.storage.urls import shown_url, sqlite_url

__all__ = [
    "CheckpointRow",
    "Database",
    "FormerWorker",
    "Lease",
    "NamePlace",
    "Run",
    "RunRow",
    "StudyStore",
    "StudySummary",
    "WorkerRow",
    "optuna_engine_arguments",
    "shown_url",
    "sqlite_url",
]
