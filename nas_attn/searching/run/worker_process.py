"""A worker as a process of its own: its command, its settings, and how it is started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from nas_attn.storage.opening import OpenStudy
from nas_attn.system.environment import STORAGE, WORKER, take_worker_settings
from nas_attn.system.importing import trusts
from nas_attn.training.numerics import cores_for

# options in JSON's types, which a worker process has from the one that starts it
TOLD = ("device", "threads", "only", "workers")


@dataclass(frozen=True, slots=True)
class Told:
    """What a worker process is told by the one that starts it. It is in its environment, since all
    users can read a command line. Its standard input then says when to stop (`local.Child.send`).
    """

    # shown before each line
    name: str
    # the file into which it writes why it ended (`ending.Ending`)
    report: str
    # TOLD -> value
    options: Mapping[str, Any]
    # whether it may run code that the study names
    trusted: bool = field(default_factory=trusts)


def start_worker(opened: OpenStudy, told: Told, **options: Any) -> subprocess.Popen[bytes]:
    """Starts a worker; `options` as of Popen."""
    threads = told.options["threads"] or cores_for(told.options["workers"])
    variables = {
        **os.environ,
        STORAGE: opened.database.url,
        WORKER: json.dumps(asdict(told)),
        "OMP_NUM_THREADS": str(threads),
        # it prints the same everywhere, at once
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8:backslashreplace",
    }
    # -P: a random.py or torch.py in the working folder does not replace the library's. Modules that
    # the recipe names are found there all the same (`importing.load_object`).
    command = [sys.executable, "-P", "-m", "nas_attn", "worker", opened.store.name]
    return subprocess.Popen(command, stderr=subprocess.STDOUT, env=variables, **options)


def told() -> Told | None:
    """What this process was told, once; None if a person started it."""
    text = take_worker_settings()
    return None if text is None else Told(**json.loads(text))
