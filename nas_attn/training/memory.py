"""Whether an error says that memory has run out."""

from __future__ import annotations

import torch

# How CUDA and its libraries say that memory has run out, where torch's allocator does not say it
NO_MEMORY = (
    "DefaultCPUAllocator",
    "CUDA error: out of memory",
    "STATUS_ALLOC_FAILED",
    "DEVICE_ALLOCATION_FAILED",
    "HOST_ALLOCATION_FAILED",
)


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an error means that the device or the host had not enough memory."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return any(sign in str(error) for sign in NO_MEMORY)
