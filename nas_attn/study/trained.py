"""A study's candidates as trained networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from nas_attn.analysis.choosing import Chosen, choose, key_among
from nas_attn.analysis.criteria import Criteria
from nas_attn.analysis.snapshot import CandidateView, Snapshot
from nas_attn.backbones.states import restore, unpack
from nas_attn.errors import BackboneLost, CheckpointError, OperationError
from nas_attn.evaluation.artifacts import read_artifact, weights_run
from nas_attn.evaluation.leasing import TTL_S, LeaseKeeper, release_dead
from nas_attn.evaluation.plan import Plan
from nas_attn.records import Score
from nas_attn.storage import SEARCH, Run
from nas_attn.study.opening import OpenStudy
from nas_attn.study.searching import Options, with_worker
from nas_attn.study.worker import Worker

AGAIN = f"{SEARCH}/again"
"""The way under which runs that are done only for their weights stand, scores included."""


def chosen(opened: OpenStudy, now: Snapshot, criteria: Criteria) -> Chosen:
    """The candidate that criteria mean.

    Raises:
        StudyError: there is no such candidate.
        PlacementError: the placement is none of this backbone.
    """
    return choose(now, criteria, lambda text: key_among(now, text) or opened.plan.resolved(text).key)


def named(opened: OpenStudy, now: Snapshot, criteria: Criteria) -> tuple[str, str]:
    """(key, placement) of a network: as `chosen`, but a placement need not have been tried."""
    if criteria.placement is not None:
        resolved = opened.plan.resolved(criteria.placement)
        return resolved.key, resolved.text
    view = chosen(opened, now, criteria).view
    return view.key, view.placement


def trained_model(opened: OpenStudy, plan: Plan, view: CandidateView, run: Run | None = None) -> nn.Module:
    """The candidate's network with its trained weights, on the CPU, in eval mode.

    Args:
        run: one of those that were trained as the target says; None: the weights that the search's score is of.

    Raises:
        CheckpointError: its weights are not there or damaged; says why, and how to make them again.
    """
    name = view.key if run is None else run.files
    rows = opened.store.checkpoints(weights_run(name))
    if not rows and run is None and view.state != "scored":
        raise CheckpointError(
            f"the weights of {view.label} ({view.state}) were not kept: only those of scored candidates are"
        )
    again = (
        f"exporting trial {view.trial} `again` trains it once more, as the search did"
        if run is None
        else "retraining makes others"
    )
    if not rows:
        lost = opened.store.weights_lost.get(name) or "nothing is known of them"
        raise CheckpointError(f"the weights of {view.label} are not there ({lost}): {again}")
    try:
        weights = unpack(read_artifact(opened.artifacts, rows[0].artifact, rows[0].sha256))
    except CheckpointError as error:
        raise CheckpointError(f"the weights of {view.label} are lost ({error}): {again}") from None
    model = plan.bare(0)
    return restore(plan.attach(model, plan.resolved(view.placement), 0), weights).eval()


def train_again(opened: OpenStudy, view: CandidateView, options: Options) -> Score | None:
    """Trains a scored candidate once more as the search did, and keeps its weights. What the study knows stays as it is.

    Returns:
        The score at the last rung: that of the search on a CPU with equally many threads, else close to it. None where
        `options.stop` was set before: called again, it goes on from there.

    Raises:
        CheckpointError: the candidate has not been scored.
        OperationError: another process is at it, or it fails.
    """
    store = opened.store
    rows = [row for row in store.queue.rows(key=view.key, way=SEARCH, state="done") if row.run.purpose == SEARCH]
    if view.state != "scored" or not rows:
        raise CheckpointError(f"{view.label} ({view.state}) cannot be trained again: it has not been scored")
    original = min(rows, key=lambda row: row.id).run  # its first: the one whose weights are kept
    run = replace(original, way=AGAIN)

    found: list[Score] = []

    def train(worker: Worker) -> str:
        bench = worker.benches.search
        release_dead(store, AGAIN)
        lease = store.acquire(run.files, owner=worker.owner, ttl_s=TTL_S)
        if lease is None:
            raise OperationError(f"another process is training {view.label} again: wait for it")
        with LeaseKeeper(store, lease) as keeper:

            def once() -> Sequence[Score]:
                return bench.train(
                    run,
                    worker.resolved(original),
                    lease=keeper.lease,
                    go_on=lambda score: True,
                    stop=lambda: worker.stop() or keeper.lost,
                    trained=lambda model: bench.keep_weights(view.key, model, keeper.lease),
                )

            try:
                found[:] = once()
            except BackboneLost:
                worker.backbone_again(original)
                found[:] = once()
            bench.files(run, keeper.lease).clear()
        return "complete"

    return found[-1] if with_worker(opened, options, train) == "complete" else None
