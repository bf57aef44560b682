"""What the runners of long experiments share: one core, low priority, and pauses."""

from __future__ import annotations

import argparse
import os
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from nas_attn.latency.locks import DeviceLock
from nas_attn.latency.paired import cpu_name

PAUSE_S = 5.0
KERNELS = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
"""Environment in which torch and oneDNN choose the same kernels on newer processors, too."""
C = TypeVar("C")
Hook = Callable[[], object]
Row = dict[str, Any]


class PlannedCell(Protocol):
    """What cells of all experiments have."""

    @property
    def problem(self) -> str: ...

    @property
    def seed(self) -> int: ...


@dataclass(frozen=True)
class Asked:
    """What a runner was called with."""

    root: Path
    hours: float
    problems: frozenset[str]
    """Whose cells are trained."""
    seeds: frozenset[int]
    """Whose cells are trained; two calls with other seeds share the work of two cores."""

    def wants(self, cell: PlannedCell) -> bool:
        return cell.problem in self.problems and cell.seed in self.seeds


def asked(description: str | None, problems: Iterable[str], seeds: Iterable[int]) -> Asked:
    """Reads the command line of a runner, whose experiment has these problems and seeds."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True, help="where the published files lie")
    parser.add_argument("--hours", type=float, default=24.0, help="begin no cell after this time")
    named = list(problems)
    parser.add_argument(
        "--problems", choices=named, nargs="+", default=named, help="only these; default: all"
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=list(seeds), help="only these; default: all"
    )
    options = parser.parse_args()
    return Asked(options.root, options.hours, frozenset(options.problems), frozenset(options.seeds))


def work_through(
    cells: Iterable[C],
    trainer: Callable[[Hook], Callable[[C], Row]],
    keep: Callable[[C, Row], None],
    *,
    folder: Path,
    lock: DeviceLock,
    hours: float,
) -> None:
    """Trains cells in turn and keeps each result with the commit, the processor and the torch that
    computed it.

    Raises SystemExit: the environment lacks `KERNELS`.

    Args:
        trainer: makes, from what a training calls at each step to yield to latency sessions, the
            function that trains a cell.
        folder: the experiment's; while `rows/PAUSE` exists in it, nothing is begun.
    """
    missing = [f"{key}={value}" for key, value in KERNELS.items() if os.environ.get(key) != value]
    if missing:
        raise SystemExit(f"Put this before the command, for the same kernels: {' '.join(missing)}")
    os.nice(19)
    torch.set_num_threads(1)
    end = time.monotonic() + 3600 * hours
    told = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], cwd=folder, text=True)
    origin = {"commit": told.strip(), "processor": cpu_name(), "torch": torch.__version__}
    pause = folder / "rows" / "PAUSE"
    with lock.shared() as hold:
        train = trainer(hold.yield_)
        for cell in cells:
            while pause.exists():
                time.sleep(PAUSE_S)
                hold.yield_()
            if time.monotonic() > end:
                return
            keep(cell, {**train(cell), **origin})
