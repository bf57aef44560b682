"""The workers of a study as they are seen from outside."""

from __future__ import annotations

from dataclasses import dataclass

from nas_attn.storage.opening import OpenStudy
from nas_attn.storage.rows import WorkerRow
from nas_attn.storage.work import SILENT_S
from nas_attn.system.processes import is_dead, machine_and_pid


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker that has not left."""

    machine: str
    pid: str
    device: str
    # `working`, `waiting`, `silent` (others take its work over) or `gone` (its process has died)
    state: str
    doing: str
    waiting: str
    at_it_s: float
    silent_s: float
    here_s: float

    @property
    def works(self) -> bool:
        """Whether it is at work, as far as is known."""
        return self.state in ("working", "waiting")


def workers_of(opened: OpenStudy) -> tuple[WorkerView, ...]:
    """The study's workers and their tasks."""
    return tuple(_view(row, local=opened.store.is_local) for row in opened.store.workers.rows())


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
