"""Which modules are worth a look in a network, by the published figures."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from nas_attn.answer.advice.facts import AdvisedPlacement, OtherSetting
from nas_attn.attention.catalogue import ROWS
from nas_attn.model.published_gains import NOT_SAID, PooledFit, PublishedSetting, Situation
from nas_attn.recipe.reading import load_space
from nas_attn.recipe.tasks import variants
from nas_attn.space.notation import parse
from nas_attn.space.placement import Placement, Site

MODULES_LOOKED_AT = 6
"""Each in its best places."""
PLACES_OF_A_MODULE = 2
USUAL_SPACE = "plug_and_play"
"""The search space of a task that has none of its own."""


def large_sites(sites: Iterable[Site]) -> tuple[Site, ...]:
    """Stages, necks and heads, without their blocks and the network's own attention."""
    return tuple(site for site in sites if re.fullmatch(r"(stage|neck|head)\d+", site.name))


def searched_modules(task: str) -> tuple[str, ...]:
    """The modules of the space that a search of this task has."""
    return tuple(load_space(variants(task)[0].hints.space or USUAL_SPACE).choices)


def compared(fit: PooledFit, task: str) -> tuple[PublishedSetting, ...]:
    """What was compared in this task, even by one source alone: then no gain follows, but it says
    where to look.
    """
    return tuple(one for one in fit.settings if one.setting.task == task)


def advised_modules(fit: PooledFit, setting: Situation) -> tuple[str, ...]:
    """The modules that a search of this task has, and those of the catalogue that the setting has
    rows of, in any place.
    """
    modules = list(searched_modules(setting.task))
    for one in compared(fit, setting.task):
        if replace(one.setting, place=setting.place) == setting:
            modules += [name for name in one.modules if name in ROWS]
    return tuple(dict.fromkeys(modules))


def shortlist(
    fit: PooledFit, sites: Sequence[Site], setting: Situation, modules: Sequence[str]
) -> tuple[AdvisedPlacement, ...]:
    """Chooses the most promising modules in their best places, the best first. Modules of which the
    setting has rows come before those of which only the task has some, and these before others; so
    do places in which a module was compared.

    Args:
        fit: of the published comparisons.
        sites: stages, necks and heads of the network.
        setting: task, place, start and form.
        modules: to choose from, by the catalogue's names.
    """
    places_compared = {
        (module, one.setting.place) for one in compared(fit, setting.task) for module in one.modules
    }
    modules_compared = {module for module, _ in places_compared}
    by_module: dict[str, list[AdvisedPlacement]] = defaultdict(list)
    for name in modules:
        for names, place, begin, end in _regions(sites):
            situation = replace(setting, place=place, module=name, begin=begin, end=end)
            by_module[name].append(_candidate(fit, names, situation))

    def rank(placement: AdvisedPlacement) -> tuple[bool, bool, bool, float]:
        module = placement.situation.module
        return (
            placement.gain is None,
            module not in modules_compared,
            (module, placement.situation.place) not in places_compared,
            -placement.predicted,
        )

    for candidates in by_module.values():
        candidates.sort(key=rank)
    ranked = sorted(by_module, key=lambda name: rank(by_module[name][0]))
    chosen: list[AdvisedPlacement] = []
    for name in ranked[:MODULES_LOOKED_AT]:
        chosen += by_module[name][:PLACES_OF_A_MODULE]
    return tuple(sorted(chosen, key=rank))


def _regions(sites: Sequence[Site]) -> list[tuple[list[str], str, float, float]]:
    """(sites, place, begin, end): all stages, the last stage, all necks, all heads."""
    by_role = {
        role: [site.name for site in sites if site.role == role]
        for role in ("backbone", "neck", "head")
    }
    stages = by_role["backbone"]
    regions: list[tuple[list[str], str, float, float]] = []
    if stages:
        regions.append((stages, "backbone", 0.0, 1.0))
    if len(stages) > 1:
        regions.append((stages[-1:], "backbone", 1 - 1 / len(stages), 1.0))
    for role in ("neck", "head"):
        if by_role[role]:
            regions.append((by_role[role], role, 0.0, 1.0))
    return regions


def _candidate(fit: PooledFit, names: Sequence[str], situation: Situation) -> AdvisedPlacement:
    gain = fit.gain(situation)
    return AdvisedPlacement(
        placement=_placement(names, situation.module),
        situation=situation,
        predicted=gain.mean,
        # Else it would be a figure of other modules.
        gain=gain if gain.own_module else None,
    )


def _placement(names: Sequence[str], module: str) -> Placement:
    return parse(" ".join(f"{name}={module}" for name in names))


def other_settings(fit: PooledFit, setting: Situation) -> tuple[OtherSetting, ...]:
    """Places, starts and forms of the same task that have rows, but the one that is asked about;
    the best first. Rows that do not say how they start are left out.
    """
    settings = [one.setting for one in fit.fitted if one.setting.task == setting.task]
    candidates = [
        OtherSetting(other, fit.usual_gain(other))
        for other in settings
        if other != setting and NOT_SAID not in (other.start, other.form)
    ]
    return tuple(sorted(candidates, key=lambda other: -other.gain.mean))
