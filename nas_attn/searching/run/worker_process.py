"""A worker as a process of its own: its command, its settings, and how it is started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from nas_attn.errors import StudyError
from nas_attn.system.environment import STORAGE, WORKER, take_worker_settings
from nas_attn.system.importing import trusts

# makes a process print the same everywhere
UTF8 = {"PYTHONIOENCODING": "utf-8:backslashreplace"}


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """Settings of a worker process. They are in its environment, since all users can read a command
    line.
    """

    # shown before each line
    name: str = "worker"
    device: str = "auto"
    # intra-op threads; None: the fastest number
    threads: int | None = None
    time_limit_s: float | None = None
    # `validate` or `retrain`: only these runs; None: all
    only: str | None = None
    # workers on this machine
    sharing: int = 1
    # workers on this GPU
    per_gpu: int = 1
    # whether it may run code that the study names
    trusted: bool = field(default_factory=trusts)
    # whether its standard input says when to stop (`stopping.Orders`)
    orders: bool = False
    # the file for its report (`ending.Report`); None: nobody reads it
    report: str | None = None

    def environment(self, url: str) -> dict[str, str]:
        """Variables to add to the process's environment; `url` is the database's."""
        return {STORAGE: url, WORKER: json.dumps(asdict(self)), "PYTHONUNBUFFERED": "1", **UTF8}


def worker_command(study: str, flags: Sequence[str] = ()) -> list[str]:
    # -P: a random.py or torch.py in the working folder does not replace the library's. Modules that
    # the recipe names are found there all the same (`importing.load_object`).
    return [sys.executable, "-P", "-m", "nas_attn", "worker", study, *flags]


def start_worker(
    study: str, environment: Mapping[str, str], **options: Any
) -> subprocess.Popen[bytes]:
    """Starts a worker with more in its environment; `options` as of Popen."""
    variables = {**os.environ, **environment}
    return subprocess.Popen(
        worker_command(study), stderr=subprocess.STDOUT, env=variables, **options
    )


def settings_given() -> WorkerSettings | None:
    """Settings of this process, given once; None if a person started it; StudyError if the variable
    holds something else.
    """
    text = take_worker_settings()
    if text is None:
        return None
    try:
        return WorkerSettings(**json.loads(text))
    except (ValueError, TypeError):
        raise StudyError(
            f"{WORKER} holds no settings of a worker: remove it from the environment"
        ) from None
