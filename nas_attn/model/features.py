"""A placement: its choices one by one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from nas_attn.attention.catalogue import CONTROLS
from nas_attn.space.placement import Assignment, Placement
from nas_attn.space.search_space import other_of


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
