"""Workers on Slurm, Ray or this machine: an engine starts and restarts `nas-attn worker STUDY`."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from nas_attn.errors import StorageError, StudyError, shorten
from nas_attn.importing import trusts
from nas_attn.processes import Process, apart, process
from nas_attn.study.opening import OpenStudy
from nas_attn.study.stopping import Orders

SETTINGS = "NAS_ATTN_WORKER"  # environment variable that holds a worker's settings as JSON
STORAGE = "NAS_ATTN_STORAGE"
UTF8 = {"PYTHONIOENCODING": "utf-8:backslashreplace"}  # makes a process print the same everywhere
LOGS = "launched"  # the folder with the workers' output, in the folder of the study's artifacts


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """Settings of a worker process. They are in its environment, since all users can read a command
    line.
    """

    name: str = "worker"  # shown before each line
    device: str = "auto"
    threads: int | None = None  # intra-op threads; None: the fastest number
    time_limit_s: float | None = None
    only: str | None = None  # `validate` or `retrain`: only these runs; None: all
    sharing: int = 1  # workers on this machine
    per_gpu: int = 1  # workers on this GPU
    trusted: bool = field(default_factory=trusts)  # whether it may run code that the study names
    orders: bool = False  # whether its standard input says when to stop (`stopping.Orders`)

    def environment(self, url: str) -> dict[str, str]:
        """Variables to add to the process's environment; `url` is the database's."""
        return {STORAGE: url, SETTINGS: json.dumps(asdict(self)), "PYTHONUNBUFFERED": "1", **UTF8}


def worker_command(study: str) -> list[str]:
    # -P: a random.py or torch.py in the working folder does not replace the library's. Modules that
    # the recipe names are found there all the same (`importing.load_object`).
    return [sys.executable, "-P", "-m", "nas_attn.cli.main", "worker", study]


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
    text = os.environ.pop(SETTINGS, None)  # not for the processes that it starts
    if text is None:
        return None
    try:
        return WorkerSettings(**json.loads(text))
    except (ValueError, TypeError):
        raise StudyError(
            f"{SETTINGS} holds no settings of a worker: remove it from the environment"
        ) from None


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
    more: Mapping[str, str] = field(
        default_factory=dict
    )  # further options of sbatch; empty: an option without value


@dataclass(frozen=True, slots=True)
class Launched:
    on: str
    jobs: tuple[str, ...]  # jobs of Slurm, names of Ray's actors, processes
    host: str
    at: float  # Unix seconds by the database's clock


class Engine(Protocol):
    """Where workers can be launched."""

    def launch(self, opened: OpenStudy, request: Request, logs: Path) -> list[str]:
        """Starts the workers; names of their jobs."""

    def state(self, launched: Launched) -> str:
        """The state of the workers, in the engine's words; empty if none is left."""

    def end(self, launched: Launched) -> int:
        """Cancels workers that have not begun, and counts them; the others read from the study that
        they shall stop.
        """


