"""Workers as processes of this machine that outlive the terminal."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

from nas_attn.processes import Process, apart, process
from nas_attn.searching.run.engines.base import Launched, Request, environment_of, refuse_slurms
from nas_attn.searching.run.worker_process import WorkerSettings, start_worker
from nas_attn.study.opening import OpenStudy


class Local:
    """Processes of this machine that outlive the terminal."""

    def launch(self, opened: OpenStudy, request: Request, logs: Path) -> list[str]:
        refuse_slurms(request, "local")
        from nas_attn.searching.worker.devices import devices_of, shares_of

        devices, jobs = devices_of(request.device, request.workers), []
        for number, (device, share) in enumerate(zip(devices, shares_of(devices), strict=True), 1):
            name = f"worker {number}"
            settings = WorkerSettings(
                name=name, device=device, sharing=share.machine, per_gpu=share.device
            )
            environment = environment_of(opened, request, settings)
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
