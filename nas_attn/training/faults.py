"""Errors of modules, backbones and evaluators. One candidate's error fails it; an error of all
candidates ends the search.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

from nas_attn.errors import (
    BackboneError,
    KnobError,
    NasAttnError,
    OperationError,
    OutOfMemory,
    PlacementError,
    TrainingError,
    first_line,
    shorten,
)
from nas_attn.system.environment import DEBUG, debugging
from nas_attn.system.waiting import Interrupted

# characters of another program's message that are kept
KEPT_LETTERS = 400
# How CUDA and its libraries say that memory has run out, where torch's allocator does not say it
NO_MEMORY = (
    "DefaultCPUAllocator",
    "CUDA error: out of memory",
    "STATUS_ALLOC_FAILED",
    "DEVICE_ALLOCATION_FAILED",
    "HOST_ALLOCATION_FAILED",
)


@contextmanager
def own_fault(doing: str, device: torch.device) -> Iterator[None]:
    """Unexpected exceptions of `doing` become TrainingErrors of the candidate; OperationError if
    the device broke.
    """
    try:
        yield
    except (KnobError, PlacementError, BackboneError) as error:
        raise TrainingError(f"{doing} failed: {error}") from error
    except (NasAttnError, Interrupted):
        raise
    except Exception as error:
        # whatever a user's code may raise
        show_traceback(error)
        if out_of_memory(error):
            raise OutOfMemory(f"not enough memory for {doing}: {said(error)}") from error
        _check_device(device, error)
        raise TrainingError(f"{doing} raised {said(error)}") from error


@contextmanager
def shared_fault() -> Iterator[None]:
    """Errors of a candidate inside would hit all candidates, so they become an `OperationError`,
    which ends the work.
    """
    try:
        yield
    except TrainingError as error:
        raise OperationError(f"no candidate can start: {error}") from error


def require_memory(parameters: float) -> None:
    """Raises OutOfMemory: a network needs more memory than is free; Linux would kill any process,
    without a message.
    """
    # Training holds weights, gradients and momentum in float32, and at times a checkpoint of
    # weights and momentum.
    needed = 5 * 4 * parameters
    free = psutil.virtual_memory().available
    if needed > free:
        raise OutOfMemory(
            f"training its {parameters:,} parameters takes at least {needed / 2**30:.1f} GB of"
            f" memory, but only {free / 2**30:.1f} GB are free"
        )


def said(error: BaseException) -> str:
    """`ValueError: its message`."""
    return f"{type(error).__name__}: {message(error)}"


def message(error: BaseException) -> str:
    """The first line of an error's message, shortened for a sentence."""
    return shorten(first_line(error), KEPT_LETTERS)


def show_traceback(error: BaseException) -> None:
    """Prints a traceback to standard error, if the user debugs."""
    if debugging():
        traceback.print_exception(error)


def _check_device(device: torch.device, error: Exception) -> None:
    """Raises OperationError if the process cannot use its GPU any more, as after an assertion on
    the device or an illegal access.
    """
    if device.type != "cuda":
        return
    try:
        torch.zeros(1, device=device).add_(1).item()
    except RuntimeError:
        raise OperationError(
            f"the device '{device}' no longer answers in this process, after {said(error)}; the"
            f" candidate waits again; resume with {DEBUG}=1 to see where it happens"
        ) from error


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the device or the host had not enough memory."""
    said_so = any(sign in str(error) for sign in NO_MEMORY)
    return said_so or isinstance(error, MemoryError | torch.OutOfMemoryError)
