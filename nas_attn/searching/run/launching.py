"""Workers on this machine, Slurm or Ray: an engine starts and restarts `nas-attn worker STUDY`.

Slurm is driven by its own commands: submitit would pickle our code into the study's folder, and
asks an accounting database, which not each cluster has, for what `squeue` says.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from typing_extensions import override

from nas_attn.answer.workers import FailedStart, LaunchState
from nas_attn.errors import ExitStatus, StorageError, StudyError, shorten
from nas_attn.searching.run.worker_process import (
    MOST_REPLACED,
    WorkerSettings,
    start_worker,
    worker_command,
)
from nas_attn.searching.worker.presence import STARTING
from nas_attn.searching.worker.stopping import Orders
from nas_attn.storage.opening import OpenStudy
from nas_attn.system.environment import STORAGE
from nas_attn.system.processes import Process, apart, machine_and_pid, process

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


class Engine(ABC):
    """Where workers can be launched."""

    @abstractmethod
    def launch(self, opened: OpenStudy, request: Request, logs: Path) -> list[str]:
        """Starts the workers; names of their jobs."""

    def watch(self, opened: OpenStudy) -> list[FailedStart]:  # noqa: ARG002 - one needs it
        """Waits until the workers that this engine object has launched have begun, for some seconds
        at most, where they begin at once; those that have ended with an error. Elsewhere they
        wait in a queue.
        """
        return []

    @abstractmethod
    def state(self, launched: Launched) -> LaunchState | None:
        """The state of the workers; None if none is left."""

    def end(self, launched: Launched) -> int:  # noqa: ARG002 - queues need it
        """Cancels workers that have not begun, and counts them; the others read from the study that
        they shall stop.
        """
        return 0


def environment_of(opened: OpenStudy, request: Request, settings: WorkerSettings) -> dict[str, str]:
    return settings.environment(opened.database.url) | {"OMP_NUM_THREADS": str(request.cpus)}


def refuse_slurms(request: Request, engine: str) -> None:
    if request.minutes is not None or request.more:
        raise StudyError(f"--time and --set are only for Slurm: leave them out on {engine}")


# ------------------------------------------------------------------------------ this machine

# seconds for which `launch` waits that its workers begin, at most
WATCHED_S = 30.0
# seconds between two looks at them
LOOK_S = 0.3
# bytes of a log in which its last line is looked for
LOG_TAIL = 4000


@dataclass(frozen=True)
class Started:
    """A worker that was just started."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def failure(self) -> FailedStart | None:
        """How it ended, with the last line of its log; None if it runs, or ended in order."""
        status = self.process.poll()
        if status in (None, ExitStatus.DONE):
            return None
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - LOG_TAIL))
            lines = file.read().decode("utf-8", "replace").split("\n")
        written = [line.strip() for line in lines if line.strip()]
        return FailedStart(self.name, status, written[-1] if written else "", self.log)


class Local(Engine):
    """Processes of this machine that outlive the terminal."""

    def __init__(self) -> None:
        self._started: list[Started] = []

    @override
    def launch(self, opened: OpenStudy, request: Request, logs: Path) -> list[str]:
        refuse_slurms(request, "local")
        # loads torch
        from nas_attn.searching.worker.devices import devices_of, shares_of

        devices = devices_of(request.device, request.workers)
        jobs = []
        for number, (device, share) in enumerate(zip(devices, shares_of(devices), strict=True), 1):
            name = f"worker {number}"
            settings = WorkerSettings(
                name=name, device=device, sharing=share.machine, per_gpu=share.device
            )
            environment = environment_of(opened, request, settings)
            log = logs / f"{opened.store.name}-{os.getpid()}-{number}.log"
            with log.open("ab") as output:
                started = start_worker(
                    opened.store.name,
                    environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    **apart(outliving=True),
                )
            self._started.append(Started(name, started, log))
            seen = process(started.pid)
            jobs.append(f"{started.pid}/{seen.started if seen else -1}")
        return jobs

    @override
    def watch(self, opened: OpenStudy) -> list[FailedStart]:
        deadline = time.monotonic() + WATCHED_S
        while time.monotonic() < deadline:
            begun = {
                machine_and_pid(row.owner)[1]
                for row in opened.store.workers.rows()
                if row.doing != STARTING
            }
            starting = [
                started
                for started in self._started
                if started.process.poll() is None and str(started.process.pid) not in begun
            ]
            if not starting:
                break
            time.sleep(LOOK_S)
        failures = (started.failure() for started in self._started)
        return [failure for failure in failures if failure is not None]

    @override
    def state(self, launched: Launched) -> LaunchState | None:
        if launched.host != socket.gethostname():
            return LaunchState(host=launched.host)
        parts = [job.partition("/") for job in launched.jobs]
        running = sum(Process(int(pid), started).runs for pid, _, started in parts)
        return LaunchState({"running": running}) if running else None


