"""Workers as actors of Ray."""

from __future__ import annotations

import os
import subprocess
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from typing_extensions import override

from nas_attn.answer.workers import FailedStart, LaunchState
from nas_attn.errors import ExitStatus, StudyError, shorten
from nas_attn.searching.run.engines.base import (
    Engine,
    Launched,
    Request,
    environment_of,
    refuse_slurms,
)
from nas_attn.searching.run.worker_process import (
    MOST_REPLACED,
    WorkerSettings,
    start_worker,
)
from nas_attn.searching.worker.stopping import Orders
from nas_attn.storage.opening import OpenStudy
from nas_attn.system.environment import STORAGE

# ------------------------------------------------------------------------------------ Ray

NAMESPACE = "nas_attn"
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
        kept = {"namespace": NAMESPACE, "lifetime": "detached", "max_restarts": -1}
        environment = environment_of(opened, request, settings)
        for name in names:
            actor = ray.remote(WorkerActor).options(
                name=name, num_cpus=request.cpus, num_gpus=request.gpus, **kept
            )
            log = str((logs / f"ray-{name}.log").resolve())
            actor.remote(opened.store.name, settings, environment, str(Path.cwd()), log)
        return names

    @override
    def watch(self, opened: OpenStudy) -> list[FailedStart]:
        # they wait in a queue
        return []

    @override
    def state(self, launched: Launched) -> LaunchState | None:
        actors = _connected().util.list_named_actors(all_namespaces=True)
        alive = {entry["name"] for entry in actors if entry["namespace"] == NAMESPACE}
        count = len(alive & set(launched.jobs))
        return LaunchState({"there": count}) if count else None

    @override
    def end(self, launched: Launched) -> int:
        ray = _connected()
        asked = {}
        for name in launched.jobs:
            # it has ended
            with suppress(ValueError):
                actor = ray.get_actor(name, namespace=NAMESPACE)
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
                namespace=NAMESPACE,
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
