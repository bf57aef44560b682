"""Tells Optuna what our tables know of a candidate: the same way at once, and after a crash."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState

from nas_attn.analysis.latency import half_width
from nas_attn.records import CandidateRow, Latency, Score
from nas_attn.storage import SEARCH
from nas_attn.study.opening import OpenStudy

STATES = {
    "scored": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    # Samplers take a pruned trial for a bad one, and do not see a failed one at all: they would propose its like again.
    "infeasible": TrialState.PRUNED,
    "failed": TrialState.PRUNED,
}
CONSTRAINTS = "constraints"
"""System attribute from which optuna-dashboard greys infeasible trials."""


def tell(opened: OpenStudy, frozen: FrozenTrial, row: CandidateRow, latency: Latency | None) -> None:
    """Finishes a trial in Optuna with what is stored of its candidate. Safe to repeat after a crash at any step."""
    study, store = opened.optuna_study, opened.store
    if not frozen.state.is_finished():
        try:
            if frozen.state == TrialState.WAITING:  # set back by a worker that had scored it and could not tell
                study._storage.set_trial_state_values(frozen._trial_id, TrialState.RUNNING)
            trial = Trial(study, frozen._trial_id)
            for name, value in attributes(opened, row, latency).items():
                trial.set_user_attr(name, value)
            if any(limit is not None for limit in opened.recipe.limits.model_dump().values()):
                _set_constraint(opened, trial, violated=row.state == "infeasible")
            values = list(row.values) if row.values else None
            study.tell(frozen.number, values, state=STATES[row.state], skip_if_finished=True)
        except UpdateFinishedTrialError:
            pass  # another worker, taking over, has just told the same
    store.mark_told(row.key)


def attributes(opened: OpenStudy, row: CandidateRow, latency: Latency | None) -> Mapping[str, Any]:
    """User attributes of a trial: what a person wants to see beside its values."""
    found: dict[str, Any] = {"placement": row.placement, "key": row.key, "state": row.state}
    if row.baseline:
        found["baseline"] = row.baseline
    if row.reason:
        found["reason"] = row.reason
    if row.cost:
        found |= row.cost
    if latency:
        found |= {"latency_ratio": round(latency.ratio, 4), "latency_ms": round(latency.ms, 4)}
        if latency.sessions:
            found["latency_half_width"] = round(half_width(latency), 4)
    for stored in opened.store.scores(row.key, way=SEARCH):
        found |= score_attributes(stored.score)
    return found


def score_attributes(score: Score) -> dict[str, float]:
    """`accuracy@3 (seed 0)` and the like, one per metric."""
    return {f"{name}@{score.epochs} (seed {score.seed})": value for name, value in score.metrics.items()}


def _set_constraint(opened: OpenStudy, trial: Trial, *, violated: bool) -> None:
    value = 1.0 if violated else 0.0
    if not trial.constraints:
        trial.set_constraint("limits", value)
    opened.optuna_study._storage.set_trial_system_attr(trial._trial_id, CONSTRAINTS, [value])
