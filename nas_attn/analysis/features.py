"""The choices of a placement, one by one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from nas_attn.attention.catalogue import CONTROLS
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
    def choice(self) -> str:
        """`se(reduction=8)`."""
        return f"{self.type}({self.knobs})" if self.knobs else self.type

    @property
    def place(self) -> str:
        """The site without its position."""
        return self.site.partition("@")[0]


@lru_cache(maxsize=32_768)
def features(text: str) -> tuple[Feature, ...]:
    """Features of a placement in explicit notation; `none` has none."""
    found = []
    for part in parse(text).assignments:
        if not part.choice.is_none:
            inside = str(part.choice).partition("(")[2].removesuffix(")")
            found.append(
                Feature(f"{part.site}@{part.position}" if part.position else part.site, part.choice.type, inside)
            )
    return tuple(sorted(found))


def is_control(text: str) -> bool:
    """Whether a placement has plain layers in the place of attention."""
    return any(feature.type in CONTROLS for feature in features(text))


def notation(choices: Iterable[Feature]) -> str:
    """The placement with these features, as text."""
    return " ".join(f"{f.site}={f.choice}" for f in sorted(choices)) or "none"