# ------------------------------------------------------------------------------------- Slurm

# An array of jobs, each one worker. Before the time limit, Slurm sends SIGUSR2 to the script, which
# hands it to the worker: it writes a checkpoint, and the job is queued again. At preemption, Slurm
# itself sends SIGTERM to the worker.
USUAL_MINUTES = 24 * 60
# seconds before the time limit at which Slurm sends SIGUSR2
WARNING_S = 60
# seconds that a job waits for its worker's checkpoint before it is queued again
JOB_GRACE_S = 45
SCRIPT = """#!/bin/sh
job="${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
trap : TERM  # the worker has it, too
trap 'again=1; kill -USR2 $worker; (sleep {grace}; exec scontrol requeue "$job") &' USR2
{command} &
worker=$!
wait $worker; status=$?
while kill -0 $worker 2>/dev/null; do wait $worker; status=$?; done  # a signal ends a wait early
[ -z "$again" ] || exec scontrol requeue "$job"
exit $status
"""
# what squeue says of jobs that ended some time ago
UNKNOWN_JOB = "Invalid job id"


class Slurm(Engine):
    """The cluster whose `sbatch` is found here."""

    @override
    def launch(self, opened: OpenStudy, request: Request, logs: Path) -> list[str]:
        if request.gpus != int(request.gpus):
            others = (
                "give a whole number, or let workers share a GPU on Ray or in one job of your own"
            )
            raise StudyError(
                f"{request.gpus:g} GPUs per worker are not possible on Slurm: {others}"
            )
        options = {
            "job-name": f"nas-attn-{opened.store.name}"[:64],
            "array": f"0-{request.workers - 1}",
            "time": str(USUAL_MINUTES if request.minutes is None else request.minutes),
            "nodes": "1",
            "ntasks": "1",
            "cpus-per-task": str(request.cpus),
            "signal": f"B:USR2@{WARNING_S}",
            "requeue": "",
            "open-mode": "append",
            "output": str(logs / "slurm-%A_%a.log"),
        }
        if request.gpus:
            options["gres"] = f"gpu:{int(request.gpus)}"
        options |= request.more
        given = (f"--{key}={value}" if value else f"--{key}" for key, value in options.items())
        done = _slurm(
            "sbatch",
            "--parsable",
            *given,
            script=SCRIPT.format(
                command=shlex.join(worker_command(opened.store.name)), grace=JOB_GRACE_S
            ),
            environment=environment_of(opened, request, WorkerSettings(device=request.device)),
        )
        if done is None:
            raise StudyError(
                "sbatch was not found here, or does not answer: launch on a login node of the"
                " cluster"
            )
        if done.returncode:
            reason = " ".join(done.stderr.replace("sbatch: error:", "").split())
            raise StudyError(f"sbatch refused the jobs: {shorten(reason, 300)}")
        # the cluster's name follows if there are several
        array = done.stdout.strip().partition(";")[0]
        return [f"{array}_{number}" for number in range(request.workers)]

    @override
    def state(self, launched: Launched) -> LaunchState | None:
        done = _slurm(
            "squeue", "--noheader", "--array", "--jobs", _arrays(launched), "--format", "%T"
        )
        if done is None or (done.returncode and UNKNOWN_JOB not in done.stderr):
            return LaunchState({"launched": len(launched.jobs)}, silent="squeue")
        counts = Counter(done.stdout.lower().split())
        return LaunchState(dict(counts.most_common())) if counts else None

    @override
    def end(self, launched: Launched) -> int:
        arrays = _arrays(launched)
        queued = _slurm(
            "squeue",
            "--noheader",
            "--array",
            "--states=PENDING",
            "--jobs",
            arrays,
            "--format",
            "%i",
        )
        _slurm("scancel", "--state=PENDING", *arrays.split(","))
        if queued:
            return len(queued.stdout.split())
        return 0


def _arrays(launched: Launched) -> str:
    return ",".join(sorted({job.partition("_")[0] for job in launched.jobs}))


