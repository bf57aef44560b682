"""What waits say of themselves."""

from __future__ import annotations

from nas_attn.errors import shown_s
from nas_attn.system.waiting import (
    Awaited,
    DatabaseAway,
    DatabaseBack,
    GaveUp,
    Waited,
    WaitFact,
    Waiting,
)


def wait_text(fact: WaitFact) -> str:
    """A fact about a wait, as a sentence that begins in lower case."""
    match fact:
        case Waiting():
            holder = fact.holder
            if fact.awaited is Awaited.QUIET:
                holder = "the machine was too busy for a valid session"
            what = _awaited_text(fact.awaited, fact.name)
            return f"waiting for {what}, {fact.seconds:.0f} s so far: {holder}"
        case Waited():
            return f"waited {fact.seconds:.0f} s for {_awaited_text(fact.awaited, fact.name)}"
        case GaveUp():
            again = ""
            if fact.awaited is Awaited.DATA:
                again = f" and made it again: {fact.name}"
            return f"stopped waiting for {fact.holder}{again}"
        case DatabaseAway():
            return f"waiting for the database, for up to {shown_s(fact.limit_s)}: {fact.why}"
        case DatabaseBack():
            return f"the database is back after {shown_s(fact.seconds)}: '{fact.where}'"


def _awaited_text(awaited: Awaited, name: str) -> str:
    """What completes "waiting for …"."""
    match awaited:
        case Awaited.DATA:
            return f"{name}, which another process makes"
        case Awaited.DEVICE_TO_MEASURE:
            return "the device, to measure latency on it alone"
        case Awaited.DEVICE_TO_TRAIN:
            return "the device, to train on it: another process measures there"
        case Awaited.QUIET:
            return "a quiet moment to measure latency"
        case Awaited.RUNS:
            return "the runs of other workers"
        case Awaited.TABLES:
            return f"the tables of '{name}', which another process makes"