def launch(opened: OpenStudy, on: str, request: Request) -> Launched:
    """Starts workers of a study on an engine; StudyError if the engine is missing, or cannot reach
    the study's database.
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
    jobs = engine(on).launch(opened, request, logs)
    found = Launched(on, tuple(jobs), socket.gethostname(), opened.database.now())
    opened.store.launches.put(f"{found.at:.3f}", json.dumps(asdict(found)))
    return found


def launches(opened: OpenStudy) -> list[Launched]:
    """All launches of a study, the oldest first; StorageError if the record of one is damaged."""
    try:
        rows = [json.loads(text) for text in opened.store.launches.all().values()]
        found = [
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
    return sorted(found, key=lambda launched: launched.at)


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


def _environment(opened: OpenStudy, request: Request, settings: WorkerSettings) -> dict[str, str]:
    return settings.environment(opened.database.url) | {"OMP_NUM_THREADS": str(request.cpus)}


def _refuse_slurms(request: Request, engine: str) -> None:
    if request.partition or request.minutes or request.more:
        raise StudyError(
            f"partition, minutes and option are only for Slurm: leave them out on {engine}"
        )


class Local:
    """Processes of this machine that outlive the terminal."""

    def launch(self, opened: OpenStudy, request: Request, logs: Path) -> list[str]:
        _refuse_slurms(request, "local")
        from nas_attn.study.local import devices_of, shares_of  # and torch with it

        devices, jobs = devices_of(request.device, request.workers), []
        for number, (device, share) in enumerate(zip(devices, shares_of(devices), strict=True), 1):
            name = f"worker {number}"
            settings = WorkerSettings(
                name=name, device=device, sharing=share.machine, per_gpu=share.device
            )
            environment = _environment(opened, request, settings)
            with (logs / f"{opened.store.name}-{os.getpid()}-{number}.log").open("ab") as output:
                started = start_worker(
                    opened.store.name,
                    environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    **apart(outliving=True),
                )
            seen = process(started.pid)
            jobs.append(f"{started.pid}/{seen.started if seen else -1}")
        return jobs

    def state(self, launched: Launched) -> str:
        if launched.host != socket.gethostname():
            return f"on {launched.host}"
        found = [job.partition("/") for job in launched.jobs]
        running = sum(Process(int(pid), started).runs for pid, _, started in found)
        return f"{running} running" if running else ""

    def end(self, launched: Launched) -> int:
        return 0


# ------------------------------------------------------------------------------------ Slurm

# An array of jobs, each one worker. Before the time limit, Slurm sends SIGUSR2 to the script, which
# hands it to the worker: it writes a checkpoint, and the job is queued again. At preemption, Slurm
# itself sends SIGTERM to the worker.
MINUTES = 24 * 60
WARNING_S = 60  # seconds before the time limit at which Slurm sends SIGUSR2
GRACE_S = 45  # seconds that a job waits for its worker's checkpoint before it is queued again
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
UNKNOWN = "Invalid job id"  # what squeue says of jobs that ended some time ago


class Slurm:
    """The cluster whose `sbatch` is found here."""

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
            "time": str(request.minutes or MINUTES),
            "nodes": "1",
            "ntasks": "1",
            "cpus-per-task": str(request.cpus),
            "signal": f"B:USR2@{WARNING_S}",
            "requeue": "",
            "open-mode": "append",
            "output": str(logs / "slurm-%A_%a.log"),
        }
        if request.partition:
            options["partition"] = request.partition
        if request.gpus:
            options["gres"] = f"gpu:{int(request.gpus)}"
        options |= request.more
        given = (f"--{key}={value}" if value else f"--{key}" for key, value in options.items())
        done = _slurm(
            *("sbatch", "--parsable", *given),
            script=SCRIPT.format(
                command=shlex.join(worker_command(opened.store.name)), grace=GRACE_S
            ),
            environment=_environment(opened, request, WorkerSettings(device=request.device)),
        )
        if done is None:
            raise StudyError(
                "sbatch was not found here, or does not answer: launch on a login node of the"
                " cluster"
            )
        if done.returncode:
            said = " ".join(done.stderr.replace("sbatch: error:", "").split())
            raise StudyError(f"sbatch refused the jobs: {shorten(said, 300)}")
        array = done.stdout.strip().partition(";")[
            0
        ]  # the cluster's name follows if there are several
        return [f"{array}_{number}" for number in range(request.workers)]

    def state(self, launched: Launched) -> str:
        done = _slurm(
            "squeue", "--noheader", "--array", "--jobs", _arrays(launched), "--format", "%T"
        )
        if done is None or (done.returncode and UNKNOWN not in done.stderr):
            return f"{len(launched.jobs)} launched; squeue does not answer"
        counts = Counter(done.stdout.split())
        return ", ".join(f"{count} {state.lower()}" for state, count in counts.most_common())

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
        return len(queued.stdout.split()) if queued else 0


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


# ------------------------------------------------------------------------------------ Ray

NAMESPACE = "nas_attn"
ATTEMPTS = 3  # starts of a worker that ends with an error each time


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
        import ray

        self._me = ray.get_runtime_context().current_actor
        self._study, self._settings, self._environment, self._folder = (
            study,
            settings,
            environment,
            folder,
        )
        self._log = Path(log)
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        import ray

        for _ in range(ATTEMPTS):
            told = replace(self._settings, orders=True).environment(self._environment[STORAGE])
            self._log.parent.mkdir(
                parents=True, exist_ok=True
            )  # this node may not share the folder
            with self._log.open("ab") as output:
                environment, pipe = {**self._environment, **told}, subprocess.PIPE
                process = start_worker(
                    self._study, environment, stdin=pipe, stdout=output, cwd=self._folder
                )
            orders = Orders(
                process.stdin
            )  # when the actor dies, this pipe closes and the worker stops
            status = process.wait()
            orders.close()
            if status == 0:
                break
            time.sleep(5.0)
        ray.kill(self._me, no_restart=True)

    def ready(self) -> bool:
        return True


class Ray:
    """The cluster that `RAY_ADDRESS` names, or that runs on this machine: workers as detached
    actors, which it restarts.
    """

    def launch(self, opened: OpenStudy, request: Request, logs: Path) -> list[str]:
        _refuse_slurms(request, "ray")
        ray, settings = _connected(), WorkerSettings(device=request.device)
        names = [f"{opened.store.name}-{uuid.uuid4().hex[:8]}" for _ in range(request.workers)]
        kept = {"namespace": NAMESPACE, "lifetime": "detached", "max_restarts": -1}
        environment = _environment(opened, request, settings)
        for name in names:
            actor = ray.remote(WorkerActor).options(
                name=name, num_cpus=request.cpus, num_gpus=request.gpus, **kept
            )
            log = str((logs / f"ray-{name}.log").resolve())
            actor.remote(opened.store.name, settings, environment, str(Path.cwd()), log)
        return names

    def state(self, launched: Launched) -> str:
        actors = _connected().util.list_named_actors(all_namespaces=True)
        alive = {entry["name"] for entry in actors if entry["namespace"] == NAMESPACE}
        count = len(alive & set(launched.jobs))
        return f"{count} there" if count else ""

    def end(self, launched: Launched) -> int:
        ray, asked = _connected(), {}
        for name in launched.jobs:
            with suppress(ValueError):  # it has ended
                actor = ray.get_actor(name, namespace=NAMESPACE)
                asked[actor.ready.remote()] = actor
        if not asked:
            return 0
        _, queued = ray.wait(list(asked), num_returns=len(asked), timeout=3.0)
        for one in queued:
            ray.kill(asked[one], no_restart=True)
        return len(queued)


def _connected() -> Any:
    import ray

    if not ray.is_initialized():
        try:
            ray.init(
                address=os.environ.get("RAY_ADDRESS", "auto"),
                namespace=NAMESPACE,
                log_to_driver=False,
                logging_level="ERROR",
            )
        except Exception as error:  # Ray has many kinds
            way_out = "start one with `ray start --head`, or name it in RAY_ADDRESS"
            raise StudyError(
                f"no Ray cluster can be reached ({shorten(str(error), 160)}): {way_out}"
            ) from error
    return ray
