"""The network of an answer, stage by stage, as it is drawn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nas_attn.answer.snapshot import CandidateView, Snapshot
from nas_attn.model.features import BackboneStage, features, is_other
from nas_attn.space.placement import Placement


@dataclass(frozen=True, slots=True)
class PlacedModule:
    """A module at a stage."""

    type: str
    choice: str
    """In notation, with its knobs."""
    block: str = ""
    """`block2`; empty: the whole stage."""


@dataclass(frozen=True, slots=True)
class DrawnStage:
    """A stage of the network, with what goes where."""

    name: str
    role: str
    """`backbone`, `neck` or `head`."""
    modules: tuple[PlacedModule, ...]


def drawing_of(now: Snapshot, placement: Placement) -> tuple[DrawnStage, ...]:
    """The stages of the study's backbone, each with the modules of a placement; empty for another
    backbone.
    """
    if is_other(placement):
        return ()
    placed: dict[str, list[PlacedModule]] = {}
    for feature in features(placement):
        stage, _, block = feature.place.partition(".")
        module = PlacedModule(feature.type, feature.choice, block)
        placed.setdefault(stage, []).append(module)
    stages = now.stages or _stages_in_use(now.candidates)
    return tuple(
        DrawnStage(stage.name, stage.role, tuple(placed.get(stage.name, ()))) for stage in stages
    )


def _stages_in_use(views: Iterable[CandidateView]) -> tuple[BackboneStage, ...]:
    """The stages that any candidate names, where the study does not know its network's."""
    names = {
        feature.place.partition(".")[0]
        for view in views
        if not is_other(view.placement)
        for feature in features(view.placement)
    }
    roles = {"neck": "neck", "head": "head"}
    # `stage2` before `stage10`
    ordered = sorted(names, key=lambda name: (name.rstrip("0123456789"), len(name), name))
    return tuple(BackboneStage(name, roles.get(name[:4], "backbone")) for name in ordered)
