"""What workers that died between two steps have left lying about: whoever finds it clears it."""

from __future__ import annotations

from nas_attn.evaluation.artifact_stores import ArtifactStore
from nas_attn.evaluation.artifacts import RunFiles
from nas_attn.evaluation.names import weights_run
from nas_attn.processes import is_dead
from nas_attn.storage import Lease, StudyStore
from nas_attn.storage.queue import WAITING

FORGOTTEN_S = 86_400.0
"""Seconds of silence after which a worker of another machine is no longer listed."""


def sweep(store: StudyStore, artifacts: ArtifactStore, turn: Lease) -> None:
    """Drops the checkpoints of finished runs, and frees expired leases on them.

    A worker ends a run first, and clears up then: killed in between, it leaves both. Trained weights stay.

    Args:
        turn: under which nobody else takes runs up.
    """
    for worker in store.workers.rows():
        if worker.silent_s > FORGOTTEN_S or is_dead(worker.owner, local=store.is_local):
            store.workers.gone(worker.owner)
    overdue = [row for row in store.leases(released=False) if row.state == "expired"]
    left = [name for name in store.all_checkpoints() if not name.startswith(weights_run(""))]
    if not left and not overdue:
        return
    rows = store.queue.rows(state=WAITING)
    files = {row.run.files for row in rows}
    for name in left:
        if name not in files and _has_ended(store, name):
            RunFiles(store, artifacts, name, turn).clear()
    waiting = {row.resource for row in rows}
    for lease in overdue:
        if lease.resource.startswith("run/") and lease.resource not in waiting:
            store.release(Lease(lease.resource, lease.owner, lease.number, 0.0, lease.expires_at))


def _has_ended(store: StudyStore, name: str) -> bool:
    """Whether checkpoints of this name are of a run that has ended."""
    key = name.rsplit(":", 2)[0].rpartition(":")[2]
    return any(row.run.files == name and row.state != WAITING for row in store.queue.rows(key=key))
