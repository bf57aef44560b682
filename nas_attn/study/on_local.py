"""Workers as processes of this machine that outlive the terminal."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

from nas_attn.processes import Process, apart, process
from nas_attn.study.engines import Launched, Request, refuse_slurms, worker_environment
from nas_attn.study.opening import OpenStudy
from nas_attn.study.worker_process import WorkerSettings, worker_command


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
