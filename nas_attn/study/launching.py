"""Workers on engines that exist: Slurm, Ray, this machine. `launch` starts them and returns; `status` and `stop` reach all.

What is launched is `nas-attn worker STUDY`, nothing else: the engine gives it a place, restarts it where it dies, and the
study's database does the rest. Each launch is kept in the study, so that `stop` and `status` know of it
from any machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from nas_attn.errors import StudyError
from nas_attn.processes import Process, process
from nas_attn.study.opening import OpenStudy


@dataclass(frozen=True, slots=True)
class Wish:
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
    """Further options of Slurm's sbatch."""


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

    def launch(self, opened: OpenStudy, wish: Wish, logs: Path) -> list[str]:
        """Starts the workers; names of their jobs."""

    def state(self, launched: Launched) -> str:
        """What the engine says of them, in words; empty where none is left."""

    def end(self, launched: Launched) -> None:
        """Takes back those that have not begun; those that have are told by the study."""


def launch(opened: OpenStudy, on: str, wish: Wish) -> Launched:
    """Starts workers of a study on an engine.

    Raises:
        StudyError: the engine is not there, or the study's database cannot be reached from it.
    """
    if on != "local" and opened.store.is_local:
        raise StudyError(
            f"study '{opened.store.name}' lies in an SQLite file, which serves the processes of one machine: begin it in "
            "PostgreSQL (--storage postgresql+psycopg://…), or launch --on local"
        )
    logs = opened.folder / "launched"
    logs.mkdir(parents=True, exist_ok=True)
    jobs = engine(on).launch(opened, wish, logs)
    found = Launched(on, tuple(jobs), os.uname().nodename, opened.database.now())
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
        _need("submitit", "slurm")
        from nas_attn.study.on_slurm import Slurm

        return Slurm()
    if name == "ray":
        _need("ray", "ray")
        from nas_attn.study.on_ray import Ray

        return Ray()
    raise StudyError(f"--on '{name}' is no engine: give slurm, ray or local")


def worker_command(opened: OpenStudy, wish: Wish) -> list[str]:
    """The command of one worker; the database comes by the environment, since everyone may read a command."""
    command = [sys.executable, "-m", "nas_attn.cli.main", "worker", opened.store.name, "--device", wish.device]
    return command


def worker_environment(opened: OpenStudy, wish: Wish) -> dict[str, str]:
    """What its environment has beside the usual."""
    return {"NAS_ATTN_STORAGE": opened.url_of_database, "OMP_NUM_THREADS": str(wish.cpus), "PYTHONUNBUFFERED": "1"}


class Local:
    """Processes of this machine that outlive the terminal."""

    def launch(self, opened: OpenStudy, wish: Wish, logs: Path) -> list[str]:
        if wish.partition or wish.minutes or wish.more:
            raise StudyError("--partition, --minutes and --option are Slurm's: leave them out with --on local")
        from nas_attn.study.sharing import devices_of, shares_of  # and torch with it

        devices, jobs = devices_of(wish.device, wish.workers), []
        for number, (device, share) in enumerate(zip(devices, shares_of(devices), strict=True), 1):
            command = worker_command(opened, wish)
            command[command.index("--device") + 1] = device
            command += ["--sharing", str(share.machine), "--per-gpu", str(share.device), "--name", f"worker {number}"]
            log = logs / f"{opened.store.name}-{os.getpid()}-{number}.log"
            with log.open("ab") as output:
                started = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **worker_environment(opened, wish)},
                    start_new_session=True,
                )
            seen = process(started.pid)
            jobs.append(f"{started.pid}/{seen.started if seen else -1}")
        return jobs

    def state(self, launched: Launched) -> str:
        if launched.host != os.uname().nodename:
            return f"on {launched.host}"
        running = 0
        for job in launched.jobs:
            pid, _, started = job.partition("/")
            running += Process(int(pid), started).runs
        return f"{running} running" if running else ""

    def end(self, launched: Launched) -> None:
        return None


def _need(module: str, extra: str) -> None:
    if find_spec(module) is None:
        raise StudyError(f"--on {extra} needs {module}: pip install 'nas-attn[{extra}]'")
