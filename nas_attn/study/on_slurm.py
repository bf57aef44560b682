"""Slurm, through submitit: an array of jobs, each of which runs one worker as a command.

The signals with which Slurm announces the end (SIGUSR2 before the time limit, SIGTERM at preemption and requeue) reach the
worker itself: it finishes its step, writes a checkpoint and ends. What submitit does at such a signal, queueing the job
again, waits for that.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nas_attn.errors import OperationError, StudyError, shorten
from nas_attn.processes import process
from nas_attn.study.engines import Launched, Request, worker_environment
from nas_attn.study.opening import OpenStudy
from nas_attn.study.worker_process import WorkerSettings, worker_command

MINUTES = 24 * 60
WARNING_S = 60
"""Seconds before the time limit at which Slurm sends SIGUSR2."""
GRACE_S = 45.0
"""Seconds that a job waits for its worker's checkpoint before it is queued again."""

UNKNOWN = "Invalid job id"
"""What squeue says of jobs that have ended some time ago."""


class WorkerCommand:
    """Runs a worker as a process of its own: its signal handlers are not submitit's."""

    def __init__(self, command: Sequence[str]) -> None:
        self.command = list(command)
        self._pid: int | None = None

    def __call__(self) -> int:
        worker = subprocess.Popen(self.command)
        self._pid = worker.pid
        while worker.poll() is None:  # in small parts: a signal's handler must find no lock held
            time.sleep(0.2)
        if worker.returncode:
            raise OperationError(f"the worker ended with status {worker.returncode}: its output is above")
        return worker.returncode

    def checkpoint(self) -> Any:
        """Called by submitit before it queues the job again: the worker has had the same signal."""
        import submitit

        end = time.monotonic() + GRACE_S
        while self._pid is not None and process(self._pid) is not None and time.monotonic() < end:
            time.sleep(0.2)
        return submitit.helpers.DelayedSubmission(WorkerCommand(self.command))


class Slurm:
    """The cluster whose `sbatch` is found here."""

    def launch(self, opened: OpenStudy, request: Request, logs: Path) -> list[str]:
        import submitit

        if request.gpus != int(request.gpus):
            raise StudyError(
                f"{request.gpus:g} GPUs per worker: Slurm gives whole GPUs; several workers share one on Ray, or in one job of your own"
            )
        executor = submitit.SlurmExecutor(folder=logs, max_num_timeout=1000)
        settings: dict[str, Any] = {
            "job_name": f"nas-attn-{opened.store.name}"[:64],
            "time": request.minutes or MINUTES,
            "cpus_per_task": request.cpus,
            "ntasks_per_node": 1,
            "nodes": 1,
            "signal_delay_s": WARNING_S,
            "array_parallelism": request.workers,
            "additional_parameters": {"requeue": True, **request.more},
        }
        if request.partition:
            settings["partition"] = request.partition
        if request.gpus:
            settings["gres"] = f"gpu:{int(request.gpus)}"
        executor.update_parameters(**settings)
        before = dict(os.environ)
        os.environ.update(
            worker_environment(opened, request, WorkerSettings(device=request.device))
        )  # which sbatch hands on to the jobs
        try:
            with executor.batch():
                jobs = [
                    executor.submit(WorkerCommand(worker_command(opened.store.name))) for _ in range(request.workers)
                ]
            return [str(job.job_id) for job in jobs]
        except Exception as error:  # submitit's own, and what sbatch says
            said = shorten(str(error.__cause__ or error), 300)
            raise StudyError(f"sbatch refused the jobs: {said}") from error
        finally:
            os.environ.clear()
            os.environ.update(before)

    def state(self, launched: Launched) -> str:
        arrays = ",".join(sorted({job.partition("_")[0] for job in launched.jobs}))
        done = _slurm("squeue", "--noheader", "--array", "--jobs", arrays, "--format", "%T")
        if done is None or (done.returncode and UNKNOWN not in done.stderr):
            return f"{len(launched.jobs)} launched; squeue does not answer"
        counts = Counter(done.stdout.split())
        return ", ".join(f"{count} {state.lower()}" for state, count in counts.most_common())

    def end(self, launched: Launched) -> None:
        _slurm("scancel", "--state=PENDING", *sorted({job.partition("_")[0] for job in launched.jobs}))


def _slurm(*command: str) -> subprocess.CompletedProcess[str] | None:
    """Runs one of Slurm's commands; None where there is none on this machine."""
    try:
        return subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False, timeout=60)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
