"""Controls that are better than a member of the front: what would contradict it if nobody explained
it.
"""

from __future__ import annotations

from dataclasses import dataclass

from nas_attn.answer.snapshot import CandidateView, Snapshot
from nas_attn.recipe.recipe import lower_is_better


@dataclass(frozen=True, slots=True)
class BeyondFront:
    """A control that is better than a member of the front in every objective, and no member: the
    front is of attention.
    """

    control: CandidateView
    members: tuple[CandidateView, ...]


def beyond_front(now: Snapshot) -> tuple[BeyondFront, ...]:
    """The controls that dominate a member of the front."""
    controls = []
    for control in now.controls:
        members = tuple(view for view in now.front if _dominates(now, control, view))
        if members:
            controls.append(BeyondFront(control, members))
    return tuple(controls)


def _dominates(now: Snapshot, one: CandidateView, other: CandidateView) -> bool:
    if one.state != "scored":
        return False
    better = False
    for objective, value, against in zip(now.objectives, one.values, other.values, strict=True):
        if value is None or against is None:
            return False
        sign = 1.0 if lower_is_better(objective) else -1.0
        if sign * value > sign * against:
            return False
        better = better or value != against
    return better
