"""Where the time of a study's workers went."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from nas_attn.recipe.purposes import VALIDATE
from nas_attn.storage.records import StoredScore, WorkerSpan


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
