"""The candidate of a study that a user's criteria mean."""

from __future__ import annotations

from nas_attn.answer.choosing import Chosen, Unmet, choose, key_among, notation
from nas_attn.answer.criteria import Criteria
from nas_attn.answer.snapshot import Snapshot
from nas_attn.errors import StudyError
from nas_attn.space.notation import parse
from nas_attn.space.placement import Placement
from nas_attn.storage.opening import OpenStudy
from nas_attn.training.plan import study_plan
from nas_attn.words.choosing import unmet_text


def chosen(opened: OpenStudy, now: Snapshot, criteria: Criteria) -> Chosen:
    """The candidate that the criteria choose. Raises StudyError: none does. Raises PlacementError:
    a placement does not fit.
    """

    def key_of(text: str) -> str:
        return key_among(now, text) or study_plan(opened.store).resolved(parse(text)).key

    choice = choose(now, criteria, key_of)
    if isinstance(choice, Unmet):
        raise StudyError(unmet_text(now, choice))
    return choice


def named(opened: OpenStudy, now: Snapshot, criteria: Criteria) -> tuple[str, Placement]:
    """(key, placement) of a network: as `chosen`, but its placement need not have been tried."""
    if criteria.placement is not None:
        resolved = study_plan(opened.store).resolved(parse(notation(now, criteria.placement)))
        return resolved.key, resolved.placement
    view = chosen(opened, now, criteria).view
    return view.key, view.placement
