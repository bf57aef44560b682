"""Trains a scored candidate again as the search did, for its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nas_attn.answer.snapshot import CandidateView
from nas_attn.errors import BackboneLost, CheckpointError, OperationError
from nas_attn.export.kept_weights import searched_run
from nas_attn.recipe.purposes import SEARCH
from nas_attn.searching.run.taking_part import Options, with_worker
from nas_attn.searching.worker.ending import Ending
from nas_attn.searching.worker.worker import Worker
from nas_attn.storage.leasing import TTL_S, LeaseKeeper, release_dead
from nas_attn.storage.opening import OpenStudy
from nas_attn.storage.records import Score

# protocol of runs that are done only for their weights, and of their scores
AGAIN_PROTOCOL = f"{SEARCH}/again"


def train_again(opened: OpenStudy, view: CandidateView, options: Options) -> Score | None:
    """Trains a scored candidate again as the search did, for its weights. None: `options.stop` was
    set before the end; the next call continues from there. Raises CheckpointError: the candidate
    has not been scored.
    """
    store = opened.store
    original = searched_run(opened.store, view)
    if view.state != "scored" or original is None:
        raise CheckpointError(
            f"{view.label} ({view.state}) cannot be trained again: it has not been scored"
        )
    run = replace(original, protocol=AGAIN_PROTOCOL)
    scores: list[Score] = []

    def once(worker: Worker, keeper: LeaseKeeper) -> Sequence[Score]:
        bench = worker.benches.search
        return bench.train(
            run,
            worker.resolved(original),
            lease=keeper.lease,
            go_on=lambda _: True,
            stop=lambda: worker.stop() or keeper.lost,
            trained=lambda model: bench.keep_weights(view.key, model, keeper.lease),
        )

    def train(worker: Worker) -> Ending:
        release_dead(store, AGAIN_PROTOCOL)
        lease = store.acquire(run.files, owner=worker.owner, ttl_s=TTL_S)
        if lease is None:
            raise OperationError(f"another process is training {view.label} again: wait for it")
        with LeaseKeeper(store, lease) as keeper:
            try:
                scores[:] = once(worker, keeper)
            except BackboneLost:
                worker.backbone_again(original)
                scores[:] = once(worker, keeper)
            worker.benches.search.files(run, keeper.lease).clear()
        return Ending.COMPLETE

    if with_worker(opened, options, train) is Ending.COMPLETE:
        return scores[-1]
    return None
