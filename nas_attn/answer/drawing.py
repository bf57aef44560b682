"""A network, stage by stage, as it is drawn, and the Python that builds it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nas_attn.answer.snapshot import CandidateView, Snapshot
from nas_attn.model.features import BackboneStage, BuiltFor, features, is_other
from nas_attn.recipe.reading import other_backbone
from nas_attn.recipe.recipe import BackboneSection, Recipe
from nas_attn.recipe.tables import OWN_SIDE
from nas_attn.space.placement import Placement
from nas_attn.space.search_space import other_of
from nas_attn.storage.records import CandidateRow
from nas_attn.system.importing import PYTHON


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


def code_of(recipe: Recipe, built: BuiltFor | None, row: CandidateRow) -> str:
    """Python that builds a candidate's network; empty if the input shape is unknown."""
    if built is None:
        return ""
    shape = built.input_shape
    side = (row.cost or {}).get(OWN_SIDE)
    if side is not None:
        shape = (shape[0], int(side), int(side))
    backbone = recipe.network
    other = other_of(row.placement)
    if other is not None:
        section = other_backbone(recipe.backbone, other)
        backbone = recipe.model_copy(update={"backbone": section}).network
    lines = ["import nas_attn as na", *_made(backbone, shape, built.classes)]
    if len(row.placement.assignments) > (other is not None):
        sites = recipe.space.sites
        arguments = [repr(str(row.placement)), f"input_shape={shape}"]
        arguments += [f"init={recipe.training.init!r}"]
        arguments += [f"custom={dict(sites.custom)!r}"] if sites.custom else []
        arguments += ["heads=True"] if sites.heads else []
        lines.append(f"na.attach(model, {', '.join(arguments)}, key={row.key!r})")
    return "\n".join(lines)


def _made(backbone: BackboneSection, shape: tuple[int, int, int], classes: int) -> list[str]:
    """The lines that import and build the backbone."""
    if backbone.name.startswith(PYTHON):
        module, _, name = backbone.name.removeprefix(PYTHON).rpartition(".")
        words = [*module.split("."), name]
        if module != "__main__" and all(word.isidentifier() for word in words):
            return [f"from {module} import {name}", "", f"model = {name}()"]
        what = f"the network that was given to na.search: {module}.{name}()"
        return ["", f"model = ...  # {what}"]
    arguments = [repr(backbone.name), f"input_shape={shape}", f"classes={classes}"]
    arguments += [f"width={backbone.width}"] if backbone.width is not None else []
    arguments += [f"options={dict(backbone.options)!r}"] if backbone.options else []
    arguments += [f"norms={backbone.norms!r}"] if backbone.norms == "frozen" else []
    made = f"model = backbones.create({', '.join(arguments)})"
    return ["from nas_attn import backbones", "", made]
