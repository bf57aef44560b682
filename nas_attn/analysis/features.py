"""The choices of a placement, one by one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from nas_attn.space import parse


@dataclass(frozen=True, slots=True, order=True)
class Feature:
    """One choice at one site of a placement."""

    site: str
    """`stage2`, `stage2.block1`, with `@position` where it was written."""
    type: str
    knobs: str
    """`reduction=8`, as in notation."""

    @property
    def text(self) -> str:
        """In notation."""
        return f"{self.site}={self.type}({self.knobs})" if self.knobs else f"{self.site}={self.type}"


Features = tuple[Feature, ...]


@lru_cache(maxsize=32_768)
def features(text: str) -> Features:
    """Features of a placement in explicit notation; `none` has none."""
    found = []
    for assignment in parse(text).assignments:
        if not assignment.choice.is_none:
            site = f"{assignment.site}@{assignment.position}" if assignment.position else assignment.site
            inside = str(assignment.choice).partition("(")[2].removesuffix(")")
            found.append(Feature(site, assignment.choice.type, inside))
    return tuple(sorted(found))
