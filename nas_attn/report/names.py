"""Short names of candidates, as labels in figures and in sentences about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from nas_attn.answer.snapshot import CandidateView
from nas_attn.model.features import features
from nas_attn.space.search_space import other_of


def short_name(view: CandidateView) -> str:
    """A candidate as a label in a figure: `cbam everywhere`, `simam at stage2`, `trial 8`."""
    if view.is_bare:
        return "bare backbone"
    other = other_of(view.placement)
    if other is not None:
        return str(other)
    kinds = {feature.type for feature in features(view.placement)}
    if view.baseline is not None and len(kinds) == 1:
        return f"{kinds.pop()} everywhere"
    sites: dict[str, list[str]] = {}
    for feature in features(view.placement):
        sites.setdefault(feature.type, []).append(feature.place)
    places = next(iter(sites.values()), [])
    if len(sites) == 1 and len(places) > 2:
        return f"{kinds.pop()} at {len(places)} sites"
    if len(sites) == 1 or (len(sites) == 2 and all(len(of) == 1 for of in sites.values())):
        return ", ".join(f"{kind} at {', '.join(of)}" for kind, of in sites.items())
    return f"trial {view.trial}"


def short_names(views: Sequence[CandidateView]) -> dict[str, str]:
    """Key -> label; where two would be equal, with their trials."""
    names = {view.key: short_name(view) for view in views}
    uses = Counter(names.values())
    for view in views:
        if uses[names[view.key]] > 1:
            names[view.key] += f" ({view.trial})"
    return names
