"""Times on the device's clock, and counted replays."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

SESSION_TURNS = 5


def microseconds(call: Callable[[], object], device: torch.device, calls: int = 10) -> float:
    """Of a call: the median over turns of so many calls each, after an untimed one."""
    call()
    return statistics.median(_turn(call, device, calls) for _ in range(SESSION_TURNS))


def _turn(call: Callable[[], object], device: torch.device, calls: int) -> float:
    if device.type != "cuda":
        began = time.perf_counter()
        for _ in range(calls):
            call()
        return (time.perf_counter() - began) / calls * 1e6
    begin = _event()
    end = _event()
    torch.cuda.synchronize(device)
    begin.record()
    for _ in range(calls):
        call()
    end.record()
    torch.cuda.synchronize(device)
    milliseconds: float = begin.elapsed_time(end)
    return milliseconds / calls * 1e3


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


@contextmanager
def counted_replays() -> Iterator[list[int]]:
    """Inside, replays of CUDA graphs are counted in the list's only entry."""
    count = [0]
    replay = torch.cuda.CUDAGraph.replay

    def counting(graph: torch.cuda.CUDAGraph) -> None:
        count[0] += 1
        replay(graph)

    torch.cuda.CUDAGraph.replay = counting  # type: ignore[method-assign, assignment]
    try:
        yield count
    finally:
        torch.cuda.CUDAGraph.replay = replay  # type: ignore[method-assign]
