"""A candidate, its names and its values, as they stand in tables, figures and notes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from nas_attn.answer.drawing import DrawnStage
from nas_attn.answer.snapshot import CandidateView, Means, Snapshot
from nas_attn.errors import listed
from nas_attn.model.features import features
from nas_attn.recipe.recipe import objective_name
from nas_attn.recipe.units import (
    value,
    value_plus_minus,
)
from nas_attn.space.placement import BARE, Placement
from nas_attn.space.search_space import BACKBONE_SITE, other_of
from nas_attn.storage.records import ASIDE

# sites of one module that are named; more are counted
MOST_NAMED = 4


def objective_with_spread(snapshot: Snapshot, view: CandidateView, index: int) -> str:
    """A candidate's objective as estimated now, with its uncertainty, if any, and the epochs if it
    was not trained to the end.
    """
    objective = snapshot.objectives[index]
    text = value(objective, view.values[index])
    estimate = view.estimates.get(objective_name(objective))
    number = view.values[index]
    if number is not None and estimate is not None:
        if estimate.sd > 0:
            text = value_plus_minus(objective, number, estimate.low, estimate.high)
        return f"{text}{_budget(snapshot, view)}"
    latency = view.latency if objective == "latency" else None
    if number is None or latency is None or not latency.sessions or view.is_bare:
        return text
    return value_plus_minus(objective, number, latency.low, latency.high)


def _budget(snapshot: Snapshot, view: CandidateView) -> str:
    rungs = snapshot.recipe.training.rungs
    if view.rung is None or view.rung >= len(rungs) - 1:
        return ""
    return f" after {rungs[view.rung]} of {rungs[-1]} epochs"


def metrics_shown(runs: Iterable[Mapping[str, float]]) -> list[str]:
    """The metrics of some runs that are results, each once, in their order."""
    return [name for name in dict.fromkeys(chain.from_iterable(runs)) if name not in ASIDE]


SIGNS = {Means.LARGER: "+", Means.SMALLER: "−"}
"""What marks a network that is no placement in the study's backbone, where there is little room."""


def candidate_signs(view: CandidateView) -> str:
    """`*` on the front, `+` for a larger network, `−` for a smaller one."""
    return f"{'*' if view.on_front else ' '} {SIGNS.get(view.means, '')}".strip()


def candidate_label(view: CandidateView) -> str:
    """A candidate's short name."""
    return "bare backbone" if view.is_bare else view.label


def placed(stages: Sequence[DrawnStage], placement: Placement) -> str:
    """What goes where: `eca at all 3 stages`, `cbam at stage1 and stage3, se at stage2`."""
    sites: dict[str, list[str]] = {}
    for feature in features(placement):
        sites.setdefault(feature.type, []).append(feature.site)
    everywhere = [stage.name for stage in stages if stage.role == "backbone"]
    parts = []
    for module, places in sites.items():
        if len(everywhere) > 1 and sorted(places) == sorted(everywhere):
            parts.append(f"{module} at all {len(everywhere)} stages")
        elif len(places) > MOST_NAMED:
            parts.append(f"{module} at {len(places)} sites")
        else:
            parts.append(f"{module} at {listed(places)}")
    return ", ".join(parts)


def short_name(view: CandidateView) -> str:
    """A candidate as a label in a figure: `cbam everywhere`, `simam at stage2`, `trial 8`."""
    if view.is_bare:
        return "bare backbone"
    other = other_of(view.placement)
    if other is not None:
        kept = (part for part in view.placement.assignments if part.site != BACKBONE_SITE)
        attention = placed((), Placement(tuple(kept)))
        return f"{other} with {attention}" if attention else str(other)
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


def network_name(view: CandidateView) -> str:
    """`dwconv everywhere`, `resnet14`, `resnet8 with eca at stage2`, `eca at stage1 and stage2`."""
    if view.baseline is not None or other_of(view.placement) is not None:
        return short_name(view)
    return placed((), view.placement)


def called(view: CandidateView | None, placement: Placement) -> str:
    """A network's label, as tables have it; of one that is no candidate, what goes where."""
    if placement == BARE:
        return "the bare backbone"
    return placed((), placement) if view is None else view.label


def short_names(views: Sequence[CandidateView]) -> dict[str, str]:
    """Key -> label; where two would be equal, with their trials."""
    names = {view.key: short_name(view) for view in views}
    uses = Counter(names.values())
    for view in views:
        if uses[names[view.key]] > 1:
            names[view.key] += f" ({view.trial})"
    return names
