"""What is known before a search: expected effects of attention types by place and depth, from
publications with the same task, start and form (`nas_attn.model.published_gains`), or from earlier
studies.

Only the sampler uses it (`PlacementSampler`, `prior`). It has no unit: the runs decide how much of
it holds, and may reverse it. Statements about a study use the study's runs alone.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from nas_attn.answer.effects import average_effects
from nas_attn.answer.reading import snapshot
from nas_attn.answer.snapshot import Snapshot
from nas_attn.errors import NasAttnWarning
from nas_attn.model.coding import NO_MODULE
from nas_attn.model.published_gains import PooledFit, Situation, pooled
from nas_attn.recipe.recipe import Recipe
from nas_attn.storage.database import Database

# effects at depths this far apart are strongly related; the network's depth is 1
NEAR_DEPTH = 0.2
# expected effect of an unknown type, as a share of the other types' effect there
OTHERS = 0.5
# fewest scored candidates of a study that is read; studies read, the latest
FEWEST_CANDIDATES = 8
MOST_STUDIES = 8

# parts of a backbone whose effects are published facts
DEPTH_PARTS = 7

# type, depth (0 to 1), effect, weight; then its place, if that is not the backbone. Studies before
# 2026-11-28 have facts without place, for necks and heads, too.
Fact = tuple[str, float, float, float] | tuple[str, float, float, float, str]


def published(fit: PooledFit, setting: Situation, types: Iterable[str]) -> tuple[Fact, ...]:
    """What publications expect of those of these types that they have tried, by place and depth,
    in points; nothing if no row has the setting's task, start and form.
    """
    places = {
        one.setting.place
        for one in fit.fitted
        if replace(one.setting, place=setting.place) == setting.setting
    }
    modules = {module for one in fit.fitted for module in one.modules}
    facts = list[Fact]()
    for name in sorted(modules.intersection(types)):
        of_type = replace(setting, module=name)
        if "backbone" in places:
            for part in range(DEPTH_PARTS):
                at = replace(of_type, begin=part / DEPTH_PARTS, end=(part + 1) / DEPTH_PARTS)
                facts.append((name, (part + 0.5) / DEPTH_PARTS, fit.gain(at).mean, 1.0, "backbone"))
        for place in sorted(places - {"backbone"}):
            gain = fit.gain(replace(of_type, place=place)).mean
            facts.append((name, 1.0, gain, 1.0, place))
    return tuple(facts)


def setting_of(recipe: Recipe) -> Situation:
    """The place, start and form of a recipe's search, for the evidence."""
    start = "scratch" if recipe.training.start == "scratch" else "pretrained"
    form = "identity" if recipe.training.init == "identity" else "random"
    return Situation(recipe.task.name, "backbone", start, form, module="")


def expected_in(
    space: Mapping[str, Sequence[str]], facts: str | None
) -> dict[str, dict[Hashable, float]] | None:
    """Expected effects for a study's sampler, from the text of `known_before`; None without a
    prior.
    """
    facts_read = json.loads(facts or "[]")
    return expected(facts_read, space) if facts_read else None


def known_before(recipe: Recipe, database: Database) -> str | None:
    """A new study's prior as JSON: facts of publications, or of earlier studies with enough
    candidates; None: it wants none.
    """
    if recipe.search.prior == "none":
        return None
    if recipe.search.prior == "published":
        return json.dumps(_published_for(recipe))
    earlier = [study for study in database.studies() if study.name != recipe.name]
    enough = [
        study.name for study in earlier if study.candidates.get("scored", 0) >= FEWEST_CANDIDATES
    ]
    facts = of_studies(snapshot(database.study(name)) for name in enough[-MOST_STUDIES:])
    if not facts:
        warnings.warn(
            f"search.prior = 'studies' has no effect: '{database}' holds no other study with"
            f" {FEWEST_CANDIDATES} scored candidates",
            NasAttnWarning,
            stacklevel=2,
        )
    return json.dumps(facts)


def _published_for(recipe: Recipe) -> tuple[Fact, ...]:
    setting = setting_of(recipe)
    facts = published(pooled(), setting, recipe.space.choices)
    if not facts:
        warnings.warn(
            f"search.prior = 'published' has no effect: no published comparison is of"
            f" {setting.task} with start '{setting.start}' and form '{setting.form}'",
            NasAttnWarning,
            stacklevel=3,
        )
    return facts


def of_studies(studies: Iterable[Snapshot]) -> tuple[Fact, ...]:
    """The studies' effects, each in units of its study's effects; uncertain ones have less
    weight.
    """
    facts = list[Fact]()
    for now in studies:
        effects = average_effects(now, now.primary) if now.primary else None
        rows = effects.at("choice") if effects else ()
        if not rows:
            continue
        depths = _depths([row.site for row in rows])
        mean = np.array([row.mean for row in rows])
        error = np.array([row.half / 1.96 for row in rows])
        size = float(np.sqrt(np.mean(mean**2 + error**2))) or 1.0
        weight = 1 / (1 + (error / size) ** 2)
        weighed = zip(rows, (mean / size).tolist(), weight.tolist(), strict=True)
        facts += [(row.type, depths[row.site], effect, sure) for row, effect, sure in weighed]
    return tuple(facts)


def expected(
    facts: Sequence[Fact], space: Mapping[str, Sequence[str]]
) -> dict[str, dict[Hashable, float]]:
    """Site -> choice -> its expected effect there, in the facts' unit; more is better. `space`:
    site -> choices.
    """
    depths = _depths(space)
    effects: dict[str, dict[Hashable, float]] = {}
    for site, choices in space.items():
        here = _of_place(facts, site)
        effects[site] = {
            choice: sum(_at(here, kind, depths[site]) for kind in _types(choice))
            for choice in choices
        }
    return effects


def _of_place(facts: Sequence[Fact], site: str) -> list[Fact]:
    """The facts about the part of the network that a site belongs to."""
    role = re.match(r"neck|head", site)
    place = role[0] if role else "backbone"
    return [fact for fact in facts if len(fact) == 4 or fact[4] == place]


def _types(choice: str) -> list[str]:
    """The types in a choice: of `@stage=se(reduction=8) @block=eca`, `se` and `eca`."""
    parts = [
        part.rpartition("=")[2] if part.startswith("@") else part for part in choice.split(" ")
    ]
    return [re.split(r"\W", part)[0] for part in parts if part != NO_MODULE]


def _at(facts: Sequence[Fact], kind: str, depth: float) -> float:
    """Mean effect near a depth, towards 0 where little is known there."""
    own = [fact for fact in facts if fact[0] == kind]
    near = [
        (fact[3] * np.exp(-0.5 * ((fact[1] - depth) / NEAR_DEPTH) ** 2), fact[2])
        for fact in own or facts
    ]
    total = sum(weight for weight, _ in near)
    return (1.0 if own else OTHERS) * float(
        sum(weight * effect for weight, effect in near) / (total + 0.5)
    )


def _depths(sites: Iterable[str]) -> dict[str, float]:
    """Site -> depth of its stage in the backbone, 0 to 1; necks and heads come after it."""
    stages = {site: re.match(r"stage(\d+)", site) for site in sites}
    last = max((int(match[1]) for match in stages.values() if match), default=1)
    return {site: (int(match[1]) - 0.5) / last if match else 1.0 for site, match in stages.items()}
