"""How many intra-op threads a training takes: as many as a few of its own steps show to be worth it.

Threads wait for each other at the end of every operation, and beside busy processes for the one that does not run: a step of a
small network took 1.1 s with two threads where it took 20 ms with one (2 cores, two other busy processes). The number is
fixed for a run and goes into its checkpoint, because it changes the order of sums.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from nas_attn.errors import NasAttnWarning
from nas_attn.processes import cores

GAIN = 0.9
"""More threads are taken where steps take less than this share of the time with fewer, and each of them less."""
ROUNDS = 3
"""Steps timed with more and with fewer threads, in turns, after one each to warm up."""
FAR = 5.0
"""So many times the time of fewer threads, and the first step with more is the last."""
LONG_S = 0.5
"""Where a step takes this long, one round is enough."""
LATEST_S = 900.0
"""Seconds after which the number is chosen anew."""


class Threads:
    """The intra-op threads of one worker's trainings on a CPU.

    Args:
        fixed: a user's own number; None: chosen by measuring.
        most: not more than these; None: all cores.
    """

    def __init__(self, fixed: int | None = None, *, most: int | None = None) -> None:
        self.fixed, self.most = fixed, most or cores()
        self._latest = fixed or 1
        self._chosen: tuple[int, float] | None = None
        """The number, and when it was chosen."""

    @property
    def usual(self) -> int:
        """For what cannot be timed, like a user's evaluator."""
        return self.fixed or self.most

    @contextmanager
    def latest(self) -> Iterator[None]:
        """In here, torch has as many as the last run had, one where there was none."""
        with intra_op_threads(self._latest):
            yield

    def number(self, recorded: int | None, step: Callable[[], object]) -> int:
        """Threads of a run; raises nothing that a step raises.

        Args:
            recorded: those that it was begun with; None: it begins now.
            step: does one step of it, on a copy.
        """
        self._latest = self._number(recorded, step)
        return self._latest

    def _number(self, recorded: int | None, step: Callable[[], object]) -> int:
        if self.fixed is not None:
            if recorded not in (None, self.fixed):
                warnings.warn(
                    f"a run that began with {recorded} threads continues with {self.fixed}, as you asked: its result "
                    "will differ in the last digits",
                    NasAttnWarning,
                    stacklevel=2,
                )
            return self.fixed
        if recorded is not None:
            return recorded
        if self._chosen is None or time.monotonic() - self._chosen[1] > LATEST_S:
            self._chosen = quickest(step, self.most), time.monotonic()
        return self._chosen[0]


@contextmanager
def intra_op_threads(threads: int | None) -> Iterator[None]:
    """Torch with so many threads inside; None: as it is. Inside, the number may be set anew."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def quickest(step: Callable[[], object], most: int) -> int:
    """The number of threads (1, 2, 4, …, most) with which a step is quickest: it goes up as long as that pays."""
    best, numbers = 1, [2**power for power in range(1, 32) if 2**power < most]
    with intra_op_threads(None):
        for number in (*numbers, most) if most > 1 else ():
            try:
                if not _pays(step, number, best):
                    break
            except Exception:  # the training itself will say what is wrong
                break
            best = number
    return best


def _pays(step: Callable[[], object], number: int, fewer: int) -> bool:
    """Whether steps are quicker with a number of threads than with fewer, tried in turns, each time."""
    fewer_s, more_s = _time(step, fewer), _time(step, number)
    if more_s > FAR * fewer_s:
        return False
    times_s = []
    for _ in range(1 if fewer_s > LONG_S else ROUNDS):
        fewer_s, more_s = _time(step, fewer), _time(step, number)
        if more_s >= fewer_s:
            return False
        times_s.append((fewer_s, more_s))
    return sum(more for _, more in times_s) < GAIN * sum(few for few, _ in times_s)


def _time(step: Callable[[], object], threads: int) -> float:
    torch.set_num_threads(threads)
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def cores_for(workers: int = 1) -> int:
    """Cores for each of several workers of this machine: those that this process may use, or `$OMP_NUM_THREADS` of them."""
    here = cores()
    said = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return max(1, min(here // workers, int(said) if said.isdigit() and int(said) else here))
