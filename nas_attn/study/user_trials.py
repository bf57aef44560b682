"""Placements that the user adds to a study. The backbone must be able to carry them; the search space need not contain them.

Optuna refuses a value outside a parameter's choices. A placement outside the space is therefore a trial without parameters,
which names its placement in a user attribute. Samplers do not learn from it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

from optuna.trial import TrialState

from nas_attn.errors import NasAttnWarning, PlacementError
from nas_attn.evaluation.plan import Plan
from nas_attn.records import ResolvedPlacement
from nas_attn.space.search_space import Values
from nas_attn.study.opening import OpenStudy
from nas_attn.study.trial_book import TRIED


@dataclass(frozen=True, slots=True)
class UserTrial:
    """A placement that the user adds to a study."""

    typed: str
    resolved: ResolvedPlacement
    values: Values | None
    """Its values in the study's space; None where the space does not contain it."""


def user_trials(plan: Plan, placements: Iterable[str]) -> list[UserTrial]:
    """The user's placements, checked; nothing is written. Placements of the same network come once.

    Raises:
        PlacementError: one of them is no placement of this backbone.
    """
    found: dict[str, UserTrial] = {}
    for typed in placements:
        resolved = plan.resolved(typed)
        try:
            values = plan.space.values(resolved)
        except PlacementError:
            values = None
        found.setdefault(resolved.key, UserTrial(typed, resolved, values))
    return list(found.values())


def enqueue(opened: OpenStudy, trial: UserTrial) -> None:
    """Queues the trial behind the baselines and raises the study's number of trials where necessary."""
    known = opened.store.candidate(trial.resolved.key)
    if known is not None:
        warnings.warn(f"'{trial.typed}' is trial {known.trial} already ({known.state})", NasAttnWarning, stacklevel=2)
        return
    with opened.database.creating():
        if trial.values is not None:
            opened.book.enqueue(trial.values, {TRIED: trial.typed})
        else:
            opened.book.enqueue_outside(trial.resolved.text, {TRIED: trial.typed})
    _grow(opened)


def _grow(opened: OpenStudy) -> None:
    """Makes the study large enough for the last of these trials: workers take waiting trials in order."""
    trials = opened.book.all()
    waiting = [t.number for t in trials if t.state == TrialState.WAITING and TRIED in t.user_attrs]
    if not waiting:
        return
    counted = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
    ahead = [t for t in trials if t.state == TrialState.WAITING and t.number <= max(waiting)]
    needed = len(ahead) + sum(trial.state in counted for trial in trials)
    if needed > opened.trials:
        opened.store.set(trials=needed)
