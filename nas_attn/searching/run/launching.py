"""Workers on Slurm, Ray or this machine: an engine starts and restarts `nas-attn worker STUDY`."""

from __future__ import annotations

import json
import socket
from dataclasses import asdict
from importlib.util import find_spec

from nas_attn.errors import StorageError, StudyError
from nas_attn.searching.run.engines.base import LOGS, Engine, Launched, Request
from nas_attn.searching.run.engines.ray import Ray
from nas_attn.searching.run.engines.slurm import Slurm
from nas_attn.searching.run.engines.this_machine import Local
from nas_attn.storage.opening import OpenStudy


def launch(opened: OpenStudy, on: str, request: Request, where: Engine | None = None) -> Launched:
    """Starts workers of a study on an engine; `where`: the engine of this name, if its workers will
    be watched. StudyError if the engine is missing, or cannot reach the study's database.
    """
    if on != "local" and opened.store.is_local:
        why = (
            f"study '{opened.store.name}' lies in an SQLite file, which serves the processes of one"
            " machine"
        )
        raise StudyError(
            f"{why}: begin it in PostgreSQL (storage postgresql+psycopg://…), or launch on local"
        )
    logs = opened.make_folder() / LOGS
    logs.mkdir(exist_ok=True)
    where = where or engine(on)
    jobs = where.launch(opened, request, logs)
    launched = Launched(on, tuple(jobs), socket.gethostname(), opened.database.now())
    opened.store.launches.put(f"{launched.at:.3f}", json.dumps(asdict(launched)))
    return launched


def launches(opened: OpenStudy) -> list[Launched]:
    """All launches of a study, the oldest first; StorageError if the record of one is damaged."""
    try:
        rows = [json.loads(text) for text in opened.store.launches.all().values()]
        kept = [
            Launched(row["on"], tuple(map(str, row["jobs"])), str(row["host"]), float(row["at"]))
            for row in rows
        ]
    except (ValueError, KeyError, TypeError) as error:
        lost = (
            f"study '{opened.store.name}' in '{opened.database}' has a damaged record of a launch"
        )
        raise StorageError(
            f"{lost} ({type(error).__name__}): restore the database from a backup"
        ) from None
    return sorted(kept, key=lambda launched: launched.at)


def engine(name: str) -> Engine:
    """The engine of this name. Raises StudyError: there is none, or its package is not
    installed.
    """
    engines: dict[str, type[Engine]] = {"local": Local, "slurm": Slurm, "ray": Ray}
    if name not in engines:
        raise StudyError(f"'{name}' is not an engine: give slurm, ray or local")
    if name == "ray" and find_spec("ray") is None:
        raise StudyError("ray is not installed: pip install 'nas-attn[ray]'")
    return engines[name]()
