"""Runs that several processes train together, one GPU each: started by torchrun, ended in order, gone on with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque

import torch

from nas_attn.errors import WARNING, OperationError, RecipeError
from nas_attn.evaluation.devices import pick_device
from nas_attn.evaluation.ways import way_recipe
from nas_attn.study.opening import OpenStudy
from nas_attn.study.searching import Options
from nas_attn.training.team import Team
from nas_attn.training.threads import cores

GRACE_S = 60.0
"""Seconds that the processes get to write their checkpoint."""
NAME = "worker"
LAST_LINES = 12
"""Of what torchrun said, where all of it failed."""


def check_together(opened: OpenStudy, way: str, gpus: int, device: str) -> None:
    """Whether runs of this way can be trained by so many processes here.

    Raises:
        RecipeError: an evaluator trains by itself, there are fewer GPUs, or a batch is too small to be shared.
    """
    training = way_recipe(opened.store, way).training
    if training.evaluator is not None:
        raise RecipeError(f"--gpus {gpus} is for the built-in training: the evaluator of this study trains by itself")
    if pick_device(device).type == "cuda" and gpus > torch.cuda.device_count():
        raise RecipeError(f"--gpus {gpus}: this machine has {torch.cuda.device_count()}")
    Team(0, gpus, torch.device("cpu")).check(training.batch_size)


def run_together(opened: OpenStudy, gpus: int, options: Options, *, only: str) -> str:
    """Has the waiting runs of a purpose trained, one after the other, by `gpus` processes at once.

    Returns:
        `complete`, or `stopped` where `options.stop` was set.

    Raises:
        OperationError: the processes failed and left everything as it was.
    """
    while before := _waiting(opened, only):
        code, said = _launch(opened, gpus, options, only)
        if options.stop.is_set():
            return "stopped"
        if code and _waiting(opened, only) == before:
            raise OperationError(
                f"the {gpus} processes that train together ended with an error: {' / '.join(said) or f'status {code}'}"
            )
    return "complete"


def _waiting(opened: OpenStudy, purpose: str) -> list[tuple[int, int]]:
    """(run, times that it was begun), which every launch that gets anywhere changes."""
    return [(row.id, row.attempts) for row in opened.store.queue.rows(state="waiting", purposes=[purpose])]


def _launch(opened: OpenStudy, gpus: int, options: Options, only: str) -> tuple[int, list[str]]:
    """(exit status, last lines that were no worker's) of one torchrun."""
    device = "cpu" if options.device == "cpu" else pick_device(options.device).type
    threads = options.threads or (1 if device == "cuda" else cores(gpus))
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={gpus}"),
            *("-m", "nas_attn.cli.main", "worker", opened.store.name, "--only", only, "--team", "--name", NAME),
            *("--device", device, "--threads", str(threads)),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={
            **os.environ,
            "NAS_ATTN_STORAGE": opened.database.url,
            "OMP_NUM_THREADS": str(threads),
            "PYTHONUNBUFFERED": "1",
        },
        start_new_session=True,  # Ctrl-C reaches them through us, once
    )
    others: deque[str] = deque(maxlen=LAST_LINES)
    reader = threading.Thread(target=_read, args=(process, options, others), daemon=True)
    reader.start()
    try:
        _attend(process, options)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        reader.join(timeout=5)
    return process.wait(), [line for line in others if line]


def _read(process: subprocess.Popen[str], options: Options, others: deque[str]) -> None:
    """Passes on what the leader says; torchrun's own reports are kept for the case that all has failed."""
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            text = line.rstrip()
            if text.startswith((f"{NAME}: ", WARNING)):
                options.say(text)
            elif text.startswith("error: "):
                others.append(text.removeprefix("error: "))


def _attend(process: subprocess.Popen[str], options: Options) -> None:
    """Until it has ended; the wish to stop becomes a signal, which torchrun hands on."""
    asked: float | None = None
    while process.poll() is None:
        time.sleep(0.1)
        if options.stop.is_set() and asked is None:
            asked = time.monotonic()
            process.terminate()
        if asked is not None and time.monotonic() - asked > GRACE_S:
            raise OperationError(
                f"the processes did not stop within {GRACE_S:.0f} s and were killed; the same command goes on from the last "
                "checkpoint"
            )
