"""Which trained weights of a network a study keeps, and the network with them."""

from __future__ import annotations

from torch import nn

from nas_attn.answer.snapshot import CandidateView
from nas_attn.backbones.weight_files import restore, unpack
from nas_attn.errors import CheckpointError
from nas_attn.recipe.purposes import SEARCH
from nas_attn.storage.artifacts import read_artifact, weights_run
from nas_attn.storage.opening import OpenStudy
from nas_attn.storage.rows import Run
from nas_attn.storage.store import StudyStore
from nas_attn.training.plan import Plan


def trained_model(
    opened: OpenStudy, plan: Plan, view: CandidateView, run: Run | None = None
) -> nn.Module:
    """Builds a candidate's network and loads its trained weights.

    Args:
        opened: the study.
        plan: how its networks are built.
        view: the candidate.
        run: the training that gave the weights; None: the search's.

    Returns:
        The network on the CPU, in evaluation mode.

    Raises:
        CheckpointError: the weights are not there.
    """
    name = view.key if run is None else run.files
    rows = opened.store.checkpoints(weights_run(name))
    if not rows and run is None and view.state != "scored":
        raise CheckpointError(
            f"the weights of {view.label} ({view.state}) were not kept, because it was not scored"
        )
    again = f"nas-attn retrain {opened.store.name} --placement {view.trial} trains it again"
    if not rows:
        lost = opened.store.weights_lost.get(name) or "the reason is not known"
        raise CheckpointError(f"the weights of {view.label} are not there ({lost}): {again}")
    try:
        weights = unpack(read_artifact(opened.artifacts, rows[0].artifact, rows[0].sha256))
    except CheckpointError as error:
        raise CheckpointError(f"the weights of {view.label} are lost ({error}): {again}") from None
    return restore(plan.network(plan.resolved(view.placement), 0), weights).eval()


def searched_run(store: StudyStore, view: CandidateView) -> Run | None:
    """The first run of the search, whose weights are kept."""
    rows = [
        row
        for row in store.queue.rows(key=view.key, protocol=SEARCH, state="done")
        if row.run.purpose == SEARCH
    ]
    if rows:
        return min(rows, key=lambda row: row.id).run
    return None
