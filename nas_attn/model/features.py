"""A placement: its choices one by one, and the Python that builds it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from nas_attn.attention.catalogue import CONTROLS
from nas_attn.recipe.reading import other_backbone
from nas_attn.recipe.recipe import BackboneSection, Recipe
from nas_attn.recipe.tables import OWN_SIDE, Costs
from nas_attn.space.placement import Assignment, Placement
from nas_attn.space.search_space import other_of
from nas_attn.system.importing import PYTHON


@dataclass(frozen=True, slots=True, order=True)
class Feature:
    """One choice at one site of a placement."""

    # `stage2`, `stage2.block1`, with `@position` if it was written
    site: str
    type: str
    # `reduction=8`, as in notation
    knobs: str
    assignment: Assignment = field(compare=False)

    @property
    def choice(self) -> str:
        """`se(reduction=8)`."""
        if self.knobs:
            return f"{self.type}({self.knobs})"
        return self.type

    @property
    def place(self) -> str:
        """The site without its position."""
        return self.site.partition("@")[0]


@lru_cache(maxsize=32_768)
def features(placement: Placement) -> tuple[Feature, ...]:
    """Features of an explicit placement; the bare backbone has none."""
    used = []
    for part in placement.assignments:
        if not part.choice.is_none:
            site = f"{part.site}@{part.position}" if part.position else part.site
            used.append(Feature(site, part.choice.type, part.choice.settings, part))
    return tuple(sorted(used))


def is_control(placement: Placement) -> bool:
    """Whether a placement is more network without attention: plain layers at its sites, or another
    backbone.
    """
    return is_other(placement) or any(feature.type in CONTROLS for feature in features(placement))


def is_other(placement: Placement) -> bool:
    """Whether a placement is another backbone, bare or with attention."""
    return other_of(placement) is not None


def placement_of(choices: Iterable[Feature]) -> Placement:
    """The placement with these features."""
    return Placement(tuple(feature.assignment for feature in sorted(choices)))


@dataclass(frozen=True, slots=True)
class BackboneStage:
    """A stage of a study's backbone."""

    # `stage2`, `neck1`, or a name of the user's
    name: str
    # `backbone`, `neck` or `head`
    role: str


@dataclass(frozen=True, slots=True)
class BuiltFor:
    """Input shape, number of classes and stages of a study's backbone."""

    # channels, height, width of one image
    input_shape: tuple[int, int, int]
    classes: int
    # as executed
    stages: tuple[BackboneStage, ...] = ()


def snippets(recipe: Recipe, built: BuiltFor | None) -> Callable[[Placement, str, Costs], str]:
    """A function (placement, key, costs) -> Python code that builds the network; its text is empty
    if the input shape is unknown.
    """
    if built is None:
        return lambda _placement, _key, _costs: ""
    sites = recipe.space.sites
    rest = [f"init={recipe.training.init!r}"]
    rest += [f"custom={dict(sites.custom)!r}"] if sites.custom else []
    rest += ["heads=True"] if sites.heads else []

    def lines(placement: Placement, key: str, costs: Costs) -> str:
        shape = built.input_shape
        if OWN_SIDE in costs:
            shape = (shape[0], int(costs[OWN_SIDE]), int(costs[OWN_SIDE]))
        backbone = recipe.network
        other = other_of(placement)
        if other is not None:
            section = other_backbone(recipe.backbone, other)
            backbone = recipe.model_copy(update={"backbone": section}).network
        imported, made = _backbone(backbone, shape, built.classes)
        attached = len(placement.assignments) > (other is not None)
        if attached or other is None:
            imported = ["import nas_attn as na", *imported]
        bare = [*imported, "", *made]
        if not attached:
            return "\n".join(bare)
        arguments = [f"input_shape={shape}", *rest]
        key_and_rest = ", ".join([repr(str(placement)), *arguments, f"key={key!r}"])
        return "\n".join([*bare, f"na.attach(model, {key_and_rest})"])

    return lines


def _backbone(
    backbone: BackboneSection, shape: tuple[int, int, int], classes: int
) -> tuple[list[str], list[str]]:
    if backbone.name.startswith(PYTHON):
        module, _, name = backbone.name.removeprefix(PYTHON).rpartition(".")
        words = [*module.split("."), name]
        if module != "__main__" and all(word.isidentifier() for word in words):
            return [f"from {module} import {name}"], [f"model = {name}()"]
        return [], [f"model = ...  # the network that was given to na.search: {module}.{name}()"]
    arguments = [repr(backbone.name), f"input_shape={shape}", f"classes={classes}"]
    arguments += [f"width={backbone.width}"] if backbone.width is not None else []
    arguments += [f"options={dict(backbone.options)!r}"] if backbone.options else []
    arguments += [f"norms={backbone.norms!r}"] if backbone.norms == "frozen" else []
    made = f"model = backbones.create({', '.join(arguments)})"
    return ["from nas_attn import backbones"], [made]
