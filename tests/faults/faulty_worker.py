"""A worker process for the fault suite: forked from a process that has loaded everything and opened
nothing.
"""

from __future__ import annotations

import errno
import faulthandler
import os
import signal
import sys
import threading
import traceback
from pathlib import Path

import alembic.command
import alembic.runtime.environment  # noqa: F401
import optuna.storages._rdb.models
import optuna.storages._rdb.storage  # noqa: F401
import torch
from sqlalchemy import ColumnElement

from nas_attn import attachment, backbones
from nas_attn.recipe.recipe import BackboneSection
from nas_attn.report import dashboard  # noqa: F401
from nas_attn.searching.run import taking_part
from nas_attn.searching.worker.stopping import interruptible
from nas_attn.storage import artifacts, heartbeat, work
from nas_attn.storage.connection import Connector
from nas_attn.storage.opening import open_study
from nas_attn.system.environment import STORAGE_WAIT

SILENT_S = 3.0
MOST_THREADS = 2
STACKS = signal.SIGRTMIN
"""Has a worker write down where each of its threads stands."""
FULL = "full"
"""While a file of this name is there, the disk of the artifacts is full."""
FAULTS = "faults.txt"
"""Takes the traceback of whatever a worker ended by that it should not have."""


def load_all() -> None:
    """What a worker would load as it goes, torch's own parts for counting a network above all:
    seconds, for each of them.
    """
    model = backbones.build(
        BackboneSection(name="resnet8", width=4), input_shape=(1, 8, 8), classes=3
    )
    attachment.cost(model, (1, 8, 8))


# A process with several threads cannot be forked.
torch.set_num_threads(1)
load_all()


def run(folder: str, url: str, clock_s: float, silent_s: float, threads: int | None) -> None:
    """One worker of the study `faults`, until it is complete or it is told to stop.

    Args:
        clock_s: by how much this process's clock is wrong.
        silent_s: how long it waits for another worker's sign of life.
        threads: None: up to MOST_THREADS, as the worker measures.
    """
    os.chdir(folder)
    os.setsid()  # signals from the terminal are the suite's
    sys.path.insert(0, folder)
    os.environ[STORAGE_WAIT] = "120"
    os.environ["OMP_NUM_THREADS"] = str(MOST_THREADS)
    with open("said.txt", "a", buffering=1) as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    faulthandler.register(STACKS)
    torch.set_num_threads(1)
    work.SILENT_S = silent_s
    heartbeat.BEAT_S = silent_s / 4
    heartbeat.LISTEN_S = silent_s / 12
    _fill_disk()
    if clock_s:
        _shift_clock(clock_s)
    stop = threading.Event()

    def say(line: str) -> None:
        print(f"{os.getpid()}: {line}", flush=True)

    try:
        with interruptible(stop, say):
            taking_part.work(
                open_study("faults", url),
                taking_part.Options(device="cpu", threads=threads, say=say, stop=stop),
            )
    except KeyboardInterrupt:
        pass
    except BaseException:
        with open(FAULTS, "a") as file:
            file.write(traceback.format_exc())


def _fill_disk() -> None:
    written = artifacts.FolderArtifacts.write

    def write(self: artifacts.FolderArtifacts, name: str, content: bytes) -> None:
        if Path(FULL).exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        written(self, name, content)

    artifacts.FolderArtifacts.write = write  # type: ignore[method-assign]


def _shift_clock(seconds: float) -> None:
    """What SQLite takes for the time is this process's; a server has its own."""
    true = Connector.clock.fget  # type: ignore[attr-defined]
    assert true is not None

    def clock(self: Connector) -> ColumnElement[float]:
        now: ColumnElement[float] = true(self)
        return now + seconds if self.is_sqlite else now

    Connector.clock = property(clock)  # type: ignore[assignment,method-assign]
