"""Workers as jobs of Slurm."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from typing_extensions import override

from nas_attn.answer.workers import FailedStart, LaunchState
from nas_attn.errors import StudyError, shorten
from nas_attn.searching.run.engines.base import (
    Engine,
    Launched,
    Request,
    environment_of,
)
from nas_attn.searching.run.worker_process import WorkerSettings, worker_command
from nas_attn.storage.opening import OpenStudy

# ------------------------------------------------------------------------------------ Slurm

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
            "time": str(request.minutes or USUAL_MINUTES),
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
    def watch(self, opened: OpenStudy) -> list[FailedStart]:
        # they wait in a queue
        return []

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
