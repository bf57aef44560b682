"""The last latency sessions, of the networks that the answer compares."""

from __future__ import annotations

from nas_attn.answer.pace import FURTHER, NARROW, last_sessions
from nas_attn.searching.worker.worker import Worker
from nas_attn.storage.leasing import TTL_S, LeaseKeeper, release_dead

# no latency session begins in the last seconds of a search with a time limit
LAST_S = 2.0


def narrow(worker: Worker) -> bool:
    """One worker runs the latency sessions that the important candidates still need; false if it
    was stopped.
    """
    measurer = worker.benches.search.measurer
    if measurer is None or not measurer.fits:
        return True
    release_dead(worker.store, NARROW)
    lease = worker.store.acquire(NARROW, owner=worker.owner, ttl_s=TTL_S)
    if lease is None:
        return True
    with LeaseKeeper(worker.store, lease) as keeper:
        runs = {row.run.key: row.run for row in worker.queue.rows(purposes=FURTHER)}
        tolerance = worker.recipe.latency.front_tolerance
        ends_at = worker.store.settings.ends_at

        def over() -> bool:
            late = ends_at is not None and worker.opened.database.now() > ends_at - LAST_S
            return late or worker.stop() or keeper.lost

        count = last_sessions(worker.opened, runs)
        measurer.narrow([worker.resolved(run) for run in runs.values()], tolerance, count, over)
    return not worker.stop()
