"""Workers on engines that exist: Slurm, Ray, this machine. `launch` starts them and returns; `status` and `stop` reach all.

What is launched is `nas-attn worker STUDY`, nothing else: the engine gives it a place, restarts it where it dies, and the
study's database does the rest. Each launch is kept in the study, so that `stop` and `status` know of it
from any machine.
"""

from __future__ import annotations

import json
import socket
from dataclasses import asdict
from importlib.util import find_spec

from nas_attn.errors import StudyError
from nas_attn.study.engines import Engine, Launched, Local, Request
from nas_attn.study.opening import OpenStudy

LOGS = "launched"
"""The folder with the workers' output, in the folder of the study's artifacts."""


def launch(opened: OpenStudy, on: str, request: Request) -> Launched:
    """Starts workers of a study on an engine.

    Raises:
        StudyError: the engine is not there, or the study's database cannot be reached from it.
    """
    if on != "local" and opened.store.is_local:
        raise StudyError(
            f"study '{opened.store.name}' lies in an SQLite file, which serves the processes of one machine: begin it in "
            "PostgreSQL (storage postgresql+psycopg://…), or launch on local"
        )
    logs = opened.folder / LOGS
    logs.mkdir(parents=True, exist_ok=True)
    jobs = engine(on).launch(opened, request, logs)
    found = Launched(on, tuple(jobs), socket.gethostname(), opened.database.now())
    opened.store.launches.put(f"{found.at:.3f}", json.dumps(asdict(found)))
    return found


def launches(opened: OpenStudy) -> list[Launched]:
    """All launches of a study, the oldest first."""
    rows = [json.loads(text) for text in opened.store.launches.all().values()]
    found = [Launched(row["on"], tuple(row["jobs"]), row["host"], row["at"]) for row in rows]
    return sorted(found, key=lambda launched: launched.at)


def engine(name: str) -> Engine:
    """Raises:
    StudyError: there is no such engine, or what it needs is not installed.
    """
    if name == "local":
        return Local()
    if name == "slurm":
        from nas_attn.study.on_slurm import Slurm

        return Slurm()
    if name == "ray":
        if find_spec("ray") is None:
            raise StudyError("ray is not installed: pip install 'nas-attn[ray]'")
        from nas_attn.study.on_ray import Ray

        return Ray()
    raise StudyError(f"'{name}' is no engine: give slurm, ray or local")