def _slurm(
    *command: str, script: str | None = None, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(
            command,
            input=script,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=60,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None


# --------------------------------------------------------------------------------------- Ray

RAY_NAMESPACE = "nas_attn"
# starts of a worker that ends with an error each time
FAILED_STARTS = 3


class WorkerActor:
    """Runs a worker as a process of its own, which ends with the actor. Ray restarts a dead actor,
    and so its worker.
    """

    def __init__(
        self,
        study: str,
        settings: WorkerSettings,
        environment: dict[str, str],
        folder: str,
        log: str,
    ) -> None:
        """Starts the worker.

        Args:
            study: its name.
            settings: of the worker.
            environment: variables to add to the worker's.
            folder: in which it works.
            log: the file that takes its output.
        """
        import ray

        self._me = ray.get_runtime_context().current_actor
        self._study = study
        self._settings = settings
        self._environment = environment
        self._folder = folder
        self._log = Path(log)
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        import ray

        failed = 0
        lost = 0
        while failed < FAILED_STARTS and lost < MOST_REPLACED:
            status = self._once()
            if status == ExitStatus.DONE:
                break
            if status == ExitStatus.DEVICE_LOST:
                lost += 1
                continue
            failed += 1
            time.sleep(5.0)
        ray.kill(self._me, no_restart=True)

    def _once(self) -> int:
        """Runs a worker until it ends; its exit status."""
        told = replace(self._settings, orders=True).environment(self._environment[STORAGE])
        # this node may not share the folder
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as output:
            environment = {**self._environment, **told}
            pipe = subprocess.PIPE
            process = start_worker(
                self._study, environment, stdin=pipe, stdout=output, cwd=self._folder
            )
        # when the actor dies, this pipe closes and the worker stops
        orders = Orders(process.stdin)
        status = process.wait()
        orders.close()
        return status

    def ready(self) -> bool:
        return True


class Ray(Engine):
    """The cluster that `RAY_ADDRESS` names, or that runs on this machine: workers as detached
    actors, which it restarts.
    """

    @override
    def launch(self, opened: OpenStudy, request: Request, logs: Path) -> list[str]:
        refuse_slurms(request, "ray")
        ray = _connected()
        settings = WorkerSettings(device=request.device)
        names = [f"{opened.store.name}-{uuid.uuid4().hex[:8]}" for _ in range(request.workers)]
        kept = {"namespace": RAY_NAMESPACE, "lifetime": "detached", "max_restarts": -1}
        environment = environment_of(opened, request, settings)
        for name in names:
            actor = ray.remote(WorkerActor).options(
                name=name, num_cpus=request.cpus, num_gpus=request.gpus, **kept
            )
            log = str((logs / f"ray-{name}.log").resolve())
            actor.remote(opened.store.name, settings, environment, str(Path.cwd()), log)
        return names

    @override
    def state(self, launched: Launched) -> LaunchState | None:
        actors = _connected().util.list_named_actors(all_namespaces=True)
        alive = {entry["name"] for entry in actors if entry["namespace"] == RAY_NAMESPACE}
        count = len(alive & set(launched.jobs))
        return LaunchState({"there": count}) if count else None

    @override
    def end(self, launched: Launched) -> int:
        ray = _connected()
        asked = {}
        for name in launched.jobs:
            # it has ended
            with suppress(ValueError):
                actor = ray.get_actor(name, namespace=RAY_NAMESPACE)
                asked[actor.ready.remote()] = actor
        if not asked:
            return 0
        _, queued = ray.wait(list(asked), num_returns=len(asked), timeout=3.0)
        for job in queued:
            ray.kill(asked[job], no_restart=True)
        return len(queued)


def _connected() -> Any:
    import ray

    if not ray.is_initialized():
        try:
            ray.init(
                address=os.environ.get("RAY_ADDRESS", "auto"),
                namespace=RAY_NAMESPACE,
                log_to_driver=False,
                logging_level="ERROR",
            )
        except Exception as error:
            # Ray has many kinds
            way_out = "start one with `ray start --head`, or name it in RAY_ADDRESS"
            raise StudyError(
                f"no Ray cluster can be reached ({shorten(str(error), 160)}): {way_out}"
            ) from error
    return ray


# ------------------------------------------------------------------------------- all of them


def launch(opened: OpenStudy, on: str, request: Request, where: Engine | None = None) -> Launched:
    """Starts workers of a study on an engine.

    Args:
        opened: the study.
        on: the engine's name.
        request: how many workers, and what each gets.
        where: the engine of this name, if its workers will be watched; None: a new one.

    Raises:
        StudyError: the engine is missing, or cannot reach the study's database.
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
