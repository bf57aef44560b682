"""The placements that a user names with `--placement`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from optuna.trial import TrialState

from nas_attn.attention.choice import Choice
from nas_attn.errors import BackboneError, PlacementError
from nas_attn.space.notation import parse
from nas_attn.space.placement import ResolvedPlacement
from nas_attn.space.search_space import Values
from nas_attn.storage.opening import OpenStudy
from nas_attn.storage.trial_book import TRIED
from nas_attn.training.learning_rates import check_rates
from nas_attn.training.plan import Plan


@dataclass(frozen=True, slots=True)
class UserTrial:
    typed: str
    resolved: ResolvedPlacement
    # its values in the study's space; None if the space does not contain it
    values: Values | None


def user_trials(plan: Plan, placements: Iterable[str]) -> list[UserTrial]:
    """The user's placements, each network once; writes nothing. Raises PlacementError: one does not
    fit this backbone.
    """
    trials_by_key: dict[str, UserTrial] = {}
    for typed in placements:
        resolved = plan.resolved(parse(typed))
        if resolved.other is not None:
            _check_other(plan, resolved.other)
        try:
            values = plan.space.values(resolved)
        except PlacementError:
            values = None
        trials_by_key.setdefault(resolved.key, UserTrial(typed, resolved, values))
    return list(trials_by_key.values())


def _check_other(plan: Plan, other: Choice) -> None:
    """Raises BackboneError: there is no such backbone, or the study's weights or learning rates are
    not for it.
    """
    plan.bare(0, other)
    check_rates(plan.like(other))
    training = plan.recipe.training
    if training.start == "pretrained" and training.weights != "default":
        raise BackboneError(
            f"'{other}' cannot start from '{training.weights}', weights of another network: omit it"
        )


def trials_to_try_all(opened: OpenStudy) -> int:
    """The fewest trials with which a study comes to each placement that its user has named; 0 if
    none of them waits.
    """
    trials = opened.book.all()
    # workers take them in order
    waiting = [t.number for t in trials if t.state == TrialState.WAITING]
    last = max((n for n in waiting if TRIED in trials[n].user_attrs), default=-1)
    if last < 0:
        return 0
    counted = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
    return sum(n <= last for n in waiting) + sum(t.state in counted for t in trials)
