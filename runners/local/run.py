"""Runs a study with several workers on this machine, one process each, spread over its GPUs or its cores.

    python runners/local/run.py digits --workers 2

The database is SQLite unless NAS_ATTN_STORAGE or --storage says otherwise. The same command again goes on with the study.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType

COMMAND = (sys.executable, "-m", "nas_attn.cli.main")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 when the study is complete or was stopped, else the workers'."""
    options = parse(arguments)
    # The URL may hold a password, which everybody on the machine could read among the arguments.
    os.environ["NAS_ATTN_STORAGE"] = options.storage
    from nas_attn.errors import NasAttnError

    try:
        name = make_study(options)
    except NasAttnError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    places = shared_out(options.workers or len(gpus()) or min(4, cores()), options.device)
    codes = Workers(name, places).run()
    if not any(code == 0 for code in codes):
        print(f"all {len(codes)} workers ended with an error (above); start this again to go on", file=sys.stderr)
        return max(codes)
    return subprocess.call([*COMMAND, "pareto", name])


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recipe", help="shipped name or path of a recipe")
    parser.add_argument("--workers", type=int, help="processes; default: one per GPU, else one per core, at most 4")
    parser.add_argument("--storage", default=os.environ.get("NAS_ATTN_STORAGE", "sqlite:///nas_attn.db"))
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="where to train")
    parser.add_argument("--trials", type=int, help="candidates, the baselines included")
    return parser.parse_args(arguments)


def make_study(options: argparse.Namespace) -> str:
    """Creates the study, or finds the one of the same name and recipe. Returns its name."""
    from nas_attn.recipe import load_recipe

    recipe = load_recipe(options.recipe, overrides={"search.trials": options.trials} if options.trials else None)
    from nas_attn.study import searching
    from nas_attn.study.opening import create_study

    plan = searching.plan_recipe(recipe)  # before the database: a wrong recipe must leave nothing behind
    opened = create_study(recipe, options.storage)
    searching.enqueue_baselines(opened, plan)
    opened.database.close()
    return recipe.name


def shared_out(workers: int, device: str) -> list[tuple[list[str], dict[str, str]]]:
    """Arguments and environment of each worker: its GPU, or its part of the cores."""
    threads = str(max(1, cores() // workers))
    places = []
    cards = [] if device == "cpu" else gpus()
    for number in range(workers):
        arguments = ["--threads", threads, "--device", device, "--name", f"worker {number + 1}"]
        environment = {"OMP_NUM_THREADS": threads, "PYTHONUNBUFFERED": "1"}
        if cards:
            environment["CUDA_VISIBLE_DEVICES"] = cards[number % len(cards)]
        places.append((arguments, environment))
    return places


def gpus() -> list[str]:
    """The GPUs that may be used, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return visible.split(",")[:count] if visible else [str(number) for number in range(count)]


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Workers:
    """The worker processes. Ctrl-C once: each finishes its step and writes its checkpoint. Twice: they are killed."""

    def __init__(self, study: str, places: Sequence[tuple[list[str], dict[str, str]]]) -> None:
        self._study = study
        self._places = places
        self._children: list[subprocess.Popen[bytes]] = []
        self._asked = False

    def run(self) -> list[int]:
        """Waits until all have ended. Returns their exit statuses."""
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            for arguments, environment in self._places:
                command = [*COMMAND, "worker", self._study, "--parent", str(os.getpid()), *arguments]
                # A session of its own: Ctrl-C reaches it through us, once.
                child = subprocess.Popen(command, env={**os.environ, **environment}, start_new_session=True)
                self._children.append(child)
            while any(child.poll() is None for child in self._children):
                time.sleep(0.1)
        finally:
            for child in self._children:
                child.kill()  # only those that are left after an exception here
            for number, handler in before.items():
                signal.signal(number, handler)
        return [child.wait() for child in self._children]

    def _stop(self, number: int, frame: FrameType | None) -> None:
        for child in self._children:
            if child.poll() is None:
                child.send_signal(signal.SIGKILL if self._asked else signal.SIGINT)
        self._asked = True


if __name__ == "__main__":
    raise SystemExit(main())
