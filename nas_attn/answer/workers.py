"""The workers of a study as they are seen from outside, and where their time went."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from nas_attn.errors import several
from nas_attn.recipe.purposes import VALIDATE
from nas_attn.recipe.units import duration
from nas_attn.storage.opening import OpenStudy
from nas_attn.storage.records import StoredScore, WorkerSpan
from nas_attn.storage.rows import FormerWorker, WorkerRow
from nas_attn.system.processes import is_dead, machine_and_pid

# a worker is silent after this time; it renews its leases four times as often
SILENT_S = 60.0


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker that has not left."""

    machine: str
    pid: str
    device: str
    # `working`, `waiting`, `silent` (for longer than its leases last) or `gone` (its process has
    # died)
    state: str
    doing: str
    waiting: str
    at_it_s: float
    silent_s: float
    here_s: float


@dataclass(frozen=True, slots=True)
class FormerView:
    """A worker that has ended, and what it has written. Times in Unix seconds."""

    machine: str
    pid: str
    device: str
    began_at: float
    left_at: float
    # `left` in order, or `lost`
    ending: str
    scores: int
    sessions: int


@dataclass(frozen=True, slots=True)
class LaunchState:
    """How workers of one launch are, as far as their engine says."""

    # state in the engine's own words -> how many workers
    counts: Mapping[str, int] = field(default_factory=dict)
    # the machine that alone can say, if it is another one; else empty
    host: str = ""
    # the engine's command that does not answer; else empty
    silent: str = ""


@dataclass(frozen=True, slots=True)
class FailedStart:
    """A worker that ended with an error soon after its start."""

    name: str
    status: int
    # the last one of its log; empty: it has none
    line: str
    log: Path


def workers_of(opened: OpenStudy) -> tuple[WorkerView, ...]:
    """The study's workers and their tasks."""
    return tuple(_view(row, local=opened.store.is_local) for row in opened.store.workers.rows())


def former_view(row: FormerWorker) -> FormerView:
    machine, pid = machine_and_pid(row.owner)
    return FormerView(
        machine=machine,
        pid=pid,
        device=row.device,
        began_at=row.began_at,
        left_at=row.left_at,
        ending=row.ending,
        scores=row.scores,
        sessions=row.sessions,
    )


def _view(row: WorkerRow, *, local: bool) -> WorkerView:
    machine, pid = machine_and_pid(row.owner)
    state = "waiting" if row.waiting else "working"
    if is_dead(row.owner, local=local):
        state = "gone"
    elif row.silent_s > SILENT_S:
        state = "silent"
    return WorkerView(
        machine,
        pid,
        row.device,
        state,
        row.doing,
        row.waiting,
        row.at_it_s,
        row.silent_s,
        row.here_s,
    )


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
# a pause: longer than so many usual gaps, and than so many seconds
PAUSE = 10.0
LEAST_PAUSE_S = 60.0
# and than so many runs: workers that end together leave gaps of a whole run, which are no pauses
PAUSE_RUNS = 3.0
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


def without_pauses(gaps: Sequence[float], run_s: Callable[[], float]) -> list[float]:
    """The gaps that are no pauses between calls.
    `run_s`: gives the seconds of a run; called only if there may be a pause.
    """
    # of two, one may be a pause
    longest = max(PAUSE * statistics.median_low(gaps), LEAST_PAUSE_S)
    if max(gaps) > longest:
        longest = max(longest, PAUSE_RUNS * run_s())
    return [gap for gap in gaps if gap <= longest]
