"""The workers of a study: those that are at it, and those that have ended."""

from __future__ import annotations

from nas_attn.answer.worker_facts import FormerView, WorkerView
from nas_attn.storage.opening import OpenStudy
from nas_attn.storage.rows import FormerWorker, WorkerRow
from nas_attn.system.processes import is_dead, machine_and_pid

# a worker is silent after this time; it renews its leases four times as often
SILENT_S = 60.0


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
