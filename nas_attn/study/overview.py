"""A study at a glance: how far it is, who works on it and at what, what has failed and why. Cheap enough to watch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from nas_attn.errors import NasAttnError
from nas_attn.processes import is_dead, machine_and_pid
from nas_attn.storage import SEARCH, WorkerRow
from nas_attn.study.launching import engine, launches
from nas_attn.study.opening import OpenStudy
from nas_attn.study.progress import PACE_OF, Progress, progress

FEWEST = 3
SILENT_S = 60.0
"""Silence from which on a worker counts as silent: it renews its leases every quarter of this."""


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker for people."""

    machine: str
    pid: str
    device: str
    state: str
    """`working`, `waiting`, `silent` (for longer than its leases last) or `gone` (its process has died)."""
    doing: str
    waiting: str
    at_it_s: float
    silent_s: float
    here_s: float


@dataclass(frozen=True, slots=True)
class Overview:
    """A study as of now."""

    progress: Progress
    per_hour: float | None
    """Candidates finished in an hour, at the pace of the last ones; None where there are too few, or nobody works."""
    workers: tuple[WorkerView, ...]
    launched: tuple[str, ...]
    """What engines say of what was launched on them: `slurm: 3 running, 13 pending`."""
    failures: tuple[tuple[str, int], ...]
    """(reason, how many candidates and other runs), the most frequent first."""


def overview(opened: OpenStudy) -> Overview:
    """The study as of now."""
    store, now = opened.store, opened.database.now()
    found = progress(opened)
    workers = workers_of(opened)
    per_hour = None
    if any(worker.state in ("working", "waiting") for worker in workers):
        times = [row.finished_at for row in store.candidates() if row.finished_at]
        per_hour = _per_hour(sorted(times, reverse=True)[:PACE_OF], now)
    open_ones = found.trials - found.finished
    return Overview(
        progress=found,
        per_hour=per_hour,
        workers=workers,
        launched=tuple(_launched(opened)) if workers or open_ones > 0 else (),
        failures=tuple(_failures(opened)),
    )


def workers_of(opened: OpenStudy) -> tuple[WorkerView, ...]:
    """Who works on the study, and at what."""
    return tuple(_view(row, local=opened.store.is_local) for row in opened.store.workers.rows())


def _view(row: WorkerRow, *, local: bool) -> WorkerView:
    machine, pid = machine_and_pid(row.owner)
    state = "waiting" if row.waiting else "working"
    if is_dead(row.owner, local=local):
        state = "gone"
    elif row.silent_s > SILENT_S:
        state = "silent"
    return WorkerView(machine, pid, row.device, state, row.doing, row.waiting, row.at_it_s, row.silent_s, row.here_s)


def _per_hour(finished: list[float], now: float) -> float | None:
    """Args:
    finished: when, by the database's clock; the last ones.
    """
    if len(finished) < FEWEST:
        return None
    return (len(finished) - 1) / max(1e-3, now - min(finished)) * 3600


def _launched(opened: OpenStudy) -> list[str]:
    found = []
    for launched in launches(opened):
        try:
            state = engine(launched.on).state(launched)
        except NasAttnError:  # an engine that is not on this machine
            state = f"{len(launched.jobs)} launched from {launched.host}"
        if state:
            found.append(f"{launched.on}: {state}")
    return found


def _failures(opened: OpenStudy) -> list[tuple[str, int]]:
    found = Counter(row.reason for row in opened.store.candidates() if row.state == "failed")
    found.update(row.reason for row in opened.store.queue.rows(state="failed") if row.run.purpose != SEARCH)
    named: Counter[str] = Counter()
    for reason, count in found.items():
        named[reason or "no reason is known"] += count
    return named.most_common()
