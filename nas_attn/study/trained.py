"""A study's candidates as trained networks."""

from __future__ import annotations

from torch import nn

from nas_attn.analysis.snapshot import CandidateView, Snapshot
from nas_attn.errors import CheckpointError, StudyError
from nas_attn.evaluation.artifacts import read_artifact
from nas_attn.evaluation.plan import Plan
from nas_attn.evaluation.workbench import read_weights, weights_run
from nas_attn.space import parse, resolve
from nas_attn.study.opening import OpenStudy


def pick(now: Snapshot, plan: Plan, which: str | None) -> CandidateView:
    """The candidate that a trial's number or a placement names; None: the recommended one.

    Raises:
        StudyError: there is no such candidate.
        PlacementError: the placement is none of this backbone.
    """
    if which is None:
        if now.recommendation is None:
            raise StudyError(f"study '{now.study}' recommends nothing yet: name a trial or a placement")
        key = now.recommendation.key
    elif which.isdigit():
        found = [view for view in now.candidates if view.trial == int(which)]
        if not found:
            raise StudyError(f"study '{now.study}' has no trial {which}: it has {len(now.candidates)}")
        return found[0]
    else:
        key = resolve(parse(which), plan.sites, init=plan.space.init).key
    view = now.find(key)
    if view is None:
        raise StudyError(f"study '{now.study}' has not tried '{which}': add it with nas-attn resume --try")
    return view


def trained_model(opened: OpenStudy, plan: Plan, view: CandidateView) -> nn.Module:
    """The candidate's network with the weights that its score is of, on the CPU, in eval mode.

    Raises:
        CheckpointError: its weights are not there (it was pruned, or is not finished) or damaged.
    """
    rows = opened.store.checkpoints(weights_run(view.key))
    if not rows:
        raise CheckpointError(
            f"the weights of {view.label} ({view.state}) were not kept: only scored candidates have them"
        )
    weights = read_weights(read_artifact(opened.artifacts, rows[0].artifact, rows[0].sha256))
    model = plan.bare(0)
    resolved = resolve(parse(view.placement), plan.sites, init=plan.space.init)
    plan.attach(model, resolved, 0).load_state_dict(weights)
    return model.eval()
