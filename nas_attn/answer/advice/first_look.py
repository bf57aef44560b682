"""A first look at a network, before it is timed: whether it is far slower than the bare one, and
how long a call takes. On a CPU.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nas_attn.answer.advice.facts import TOO_SLOW
from nas_attn.training.numerics import intra_op_threads

SMALLER = (4, 2)
"""Of a side of the images: parts on which a network is tried first."""
FAR_TOO_SLOW = 2 * TOO_SLOW
"""There, in times of the bare backbone's forward pass."""
ROUNDS = 4
"""Forward passes of each network before one is called too slow; the first of them are slow."""
FEWEST_ROUNDS = 2
"""One round is not believed, whatever it says."""
LONG_LOOK_S = 2.0
"""What takes so long is not repeated."""


@dataclass(frozen=True, slots=True)
class _Pass:
    """Seconds of a forward pass."""

    own_s: float
    """On the clock that compares: the thread's own with one thread, on which other programs do not
    count; else the wall clock.
    """
    wall_s: float


class RoughTiming:
    """Compares networks with the bare one in turns, so that a busy moment slows both."""

    def __init__(self, bare: nn.Module, x: Tensor, threads: int) -> None:
        """All networks are in evaluation mode."""
        self._bare = bare
        self._x = x
        self._threads = threads
        parts = [x[..., ::step, ::step] for step in SMALLER]
        self._smaller = [part for part in parts if self._takes(part)]
        self.bare_s = self._shortest_s()

    def seconds(self, model: nn.Module) -> float | None:
        """Of a forward pass on the wall clock, about; None: it is too slow.

        Smaller images come first: what grows with the square of the pixels may take longer for one
        pass on whole ones than all there is.
        """
        with _running(self._threads):
            for x in self._smaller:
                try:
                    passes = self._passes(model, x, FAR_TOO_SLOW)
                except Exception:
                    # whatever a network raises that wants one size
                    continue
                if passes is None:
                    return None
            passes = self._passes(model, self._x, TOO_SLOW)
        return None if passes is None else min(one.wall_s for one in passes)

    def _passes(self, model: nn.Module, x: Tensor, limit: float) -> list[_Pass] | None:
        """A few; None: even the shortest takes more than `limit` times the bare backbone's."""
        passes: list[_Pass] = []
        bare: list[_Pass] = []
        while len(passes) < ROUNDS and _own_s(passes) < LONG_LOOK_S:
            bare.append(self._pass(self._bare, x))
            passes.append(self._pass(model, x))
            if len(passes) >= FEWEST_ROUNDS and _least_s(passes) <= limit * _least_s(bare):
                break
        return passes if _least_s(passes) <= limit * _least_s(bare) else None

    def _pass(self, model: nn.Module, x: Tensor) -> _Pass:
        wall = time.perf_counter()
        own = time.thread_time()
        model(x)
        own_s = time.thread_time() - own
        wall_s = time.perf_counter() - wall
        return _Pass(own_s if self._threads == 1 else wall_s, wall_s)

    def _takes(self, x: Tensor) -> bool:
        """Whether the bare backbone runs on such images."""
        try:
            with _running(self._threads):
                self._bare(x)
        except Exception:
            # whatever a network raises that wants one size
            return False
        return True

    def _shortest_s(self) -> float:
        """Of the bare backbone's passes."""
        passes: list[_Pass] = []
        with _running(self._threads):
            while len(passes) < ROUNDS and _own_s(passes) < LONG_LOOK_S:
                passes.append(self._pass(self._bare, self._x))
        return min(one.wall_s for one in passes)


@contextmanager
def _running(threads: int) -> Iterator[None]:
    with intra_op_threads(threads), torch.inference_mode():
        yield


def _own_s(passes: list[_Pass]) -> float:
    return sum(one.own_s for one in passes)


def _least_s(passes: list[_Pass]) -> float:
    return min(one.own_s for one in passes)
