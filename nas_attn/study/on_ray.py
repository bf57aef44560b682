"""Ray: workers as detached actors of a cluster that runs already, restarted by Ray where their node or process dies."""

from __future__ import annotations

import os
import subprocess
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nas_attn.errors import StudyError, shorten
from nas_attn.study.launching import Launched, Wish, worker_command, worker_environment
from nas_attn.study.opening import OpenStudy
from nas_attn.study.stopping import Orders

NAMESPACE = "nas_attn"
ATTEMPTS = 3
"""Times that a worker is started that ends with an error."""


class WorkerActor:
    """Runs a worker as a process of its own, which ends with the actor. Ray makes a dead actor anew, and so the worker."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: str) -> None:
        import ray

        self._me = ray.get_runtime_context().current_actor
        self._command, self._environment, self._folder = list(command), dict(environment), folder
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        import ray

        for _ in range(ATTEMPTS):
            orders = Orders()
            process = subprocess.Popen(
                [*self._command, "--orders", str(orders.reader)],
                env={**os.environ, **self._environment},
                cwd=self._folder,
                pass_fds=[orders.reader],  # whose end, when the actor dies, stops the worker
            )
            orders.started()
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

    def launch(self, opened: OpenStudy, wish: Wish, logs: Path) -> list[str]:
        if wish.partition or wish.minutes or wish.more:
            raise StudyError("--partition, --minutes and --option are Slurm's: leave them out with --on ray")
        ray = _connected()
        names = [f"{opened.store.name}-{uuid.uuid4().hex[:8]}" for _ in range(wish.workers)]
        for name in names:
            ray.remote(WorkerActor).options(
                name=name,
                namespace=NAMESPACE,
                lifetime="detached",
                num_cpus=wish.cpus,
                num_gpus=wish.gpus,
                max_restarts=-1,
            ).remote(worker_command(opened, wish), worker_environment(opened, wish), str(Path.cwd()))
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

    def end(self, launched: Launched) -> None:
        ray = _connected()
        for name in launched.jobs:
            try:
                actor = ray.get_actor(name, namespace=NAMESPACE)
            except ValueError:  # it has ended
                continue
            ready, _ = ray.wait([actor.ready.remote()], timeout=2.0)
            if not ready:  # it waits for a place
                ray.kill(actor, no_restart=True)


def _connected() -> Any:
    import ray

    if not ray.is_initialized():
        try:
            ray.init(address=os.environ.get("RAY_ADDRESS", "auto"), namespace=NAMESPACE, log_to_driver=False)
        except Exception as error:  # Ray has many kinds
            raise StudyError(
                f"--on ray: no cluster can be reached ({shorten(str(error), 160)}): start one with `ray start --head`, or name "
                "it in RAY_ADDRESS"
            ) from error
    return ray
