"""What the engines for workers have in common: what is asked of them, and what they have started."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from nas_attn.errors import StudyError
from nas_attn.processes import Process, apart, process
from nas_attn.study.opening import OpenStudy
from nas_attn.study.worker_process import WorkerSettings, worker_command


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of an engine."""

    workers: int
    device: str = "auto"
    gpus: float = 0.0
    """Per worker; parts of one on Ray only."""
    cpus: int = 1
    """Per worker."""
    minutes: int | None = None
    """Slurm's time limit for each; the worker stops in order before it, and is queued again."""
    partition: str | None = None
    more: Mapping[str, str] = field(default_factory=dict)
    """Further options of Slurm's sbatch; an empty value is an option without one."""


@dataclass(frozen=True, slots=True)
class Launched:
    """What was launched."""

    on: str
    jobs: tuple[str, ...]
    """Jobs of Slurm, names of Ray's actors, processes."""
    host: str
    at: float
    """Unix seconds by the database's clock."""


class Engine(Protocol):
    """Where workers can be launched."""

    def launch(self, opened: OpenStudy, request: Request, logs: Path) -> list[str]:
        """Starts the workers; names of their jobs."""

    def state(self, launched: Launched) -> str:
        """What the engine says of them, in words; empty where none is left."""

    def end(self, launched: Launched) -> int:
        """Takes back those that have not begun, and counts them; those that have are told by the study."""


def worker_environment(opened: OpenStudy, request: Request, settings: WorkerSettings) -> dict[str, str]:
    """What a worker's environment has beside the usual."""
    return settings.environment(opened.database.url) | {"OMP_NUM_THREADS": str(request.cpus)}


def refuse_slurms(request: Request, engine: str) -> None:
    """Raises:
    StudyError: something is asked that only Slurm has.
    """
    if request.partition or request.minutes or request.more:
        raise StudyError(f"partition, minutes and further options are Slurm's: leave them out on {engine}")


class Local:
    """Processes of this machine that outlive the terminal."""

    def launch(self, opened: OpenStudy, request: Request, logs: Path) -> list[str]:
        refuse_slurms(request, "local")
        from nas_attn.study.sharing import devices_of, shares_of  # and torch with it

        devices, jobs = devices_of(request.device, request.workers), []
        for number, (device, share) in enumerate(zip(devices, shares_of(devices), strict=True), 1):
            settings = WorkerSettings(
                name=f"worker {number}", device=device, sharing=share.machine, per_gpu=share.device
            )
            log = logs / f"{opened.store.name}-{os.getpid()}-{number}.log"
            with log.open("ab") as output:
                started = subprocess.Popen(
                    worker_command(opened.store.name),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **worker_environment(opened, request, settings)},
                    **apart(),
                )
            seen = process(started.pid)
            jobs.append(f"{started.pid}/{seen.started if seen else -1}")
        return jobs

    def state(self, launched: Launched) -> str:
        if launched.host != socket.gethostname():
            return f"on {launched.host}"
        running = 0
        for job in launched.jobs:
            pid, _, started = job.partition("/")
            running += Process(int(pid), started).runs
        return f"{running} running" if running else ""

    def end(self, launched: Launched) -> int:
        return 0
