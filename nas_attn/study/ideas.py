"""Placements of one's own in a study: any that the backbone can carry, also where the search space does not hold them.

Optuna refuses a value outside a parameter's choices, and other choices within one study. A placement outside the space is
therefore a trial without parameters, which names its placement in a user attribute. Samplers do not learn from it.
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
class Idea:
    """A placement of one's own that a study is to evaluate."""

    typed: str
    resolved: ResolvedPlacement
    values: Values | None
    """What encodes it in the study's space; None where that does not hold it."""


def ideas(plan: Plan, placements: Iterable[str]) -> list[Idea]:
    """One's own placements, checked; nothing is written. Those that mean the same network come once.

    Raises:
        PlacementError: one of them is no placement of this backbone.
    """
    found: dict[str, Idea] = {}
    for typed in placements:
        resolved = plan.resolved(typed)
        try:
            values = plan.space.values(resolved)
        except PlacementError:
            values = None
        found.setdefault(resolved.key, Idea(typed, resolved, values))
    return list(found.values())


def enqueue(opened: OpenStudy, idea: Idea) -> None:
    """Puts one's own idea in the queue, behind the baselines; a study grows as far as that needs."""
    known = opened.store.candidate(idea.resolved.key)
    if known is not None:
        warnings.warn(f"'{idea.typed}' is trial {known.trial} already ({known.state})", NasAttnWarning, stacklevel=2)
        return
    with opened.database.creating():
        if idea.values is not None:
            opened.book.enqueue(idea.values, {TRIED: idea.typed})
        else:
            opened.book.enqueue_outside(idea.resolved.text, {TRIED: idea.typed})
    _grow(opened)


def _grow(opened: OpenStudy) -> None:
    """Makes the study large enough for the last idea that waits: workers take what waits in order."""
    trials = opened.book.all()
    ideas_waiting = [t.number for t in trials if t.state == TrialState.WAITING and TRIED in t.user_attrs]
    if not ideas_waiting:
        return
    counted = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
    ahead = [t for t in trials if t.state == TrialState.WAITING and t.number <= max(ideas_waiting)]
    needed = len(ahead) + sum(trial.state in counted for trial in trials)
    if needed > opened.trials:
        opened.store.set(trials=needed)
