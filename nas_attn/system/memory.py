"""How many workers share a machine's memory."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Share:
    """How many workers share the memory."""

    # Workers on this machine
    machine: int = 1
    # Workers on this GPU
    device: int = 1


SOLE_WORKER = Share()
