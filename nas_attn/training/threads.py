"""The number of threads of a training on a CPU: the user's, or the fastest.

Threads wait for each other at the end of every operation: beside two busy processes on 2 cores, a
step of a small network took 1.1 s with two threads, 20 ms with one. The number is fixed for a run,
in its checkpoint, because it changes the order of sums.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from nas_attn.system.notes import OtherThreads, warn
from nas_attn.system.processes import cores

# more threads, or a lower precision, pay if steps take less than this share of the time
GAIN = 0.9
# Timed steps with more and with fewer threads, in turns, after a warm-up step each: at least, and
# at most where they contradict each other
TIMED_ROUNDS = 3
MOST_ROUNDS = 9
# if the first two steps take so many times longer, more threads are not tried again
HOPELESS = 5.0
# a step of this length averages over other work by itself: three rounds at most
LONG_S = 0.5
# seconds after which the number is chosen anew
LATEST_S = 900.0


class Threads:
    """The intra-op threads of one worker's trainings on a CPU: `fixed` by the user, else measured,
    `most` of the cores.
    """

    def __init__(self, fixed: int | None = None, *, most: int | None = None) -> None:
        self.fixed = fixed
        self.most = most or cores()
        self._latest = fixed or 1
        self._chosen: tuple[int, float] | None = None

    @property
    def usual(self) -> int:
        """Threads for work that cannot be timed, like a user's evaluator."""
        return self.fixed or self.most

    @contextmanager
    def latest(self) -> Iterator[None]:
        """Inside, torch has as many threads as the last run, or one."""
        with intra_op_threads(self._latest):
            yield

    def number(self, recorded: int | None, step: Callable[[], object]) -> int:
        """Threads of a run: `recorded` at its beginning, or found by timing steps of a copy; their
        errors are ignored.
        """
        self._latest = self._number(recorded, step)
        return self._latest

    def _number(self, recorded: int | None, step: Callable[[], object]) -> int:
        if self.fixed is not None:
            if recorded is not None and recorded != self.fixed:
                warn(OtherThreads(recorded, self.fixed), stacklevel=2)
            return self.fixed
        if recorded is not None:
            return recorded
        if self._chosen is None or time.monotonic() - self._chosen[1] > LATEST_S:
            self._chosen = quickest(step, self.most), time.monotonic()
        return self._chosen[0]


@contextmanager
def intra_op_threads(threads: int | None) -> Iterator[None]:
    """Inside, torch has so many threads; None: as before. The number may be changed inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def quickest(step: Callable[[], object], most: int) -> int:
    """The number of threads (1, 2, 4, …, most) with the fastest step: doubles it as long as this
    helps.
    """
    best = 1
    numbers = [2**power for power in range(1, 32) if 2**power < most]
    with intra_op_threads(None):
        for number in (*numbers, most) if most > 1 else ():
            try:
                if not _pays(step, number, best):
                    break
            except Exception:
                # the training itself will report the error
                break
            best = number
    return best


def _pays(step: Callable[[], object], number: int, fewer: int) -> bool:
    """Whether steps are usually faster with `number` threads than with `fewer`, timed in turns. A
    moment in which other work interrupts some of the steps does not decide.
    """
    fewer_s = _time(step, fewer)
    more_s = _time(step, number)
    if more_s > HOPELESS * fewer_s and _time(step, number) > HOPELESS * _time(step, fewer):
        return False
    rounds = range(TIMED_ROUNDS if fewer_s > LONG_S else MOST_ROUNDS)
    ratios = list[float]()
    for _ in rounds:
        fewer_s = _time(step, fewer)
        more_s = _time(step, number)
        ratios.append(more_s / fewer_s)
        faster = [ratio < 1.0 for ratio in ratios]
        if len(ratios) >= TIMED_ROUNDS and (all(faster) or not any(faster)):
            break
    return statistics.median(ratios) < GAIN


def _time(step: Callable[[], object], threads: int) -> float:
    torch.set_num_threads(threads)
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def cores_for(workers: int = 1) -> int:
    """Cores for each of several workers: a share of those that this process may use, or of
    `$OMP_NUM_THREADS`.
    """
    here = cores()
    variable = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return max(
        1, min(here // workers, int(variable) if variable.isdigit() and int(variable) else here)
    )
