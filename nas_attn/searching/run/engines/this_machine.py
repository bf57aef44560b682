"""Workers as processes of this machine that outlive the terminal."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import override

from nas_attn.answer.workers import FailedStart, LaunchState
from nas_attn.errors import ExitStatus
from nas_attn.searching.run.engines.base import (
    Engine,
    Launched,
    Request,
    environment_of,
    refuse_slurms,
)
from nas_attn.searching.run.worker_process import WorkerSettings, start_worker
from nas_attn.searching.worker.presence import STARTING
from nas_attn.storage.opening import OpenStudy
from nas_attn.system.processes import Process, apart, machine_and_pid, process

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

    @override
    def end(self, launched: Launched) -> int:
        return 0
