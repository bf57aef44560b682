"""What is known before a search: expected effects of attention types by depth, from publications or
from earlier studies.

Only the sampler uses it (`PlacementSampler`, `prior`). It has no unit: the runs decide how much of
it holds, and may reverse it. Statements about a study use the study's runs alone.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Hashable, Iterable, Mapping, Sequence

import numpy as np

from nas_attn.analysis.effects import average_effects
from nas_attn.analysis.snapshot import Snapshot
from nas_attn.errors import NasAttnWarning
from nas_attn.model.coding import NONE
from nas_attn.recipe import Recipe
from nas_attn.storage import Database
from nas_attn.study.reading import snapshot

# effects at depths this far apart are strongly related; the network's depth is 1
NEAR_DEPTH = 0.2
# expected effect of an unknown type, as a share of the other types' effect there
OTHERS = 0.5
# fewest scored candidates of a study that is read; studies read, the latest
FEWEST_CANDIDATES = 8
MOST_STUDIES = 8

# type, depth (0 to 1), effect, weight
Fact = tuple[str, float, float, float]

_SE_IMAGENET = (0.16, 0.11, 0.20, 0.25, 0.36, 0.51, 0.48)
_AGAINST_SE = {"se": 1.0, "eca": 0.74, "gc": 0.73}
PUBLISHED: tuple[Fact, ...] = tuple(
    (name, (stage + 0.5) / len(_SE_IMAGENET), factor * gain, 1.0)
    for name, factor in _AGAINST_SE.items()
    for stage, gain in enumerate(_SE_IMAGENET)
)
"""Points of ImageNet top-1. By stage: SE in 5,138 MnasNets (Accel-NASBench, additive fit, standard
error .03). ECA and GC against SE: resnet33ts in timm's results, one training each.
"""


def expected_in(
    space: Mapping[str, Sequence[str]], facts: str | None
) -> dict[str, dict[Hashable, float]] | None:
    """Expected effects for a study's sampler, from the text of `known_before`; None without a
    prior.
    """
    known = json.loads(facts or "[]")
    return expected(known, space) if known else None


def known_before(recipe: Recipe, database: Database) -> str | None:
    """A new study's prior as JSON: facts of publications, or of earlier studies with enough
    candidates; None: it wants none.
    """
    if recipe.search.prior == "none":
        return None
    if recipe.search.prior == "published":
        return json.dumps(PUBLISHED)
    earlier = [study for study in database.studies() if study.name != recipe.name]
    enough = [
        study.name for study in earlier if study.candidates.get("scored", 0) >= FEWEST_CANDIDATES
    ]
    facts = of_studies(snapshot(database.study(name)) for name in enough[-MOST_STUDIES:])
    if not facts:
        none = f"'{database}' holds no other study with {FEWEST_CANDIDATES} scored candidates"
        warnings.warn(
            f"search.prior = 'studies' has no effect: {none}", NasAttnWarning, stacklevel=2
        )
    return json.dumps(facts)


def of_studies(studies: Iterable[Snapshot]) -> tuple[Fact, ...]:
    """The studies' effects, each in units of its study's effects; uncertain ones have less
    weight.
    """
    facts = list[Fact]()
    for now in studies:
        found = average_effects(now, now.primary) if now.primary else None
        rows = found.at("choice") if found else ()
        if not rows:
            continue
        depths = _depths([row.site for row in rows])
        mean = np.array([row.mean for row in rows])
        error = np.array([row.half / 1.96 for row in rows])
        size = float(np.sqrt(np.mean(mean**2 + error**2))) or 1.0
        weight = 1 / (1 + (error / size) ** 2)
        known = zip(rows, (mean / size).tolist(), weight.tolist(), strict=True)
        facts += [(row.type, depths[row.site], effect, sure) for row, effect, sure in known]
    return tuple(facts)


def expected(
    facts: Sequence[Fact], space: Mapping[str, Sequence[str]]
) -> dict[str, dict[Hashable, float]]:
    """Site -> choice -> its expected effect there, in the facts' unit; more is better. `space`:
    site -> choices.
    """
    depths = _depths(space)
    return {
        site: {
            choice: sum(_at(facts, kind, depths[site]) for kind in _types(choice))
            for choice in choices
        }
        for site, choices in space.items()
    }


def _types(choice: str) -> list[str]:
    """The types in a choice: of `@stage=se(reduction=8) @block=eca`, `se` and `eca`."""
    parts = [
        part.rpartition("=")[2] if part.startswith("@") else part for part in choice.split(" ")
    ]
    return [re.split(r"\W", part)[0] for part in parts if part != NONE]


def _at(facts: Sequence[Fact], kind: str, depth: float) -> float:
    """Mean effect near a depth, towards 0 where little is known there."""
    own = [fact for fact in facts if fact[0] == kind]
    near = [
        (weight * np.exp(-0.5 * ((at - depth) / NEAR_DEPTH) ** 2), effect)
        for _, at, effect, weight in own or facts
    ]
    total = sum(weight for weight, _ in near)
    return (1.0 if own else OTHERS) * float(
        sum(weight * effect for weight, effect in near) / (total + 0.5)
    )


def _depths(sites: Iterable[str]) -> dict[str, float]:
    """Site -> depth of its stage in the backbone, 0 to 1; necks and heads come after it."""
    stages = {site: re.match(r"stage(\d+)", site) for site in sites}
    last = max((int(found[1]) for found in stages.values() if found), default=1)
    return {site: (int(found[1]) - 0.5) / last if found else 1.0 for site, found in stages.items()}
