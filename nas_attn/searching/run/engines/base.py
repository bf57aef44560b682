"""Where workers can be launched: what an engine is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from nas_attn.answer.workers import FailedStart, LaunchState
from nas_attn.errors import StudyError
from nas_attn.searching.run.worker_process import WorkerSettings
from nas_attn.storage.opening import OpenStudy

# the folder with the workers' output, in the folder of the study's artifacts
LOGS = "launched"


@dataclass(frozen=True, slots=True)
class Request:
    """A request to an engine; GPUs and CPUs are per worker."""

    workers: int
    device: str = "auto"
    gpus: float = 0.0
    cpus: int = 1
    # Slurm's time limit for each; the worker stops in order before it, and is queued again
    minutes: int | None = None
    partition: str | None = None
    # further options of sbatch; empty: an option without value
    more: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Launched:
    on: str
    # jobs of Slurm, names of Ray's actors, processes
    jobs: tuple[str, ...]
    host: str
    # Unix seconds by the database's clock
    at: float


class Engine(Protocol):
    """Where workers can be launched."""

    def launch(self, opened: OpenStudy, request: Request, logs: Path) -> list[str]:
        """Starts the workers; names of their jobs."""

    def watch(self, opened: OpenStudy) -> list[FailedStart]:
        """Waits until the workers that this engine object has launched have begun, for some seconds
        at most, where they begin at once; those that have ended with an error.
        """

    def state(self, launched: Launched) -> LaunchState | None:
        """The state of the workers; None if none is left."""

    def end(self, launched: Launched) -> int:
        """Cancels workers that have not begun, and counts them; the others read from the study that
        they shall stop.
        """


def environment_of(opened: OpenStudy, request: Request, settings: WorkerSettings) -> dict[str, str]:
    return settings.environment(opened.database.url) | {"OMP_NUM_THREADS": str(request.cpus)}


def refuse_slurms(request: Request, engine: str) -> None:
    if request.partition or request.minutes or request.more:
        raise StudyError(
            f"partition, minutes and option are only for Slurm: leave them out on {engine}"
        )
