"""Where the time of a study's workers went, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nas_attn.answer.time_use import TimeUse, WorkerTime, total_time
from nas_attn.errors import several
from nas_attn.recipe.units import duration
from nas_attn.system.processes import machine_and_pid

CALLED: Mapping[TimeUse, str] = {
    TimeUse.TRAINING: "training",
    TimeUse.IMAGES: "waiting for images",
    TimeUse.MEASURING: "measuring latency",
    TimeUse.TESTING: "testing",
    TimeUse.WAITING: "waiting and overhead",
}
# Shares below this are not said
LEAST_SHOWN_SHARE = 0.005


def time_sentence(times: Sequence[WorkerTime]) -> str:
    """The largest part first; empty where nothing is known."""
    spent = total_time(times)
    total = sum(spent.values())
    if total <= 0:
        return ""
    largest, *others = sorted(spent, key=lambda use: -spent[use])
    shares = [
        f"{CALLED[use]} {100 * spent[use] / total:.0f} %"
        for use in others
        if spent[use] / total >= LEAST_SHOWN_SHARE
    ]
    what = CALLED[largest]
    took = f"{what[:1].upper()}{what[1:]} took most of the time"
    share = f"{100 * spent[largest] / total:.0f} %"
    workers = several(len(times), "worker")
    rest = f"; {', '.join(shares)}" if shares else ""
    return f"{took}: {share} of {duration(total)} by {workers}{rest}."


def time_rows(times: Sequence[WorkerTime]) -> list[list[str]]:
    """A row for each worker, below `time_heads`."""
    return [
        [
            worker_name(worker),
            worker.device,
            duration(worker.here_s),
            *(duration(worker.by_use[use]) for use in TimeUse),
        ]
        for worker in times
    ]


def time_heads() -> list[str]:
    return ["worker", "device", "here", *CALLED.values()]


def worker_name(worker: WorkerTime) -> str:
    """`machine, pid 12`."""
    machine, pid = machine_and_pid(worker.owner)
    return f"{machine}, pid {pid}"


def time_as_json(times: Sequence[WorkerTime]) -> dict[str, Any]:
    """The largest part, the sums, and each worker's."""
    spent = total_time(times)
    largest = max(spent, key=lambda use: spent[use]) if times else None
    return {
        "largest": None if largest is None else largest.value,
        **_seconds(spent),
        "workers": [
            {
                "worker": worker_name(worker),
                "device": worker.device,
                "here_s": worker.here_s,
                **_seconds(worker.by_use),
            }
            for worker in times
        ],
    }


def _seconds(spent: Mapping[TimeUse, float]) -> dict[str, float]:
    return {f"{use.value}_s": seconds for use, seconds in spent.items()}
