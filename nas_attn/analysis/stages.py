"""The bare backbone's stages and their times, for drawing a placement on them to scale."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace

from nas_attn.analysis.snippet import SITES
from nas_attn.storage import StudyStore

TIMES = "stage_times"
"""Attribute of a study: milliseconds of the bare backbone's parts, as JSON; empty where they cannot be told."""
STAGE = re.compile(r"(stage|neck|head)\d+")


@dataclass(frozen=True, slots=True)
class Stage:
    """One part of the bare backbone."""

    name: str
    """`stage2`; `stem` and `rest`, where there are times, for what comes before and after all stages."""
    ms: float | None
    """Measured time of this part; None: not known."""
    shape: str = ""
    """`64x8x8`, channels and map behind its first point; empty for `stem` and `rest`."""
    blocks: int = 1

    @property
    def site(self) -> bool:
        """Whether it is one that attention may go to."""
        return STAGE.fullmatch(self.name) is not None


def stages(store: StudyStore) -> tuple[Stage, ...]:
    """In the order of execution; empty for a study that has not begun yet."""
    text = store.get(SITES)
    if text is None:
        return ()
    found = {}
    for site in json.loads(text)["sites"]:
        if STAGE.fullmatch(site["name"]):
            (_, channels, height, width, *_), *_ = next(iter(site["points"].values()))
            blocks = len(site["points"].get("block", [""]))
            found[site["name"]] = Stage(site["name"], None, f"{channels}x{height}x{width}", blocks)
    times = json.loads(store.get(TIMES) or "null")
    if not isinstance(times, dict) or not found.keys() <= times.keys():
        return tuple(found.values())
    return tuple(replace(found.get(name, Stage(name, None)), ms=float(ms)) for name, ms in times.items())
