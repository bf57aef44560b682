"""Ray: workers as detached actors of a cluster that runs already, restarted by Ray where their node or process dies."""

from __future__ import annotations

import os
import subprocess
import threading
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from nas_attn.errors import StudyError, shorten
from nas_attn.study.engines import Launched, Request, refuse_slurms, worker_environment
from nas_attn.study.opening import OpenStudy
from nas_attn.study.stopping import Orders
from nas_attn.study.worker_process import STORAGE, WorkerSettings, worker_command

NAMESPACE = "nas_attn"
ATTEMPTS = 3
"""Times that a worker is started that ends with an error."""


class WorkerActor:
    """Runs a worker as a process of its own, which ends with the actor. Ray makes a dead actor anew, and so the worker."""

    def __init__(
        self, study: str, settings: WorkerSettings, environment: Mapping[str, str], folder: str, log: str
    ) -> None:
        import ray

        self._me = ray.get_runtime_context().current_actor
        self._study, self._settings, self._environment, self._folder = study, settings, dict(environment), folder
        self._log = Path(log)
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        import ray

        for _ in range(ATTEMPTS):
            told = replace(self._settings, orders=True).environment(self._environment[STORAGE])
            self._log.parent.mkdir(parents=True, exist_ok=True)  # this node may not share the folder
            with self._log.open("ab") as output:
                process = subprocess.Popen(
                    worker_command(self._study),
                    stdin=subprocess.PIPE,  # whose end, when the actor dies, stops the worker
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **self._environment, **told},
                    cwd=self._folder,
                )
            orders = Orders(process.stdin)
            status = process.wait()
            orders.close()
            if status == 0:
                break
            time.sleep(5.0)
        ray.kill(self._me, no_restart=True)

    def ready(self) -> bool:
        return True


class Ray:
    """The cluster that `RAY_ADDRESS` names, or that runs on this machine."""

    def launch(self, opened: OpenStudy, request: Request, logs: Path) -> list[str]:
        refuse_slurms(request, "ray")
        ray, settings = _connected(), WorkerSettings(device=request.device)
        names = [f"{opened.store.name}-{uuid.uuid4().hex[:8]}" for _ in range(request.workers)]
        for name in names:
            ray.remote(WorkerActor).options(
                name=name,
                namespace=NAMESPACE,
                lifetime="detached",
                num_cpus=request.cpus,
                num_gpus=request.gpus,
                max_restarts=-1,
            ).remote(
                opened.store.name,
                settings,
                worker_environment(opened, request, settings),
                str(Path.cwd()),
                str((logs / f"ray-{name}.log").resolve()),
            )
        return names

    def state(self, launched: Launched) -> str:
        ray = _connected()
        alive = {
            entry["name"]
            for entry in ray.util.list_named_actors(all_namespaces=True)
            if entry["namespace"] == NAMESPACE
        }
        count = len(alive & set(launched.jobs))
        return f"{count} there" if count else ""

    def end(self, launched: Launched) -> int:
        ray = _connected()
        asked = {}
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
            ray.init(address=os.environ.get("RAY_ADDRESS", "auto"), namespace=NAMESPACE, log_to_driver=False)
        except Exception as error:  # Ray has many kinds
            raise StudyError(
                f"no Ray cluster can be reached ({shorten(str(error), 160)}): start one with `ray start --head`, or name "
                "it in RAY_ADDRESS"
            ) from error
    return ray
