"""From what was typed to what is built: every knob explicit, and a key that equal networks share."""

import fnmatch
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence

from nas_attn.attention import catalogue
from nas_attn.errors import KnobError, PlacementError, did_you_mean
from nas_attn.records import POSITIONS, Assignment, Choice, Placement, Point, ResolvedPlacement, Site

Layer = tuple[str, str]
"""(module path, position): what one module is for."""


def resolve(
    placement: Placement, sites: Sequence[Site], *, init: str = "paper", strict: bool = True
) -> ResolvedPlacement:
    """A placement made explicit for one backbone.

    Args:
        sites: all sites of the backbone, stages and blocks.
        init: `paper` or `identity`, the form of the modules; part of the key.
        strict: a user's own words, where an impossible knob is an error; False takes the nearest possible one.

    Raises:
        PlacementError: an unknown site, type or position, a site assigned twice, an impossible knob.
    """
    by_name = {site.name: site for site in sites}
    chosen: dict[Layer, tuple[Point, Choice]] = {}
    for site, assignment in _in_order(placement, by_name):
        position = assignment.position or site.default_position
        if position not in site.positions:
            raise PlacementError(f"{site.name} has no position '{position}': it has {', '.join(site.positions)}")
        for point in site.at(position):
            chosen[point.path, position] = (point, _explicit(assignment.choice, point, site.name, strict))
    modules = _by_point(chosen)
    return ResolvedPlacement(modules=modules, text=_text(chosen, sites), init=init, key=_key(modules, init))


def _explicit(choice: Choice, point: Point, where: str, strict: bool) -> Choice:
    """A choice with every knob written out for a point's channels and map size."""
    if choice.is_original and not point.replaces:
        raise PlacementError(f"{where} has no original attention that 'original' could keep")
    if choice.is_none or choice.is_original:
        return choice
    try:
        row = catalogue.find(choice.type)
        resolved = row.resolve(dict(choice.knobs), point.channels, point.height, point.width, strict=strict)
    except KnobError as error:
        raise PlacementError(f"{error} (at {where}: {point.channels} channels, {point.height}x{point.width})") from None
    return Choice(choice.type, tuple(resolved.knobs))


def _in_order(placement: Placement, by_name: Mapping[str, Site]) -> list[tuple[Site, Assignment]]:
    """(site, assignment) from the general to the specific, so that the later may replace the earlier."""
    general: list[tuple[Site, Assignment]] = []
    named: list[tuple[Site, Assignment]] = []
    seen: set[Layer] = set()
    for assignment in placement.assignments:
        if assignment.site in by_name:
            site = by_name[assignment.site]
            layer = (site.name, assignment.position or site.default_position)
            if layer in seen:
                raise PlacementError(f"{layer[0]}@{layer[1]} is assigned twice: remove one of them")
            seen.add(layer)
            named.append((site, assignment))
        else:
            general.extend((site, assignment) for site in _matching(assignment.site, by_name))
    return general + sorted(named, key=lambda pair: pair[0].name.count("."))


def _matching(pattern: str, by_name: Mapping[str, Site]) -> list[Site]:
    """Sites that a glob means: stages, or blocks where the pattern has a dot."""
    named = "original" in pattern  # the backbone's own attention is meant only where the pattern says so
    blocks = "." in pattern or all("." in name for name in by_name)
    names = [name for name, site in by_name.items() if ("." in name) == blocks and site.original == named]
    found = fnmatch.filter(names, pattern) if any(c in pattern for c in "*?[") else []
    if not found:
        raise PlacementError(f"unknown site '{pattern}': {did_you_mean(pattern, by_name)}")
    return [by_name[name] for name in found]


def _by_point(chosen: Mapping[Layer, tuple[Point, Choice]]) -> tuple[tuple[Point, tuple[Choice, ...]], ...]:
    """Modules per point, in the order in which the positions come."""
    modules: dict[Point, list[Choice]] = {}
    for (_, _position), (point, choice) in sorted(chosen.items(), key=lambda item: POSITIONS.index(item[0][1])):
        if not choice.is_original and (point.replaces or not choice.is_none):
            modules.setdefault(point, []).extend([] if choice.is_none else [choice])
    return tuple((point, tuple(modules[point])) for point in sorted(modules, key=lambda p: p.path))


def _key(modules: Iterable[tuple[Point, tuple[Choice, ...]]], init: str) -> str:
    network = [
        [point.path, point.replaces, [[c.type, [list(knob) for knob in c.knobs]] for c in choices]]
        for point, choices in modules
    ]
    text = json.dumps([network, init if network else ""], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _text(chosen: Mapping[Layer, tuple[Point, Choice]], sites: Sequence[Site]) -> str:
    """Notation without doubt: a stage where all its points agree, its blocks where they do not; fixed defaults left out."""
    left = {
        layer: choice
        for layer, (point, choice) in chosen.items()
        if not choice.is_original and (point.replaces or not choice.is_none)
    }
    parts: list[tuple[str, str]] = []
    for site in sorted(sites, key=lambda s: s.name.count(".")):
        for position, points in site.points:
            layers = [(point.path, position) for point in points]
            choices = {left.get(layer) for layer in layers}
            choice = choices.pop()
            if choices or choice is None:
                continue
            shown = None if position == site.default_position else position
            parts.append((site.name, str(Assignment(site.name, short(choice), shown))))
            for layer in layers:
                del left[layer]
    return " ".join(text for _, text in sorted(parts, key=lambda part: _natural(part[0]))) or "none"


def short(choice: Choice) -> Choice:
    """A resolved choice without the knobs that have their row's fixed default: it resolves to the same again."""
    if choice.is_none:
        return choice
    row = catalogue.find(choice.type)
    fixed = {knob.name: knob.default for knob in row.knobs if not knob.auto}
    kept = ((name, value) for name, value in choice.knobs if name not in fixed or fixed[name] != value)
    return Choice(choice.type, tuple(kept))


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorting key that puts stage10 after stage2."""
    digits = "".join(c if c.isdigit() else " " for c in name).split()
    return [(int(d), "") for d in digits] or [(0, name)]
