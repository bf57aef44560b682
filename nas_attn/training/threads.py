"""How many intra-op threads a training takes: as many as a few of its own steps show to be worth it.

Threads wait for each other at the end of every operation. Beside other busy processes one of them does not run then, and the
others wait for its turn: a step of a small network took 1.1 s with two threads where it took 20 ms with one (2 cores, two
other busy processes). Nothing known beforehand tells this from an idle machine; timing a few steps does.

The number is fixed for a run and goes into its checkpoint: sums are taken in another order with another number.
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
CHANGED = 0.5
"""Cores more or less that others keep busy, upon which threads are chosen anew."""
LATEST_S = 900.0
"""Seconds after which they are chosen anew in any case."""
SHORTEST_S = 0.3
"""Over which the machine's load can be told."""


class Threads:
    """The intra-op threads of one worker's trainings on a CPU.

    Args:
        fixed: a user's own number; None: chosen by measuring.
        most: not more than these; None: all cores.
        busy: of the cores, how many others have kept busy since it was last asked.
        here: cores that this process may use.
    """

    def __init__(
        self,
        fixed: int | None = None,
        *,
        most: int | None = None,
        busy: Callable[[], float] | None = None,
        here: int | None = None,
    ) -> None:
        self.fixed, self.most = fixed, most or cores()
        self._cores = here or cores()
        self._busy = busy or Load(self._cores).others
        self._chosen: int | None = None
        self._latest = fixed or 1
        self._seen, self._at = 0.0, 0.0
        """What others kept busy when it was chosen, and when that was."""

    @property
    def usual(self) -> int:
        """For what is no training of ours and cannot be timed, like a user's evaluator."""
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
                    f"a run that was begun with {recorded} threads goes on with {self.fixed}, as you asked: its result "
                    "will differ in the last digits",
                    NasAttnWarning,
                    stacklevel=2,
                )
            return self.fixed
        if recorded is not None:
            return recorded
        if self.most == 1:
            return 1
        busy = self._busy()
        old = time.monotonic() - self._at > LATEST_S
        if self._chosen is None or old or abs(busy - self._seen) >= CHANGED:
            free = round(self._cores - busy)
            self._chosen, self._seen, self._at = quickest(step, min(self.most, free)), busy, time.monotonic()
        return self._chosen


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
    """The number of threads (1, 2, 4, …, most) with which a step is quickest, never slower than with one.

    Goes up as long as that pays, each time.
    """
    best = 1
    with intra_op_threads(None):
        for number in _numbers(most):
            try:
                if not _pays(step, number, best):
                    break
            except Exception:  # what is wrong with it the training itself will say
                break
            best = number
    return best


def _numbers(most: int) -> list[int]:
    """2, 4, …, most; none where there is nothing to choose."""
    return [*(2**power for power in range(1, 32) if 2**power < most), most] if most > 1 else []


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


def busy_s() -> float:
    """Seconds that all cores of this machine have been busy since some time."""
    import psutil

    times = psutil.cpu_times()
    guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)  # which are in user, too
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - guests)


class Load:
    """What the machine's cores are busy with, by the system's own account.

    Args:
        here: the cores of interest, with their part of what all are busy with.
    """

    def __init__(self, here: int) -> None:
        self._share = here / (os.cpu_count() or here)
        self._last = self._account()

    def others(self) -> float:
        """Cores that other processes have kept busy, on average since the last call (or the beginning)."""
        time.sleep(max(0.0, SHORTEST_S - (time.monotonic() - self._last[0])))
        before, self._last = self._last, self._account()
        wall, busy, mine = (now - then for now, then in zip(self._last, before, strict=True))
        return max(0.0, self._share * (busy - mine)) / wall

    @staticmethod
    def _account() -> tuple[float, float, float]:
        """Seconds since some time: on the wall, of all cores busy, of this process."""
        wall, mine = time.monotonic(), time.process_time()
        return wall, busy_s(), mine
