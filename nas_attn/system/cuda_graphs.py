"""CUDA graphs: what a capture needs, and how a process goes on after one that failed.

On torch 2.11 a failed capture leaves its pool of memory open and the generator in the state of a
capture: then `torch.cuda.empty_cache()` asserts, and dropout raises. So work that waits for the GPU
is not captured in the first place (`waits`), and what another failure leaves is put right
(`mend`).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

from nas_attn.errors import DeviceLost, first_line

# Threads that read images pin memory meanwhile, which the mode `global` forbids to all threads.
CAPTURE_MODE = "thread_local"
# how torch warns of one
SYNCHRONIZING = "called a synchronizing CUDA operation"
# begins what torch says of its own warnings
PROTOTYPE = "Synchronization debug mode"

Pool = tuple[int, int]


def index_of(device: torch.device) -> int:
    """A GPU's number; the current one if the device names none."""
    return torch.cuda.current_device() if device.index is None else device.index


def side_stream(device: torch.device) -> torch.cuda.Stream:
    """The stream of this process for what is captured on a GPU: always the same one, since cuBLAS
    keeps a workspace of 32 MiB for each stream that it has seen.
    """
    return kept_stream(index_of(device))


@cache
def kept_stream(index: int) -> torch.cuda.Stream:
    """The side stream of the GPU of this number."""
    return torch.cuda.Stream(torch.device("cuda", index))  # type: ignore[no-untyped-call]


@contextmanager
def capture(graph: torch.cuda.CUDAGraph, device: torch.device, pool: Pool) -> Iterator[None]:
    """Inside, work goes into the graph instead of to the GPU.

    After an error the current stream is as before, but the process may not be able to use the GPU:
    call `mend`.
    """
    # A capture that fails may leave its own stream the current one.
    before = torch.cuda.stream(torch.cuda.current_stream(device))
    options: dict[str, Any] = {"pool": pool, "stream": side_stream(device)}
    with before, torch.cuda.graph(graph, **options, capture_error_mode=CAPTURE_MODE):
        yield


@contextmanager
def waits() -> Iterator[list[str]]:
    """Inside, torch notes each operation that makes the host wait for the GPU; the list is complete
    afterwards, and has the line of Python for each: `network.py:12`.
    """
    noted: list[str] = []
    mode = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield noted
        finally:
            torch.cuda.set_sync_debug_mode(mode)
    for warning in caught:
        text = str(warning.message)
        if SYNCHRONIZING in text:
            noted.append(f"{warning.filename}:{warning.lineno}")
        elif PROTOTYPE not in text:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )


def mend(device: torch.device, pool: Pool, error: Exception, *, way_out: str) -> None:
    """Makes the process able to use the GPU again after a capture that failed.

    Args:
        device: the GPU.
        pool: the memory that the capture had.
        error: what the capture failed with.
        way_out: ends the sentence of DeviceLost.

    Raises:
        DeviceLost: this process is not able, but another one will be.
    """
    # torch's own way to end a pool; it is private, and may go
    end_pool = getattr(torch._C, "_cuda_endAllocateToPool", None)
    try:
        torch.cuda.synchronize(device)
        if end_pool is not None:
            end_pool(index_of(device), pool)
        # A capture that succeeds leaves the generator as it should be.
        with capture(torch.cuda.CUDAGraph(), device, torch.cuda.graph_pool_handle()):
            torch.zeros(1, device=device).add_(1)
        torch.cuda.empty_cache()
        torch.rand(1, device=device)
    except RuntimeError:
        raise DeviceLost(
            f"a CUDA graph could not be recorded ({first_line(error)}), and this process cannot use"
            f" the device '{device}' any more: {way_out}"
        ) from error
