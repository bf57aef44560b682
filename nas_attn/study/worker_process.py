"""What a worker process is told by whoever starts it: in its environment, as everyone may read a command."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass

from nas_attn.errors import StudyError

SETTINGS = "NAS_ATTN_WORKER"
"""Environment variable that holds a worker's settings as JSON."""
STORAGE = "NAS_ATTN_STORAGE"
UTF8 = {"PYTHONIOENCODING": "utf-8:backslashreplace"}
"""Makes a process print the same everywhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """How one worker takes part in a study."""

    name: str = "worker"
    """Shown before each line."""
    device: str = "auto"
    threads: int | None = None
    """Intra-op threads; None: what proves quickest."""
    time_limit_s: float | None = None
    only: str | None = None
    """`validate` or `retrain`: the runs of these; None: all."""
    sharing: int = 1
    """Workers on this machine."""
    per_gpu: int = 1
    """Workers on this GPU."""
    orders: bool = False
    """Whether its standard input says when to stop (`stopping.Orders`)."""

    def environment(self, url: str) -> dict[str, str]:
        """What the process has beside the usual environment.

        Args:
            url: of the study's database.
        """
        return {STORAGE: url, SETTINGS: json.dumps(asdict(self)), "PYTHONUNBUFFERED": "1", **UTF8}


def worker_command(study: str) -> list[str]:
    """The command of one worker."""
    return [sys.executable, "-m", "nas_attn.cli.main", "worker", study]


def settings_given() -> WorkerSettings | None:
    """What this process was told, once; None where a person started it.

    Raises:
        StudyError: the variable holds something else.
    """
    text = os.environ.pop(SETTINGS, None)  # not for the processes that it starts
    if text is None:
        return None
    try:
        return WorkerSettings(**json.loads(text))
    except (ValueError, TypeError):
        raise StudyError(f"{SETTINGS} holds no settings of a worker: remove it from the environment") from None
