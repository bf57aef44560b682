"""How running out of memory is recognised, on a device or the host."""

from __future__ import annotations

import torch


def out_of_memory(error: RuntimeError) -> bool:
    """Whether this is a device's or the host's way of saying so."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
