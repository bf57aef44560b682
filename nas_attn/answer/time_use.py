"""Where the time of a study's workers went."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from nas_attn.errors import several
from nas_attn.recipe.purposes import VALIDATE
from nas_attn.recipe.units import duration
from nas_attn.storage.records import StoredScore, WorkerSpan
from nas_attn.system.processes import machine_and_pid


class TimeUse(StrEnum):
    """What a worker does with its time."""

    TRAINING = "training"
    """Training and scoring for the search and for use."""
    IMAGES = "images"
    """Within a training: waiting for images."""
    MEASURING = "measuring"
    """Sessions of latency."""
    TESTING = "testing"
    """Training and scoring for a test."""
    WAITING = "waiting"
    """The rest: waiting for other workers and for locks, starting, proposing, saving."""


CALLED: Mapping[TimeUse, str] = {
    TimeUse.TRAINING: "training",
    TimeUse.IMAGES: "waiting for images",
    TimeUse.MEASURING: "measuring latency",
    TimeUse.TESTING: "testing",
    TimeUse.WAITING: "waiting and overhead",
}
# Shares below this are not said
LEAST_SHOWN_SHARE = 0.005


@dataclass(frozen=True, slots=True)
class WorkerTime:
    """The seconds of one worker."""

    owner: str
    device: str
    here_s: float
    by_use: Mapping[TimeUse, float]


def time_use(
    workers: Iterable[WorkerSpan],
    scores: Iterable[StoredScore],
    measured_s: Mapping[str, float],
) -> tuple[WorkerTime, ...]:
    """Of each worker, the longest first. What a worker wrote that is not listed is left out.

    Args:
        measured_s: worker -> seconds of its latency sessions.
    """
    spent: dict[str, dict[TimeUse, float]] = defaultdict(lambda: dict.fromkeys(TimeUse, 0.0))
    for stored in scores:
        if stored.owner is None:
            continue
        waited = stored.score.wall_s * stored.score.metrics.get("loading_share", 0.0)
        use = TimeUse.TESTING if stored.purpose == VALIDATE else TimeUse.TRAINING
        spent[stored.owner][use] += stored.score.wall_s - waited
        spent[stored.owner][TimeUse.IMAGES] += waited
    for owner, seconds in measured_s.items():
        spent[owner][TimeUse.MEASURING] += seconds
    times = []
    for worker in workers:
        by_use = spent[worker.owner]
        busy = sum(by_use.values())
        # a run that was begun by a worker before may have brought its seconds along
        by_use[TimeUse.WAITING] = max(0.0, worker.here_s - busy)
        times.append(WorkerTime(worker.owner, worker.device, worker.here_s, by_use))
    return tuple(sorted(times, key=lambda one: -one.here_s))


def total_time(times: Sequence[WorkerTime]) -> Mapping[TimeUse, float]:
    """Over all workers."""
    return {use: sum(worker.by_use[use] for worker in times) for use in TimeUse}


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
