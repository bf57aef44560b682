"""Search spaces: which choices are allowed at which site, and which network a placement is."""

import fnmatch
import hashlib
import itertools
import json
import random
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from nas_attn.attention import catalogue
from nas_attn.attention.choice import Choice
from nas_attn.errors import KnobError, NasAttnWarning, PlacementError, RecipeError, did_you_mean
from nas_attn.space.notation import parse
from nas_attn.space.placement import (
    BARE_NAME,
    POSITIONS,
    Assignment,
    BaselineName,
    Placement,
    Point,
    ResolvedPlacement,
    Site,
)
from nas_attn.space.schema import SpaceSpec

# The site of a placement that is another backbone
BACKBONE_SITE = "backbone"
# (module path, position): the place of one module
Layer = tuple[str, str]


def resolve(
    placement: Placement, sites: Sequence[Site], *, init: str = "paper", strict: bool = True
) -> ResolvedPlacement:
    """A placement made explicit for one backbone; PlacementError if a site, type, position or knob
    is wrong.

    Args:
        sites: all sites of the backbone, stages and blocks.
        init: `paper` or `identity`, the form of the modules; part of the key.
        strict: True, for a user's text: an impossible knob is an error; False takes the nearest
            possible value.
    """
    by_name = {site.name: site for site in sites}
    other = other_of(placement)
    if other is not None and BACKBONE_SITE not in by_name:
        return _in_another(placement, other, sites, init=init, strict=strict)
    chosen: dict[Layer, tuple[Point, Choice]] = {}
    owners: dict[tuple[Layer, bool, int], Site] = {}
    for site, assignment in _in_order(placement, by_name):
        position = assignment.position or site.default_position
        if position not in site.positions:
            raise PlacementError(
                f"{site.name} has no position '{position}': it has {', '.join(site.positions)}"
            )
        for point in site.at(position):
            layer = point.path, position
            choice = _explicit(assignment.choice, point, site.name, strict)
            owner = owners.setdefault(
                (layer, assignment.site == site.name, site.name.count(".")), site
            )
            if owner is not site and chosen[layer] != (point, choice):
                raise PlacementError(
                    f"{owner.name} and {site.name} both mean {point.path}: leave one of them out"
                )
            chosen[layer] = point, choice
    modules = _by_point(chosen)
    return ResolvedPlacement(
        modules=modules,
        placement=_explicit_placement(chosen, sites),
        init=init,
        key=_key(modules, init),
    )


def _in_another(
    placement: Placement, other: Choice, sites: Sequence[Site], *, init: str, strict: bool
) -> ResolvedPlacement:
    """Resolves a placement in another backbone than the study's, whose sites these are."""
    parts = tuple(part for part in placement.assignments if part.site != BACKBONE_SITE)
    if len(parts) < len(placement.assignments) - 1:
        raise PlacementError(f"'{placement}' names two backbones: give one")
    inside = resolve(Placement(parts), sites, init=init, strict=strict)
    named = f"{BACKBONE_SITE}={other}"
    if inside.modules:
        named += f" {inside.key}"
    key = hashlib.sha256(named.encode()).hexdigest()[:16]
    explicit = Placement((Assignment(BACKBONE_SITE, other), *inside.placement.assignments))
    return ResolvedPlacement(inside.modules, explicit, init, key, other)


def other_of(placement: Placement) -> Choice | None:
    """The backbone that replaces the study's; None for a placement in the study's own."""
    return next(
        (
            assignment.choice
            for assignment in placement.assignments
            if assignment.site == BACKBONE_SITE
        ),
        None,
    )


def _explicit(choice: Choice, point: Point, where: str, strict: bool) -> Choice:
    """A choice with every knob written out for a point's channels and map size."""
    if choice.is_original and not point.replaces:
        raise PlacementError(
            f"{where} has no attention of its own for 'original': give 'none' or a module"
        )
    if choice.is_none or choice.is_original:
        return choice
    try:
        row = catalogue.find(choice.type)
        knobs = row.resolve(
            dict(choice.knobs), point.channels, point.height, point.width, strict=strict
        )
    except KnobError as error:
        raise PlacementError(
            f"{error} (at {where}: {point.channels} channels, {point.height}x{point.width})"
        ) from None
    return Choice(choice.type, knobs)


def _in_order(placement: Placement, by_name: Mapping[str, Site]) -> list[tuple[Site, Assignment]]:
    """(site, assignment) from the general to the specific, so that the later may replace the
    earlier.
    """
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
    """Sites that a glob matches: stages, or blocks if the pattern has a dot."""
    # a pattern matches the backbone's own attention only if it names it
    named = "original" in pattern
    blocks = "." in pattern or all("." in name for name in by_name)
    names = [
        name for name, site in by_name.items() if ("." in name) == blocks and site.original == named
    ]
    matching = []
    if any(c in pattern for c in "*?["):
        matching = fnmatch.filter(names, pattern)
    if not matching:
        raise PlacementError(f"unknown site '{pattern}': {did_you_mean(pattern, by_name)}")
    return [by_name[name] for name in matching]


def _by_point(
    chosen: Mapping[Layer, tuple[Point, Choice]],
) -> tuple[tuple[Point, tuple[Choice, ...]], ...]:
    """Modules per point, in the order in which the positions come."""
    modules: dict[Point, list[Choice]] = {}
    replaced = tuple(
        f"{point.path}."
        for point, choice in chosen.values()
        if point.replaces and not choice.is_original
    )
    for (_, _position), (point, choice) in sorted(
        chosen.items(), key=lambda item: POSITIONS.index(item[0][1])
    ):
        # What would be inside a replaced module would never run
        if choice.is_original or point.path.startswith(replaced):
            continue
        if point.replaces or not choice.is_none:
            modules.setdefault(point, []).extend([] if choice.is_none else [choice])
    return tuple((point, tuple(modules[point])) for point in sorted(modules, key=lambda p: p.path))


def _key(modules: Iterable[tuple[Point, tuple[Choice, ...]]], init: str) -> str:
    network = []
    for point, choices in modules:
        written = [[choice.type, list(map(list, catalogue.keyed(choice)))] for choice in choices]
        network.append([point.path, point.replaces, written])
    text = json.dumps([network, init if network else ""], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _explicit_placement(
    chosen: Mapping[Layer, tuple[Point, Choice]], sites: Sequence[Site]
) -> Placement:
    """The explicit placement: a stage if all its points agree, else its blocks; fixed defaults are
    left out.
    """
    left = {
        layer: choice
        for layer, (point, choice) in chosen.items()
        if not choice.is_original and (point.replaces or not choice.is_none)
    }
    parts: list[Assignment] = []
    for site in sorted(sites, key=lambda s: s.name.count(".")):
        for position, points in site.points:
            layers = [(point.path, position) for point in points]
            choices = {left.get(layer) for layer in layers}
            choice = choices.pop()
            if choices or choice is None:
                continue
            shown = None if position == site.default_position else position
            parts.append(Assignment(site.name, short(choice), shown))
            for layer in layers:
                del left[layer]
    return Placement(tuple(sorted(parts, key=lambda part: _natural(part.site))))


def short(choice: Choice) -> Choice:
    """A resolved choice without the knobs that have their row's fixed default. It resolves to the
    same choice.
    """
    if choice.is_none:
        return choice
    row = catalogue.find(choice.type)
    fixed = {knob.name: knob.default for knob in row.knobs if not knob.auto}
    kept = (
        (name, value) for name, value in choice.knobs if name not in fixed or fixed[name] != value
    )
    return Choice(choice.type, tuple(kept))


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorting key that puts stage10 after stage2."""
    return [(int(digits), "") for digits in re.findall(r"\d+", name)] or [(0, name)]


# The value that leaves a site bare
BARE_VALUE = "none"
# Values that put no module in
FREE = frozenset({BARE_VALUE, "original"})
# Site -> value: `{"stage2": "se(reduction=8)"}`, what Optuna holds as parameters
Values = dict[str, str]


@dataclass(frozen=True, slots=True)
class Baseline:
    """A candidate that needs no search."""

    name: str
    values: Values


class SearchSpace:
    """What a study may try: one categorical per site, whose values are choices in notation, equal
    networks merged.

    A value starts with `@` if the position is searched: `@block=se(reduction=8)`. A site's values
    include those that only the baselines need (`none`, one choice used uniformly); `contains` tells
    them apart.
    """

    def __init__(self, spec: SpaceSpec, sites: Sequence[Site], *, init: str = "paper") -> None:
        """`sites` are all of the backbone, `init` is the form of the modules; RecipeError if the
        space does not fit them.
        """
        self.spec = spec
        self.init = init
        self._all_sites = tuple(sites)
        self.sites = _included(spec, sites)
        # Site -> values that the space allows there
        self.allowed: dict[str, tuple[str, ...]] = {}
        # Likewise, with values that only baselines use
        self.parameters: dict[str, tuple[str, ...]] = {}
        self._by_network: dict[str, dict[str, str]] = {}
        owners: dict[Layer, str] = {}
        for site in self.sites:
            self._add_site(site)
            for layer in self._layers(site):
                if (owner := owners.setdefault(layer, site.name)) != site.name:
                    raise RecipeError(
                        f"{spec.where}: sites '{owner}' and '{site.name}' both mean {layer[0]}:"
                        " leave one out with sites.exclude"
                    )
        names = [site.name for site in self.sites]
        for pattern in spec.per_site:
            if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
                raise RecipeError(
                    f"{spec.where}: per_site.{pattern} matches no site:"
                    f" {did_you_mean(pattern, names)}"
                )

    def _layers(self, site: Site) -> Iterator[Layer]:
        for position in self._positions(site):
            for point in site.at(position):
                yield point.path, position

    def placement(self, values: Mapping[str, str]) -> Placement:
        parts = []
        for site, value in values.items():
            sign = "" if value.startswith("@") else "="
            parts.append(f"{site}{sign}{value}")
        return parse(" ".join(parts))

    def resolve(self, values: Mapping[str, str]) -> ResolvedPlacement:
        """Values as an explicit placement with its key."""
        return resolve(self.placement(values), self._all_sites, init=self.init, strict=False)

    def values(self, placement: ResolvedPlacement) -> Values:
        """The values that encode a placement; PlacementError if the space does not hold it, and at
        which site.
        """
        left = dict(placement.modules)
        result: Values = {}
        if placement.other is not None:
            raise PlacementError(
                f"the search space '{self.spec.name}' does not hold another backbone"
            )
        for site in self.sites:
            paths = {point.path for _, points in site.points for point in points}
            part = _signature(
                {point: left.pop(point) for point in list(left) if point.path in paths}
            )
            value_of = self._by_network[site.name]
            if part not in value_of:
                raise PlacementError(
                    f"the search space '{self.spec.name}' does not have this choice at {site.name}:"
                    f" it has {', '.join(value_of.values())}"
                )
            result[site.name] = value_of[part]
        if left:
            raise PlacementError(
                f"the search space '{self.spec.name}' does not search at"
                f" {', '.join(sorted(p.path for p in left))}, where '{placement.text}' has"
                " attention"
            )
        return result

    @property
    def most_modules(self) -> int:
        """Modules that a placement of the space may have."""
        limit = self.spec.limits.max_modules
        return len(self.sites) if limit is None else limit

    def contains(self, values: Mapping[str, str]) -> bool:
        """Whether the space allows these values (baselines may lie outside)."""
        same = values.keys() == self.allowed.keys()
        inside = same and all(values[site] in allowed for site, allowed in self.allowed.items())
        return inside and sum(value not in FREE for value in values.values()) <= self.most_modules

    def count(self) -> int:
        """Exact number of placements that the space allows."""
        return sum(self._counts(0)[: self.most_modules + 1])

    def enumerate(self) -> Iterator[Values]:
        """All placements, in a fixed order."""
        for combination in itertools.product(*self.allowed.values()):
            values = dict(zip(self.allowed, combination, strict=True))
            if self.contains(values):
                yield values

    def sample(self, rng: random.Random) -> Values:
        """One placement, each equally likely; RecipeError if the space is empty."""
        if self.count() == 0:
            raise RecipeError(
                f"{self.spec.where} is empty: raise limits.max_modules, or allow `none` at more"
                " sites"
            )
        left = self.most_modules
        values = {}
        for index, (site, allowed) in enumerate(self.allowed.items()):
            below = list(itertools.accumulate(self._counts(index + 1)))
            weights = [_ways(below, left - (value not in FREE)) for value in allowed]
            values[site] = rng.choices(allowed, weights)[0]
            left -= values[site] not in FREE
        return values

    def neighbours(self, values: Mapping[str, str]) -> Iterator[Values]:
        """Allowed placements that differ at one site."""
        for site, allowed in self.allowed.items():
            for value in allowed:
                candidate = {**values, site: value}
                if value != values.get(site) and self.contains(candidate):
                    yield candidate

    def everywhere(self, choice: Choice) -> Placement:
        """A choice at each searched site, even if the space does not have it there."""
        sites = (site for site in self.sites if not site.original)
        return Placement(
            tuple(Assignment(site.name, choice, self._positions(site)[0]) for site in sites)
        )

    def baselines(self) -> list[Baseline]:
        """The bare backbone, and each type with the space's first knobs at every site."""
        result = [Baseline(BARE_NAME, {site.name: _bare(site) for site in self.sites})]
        for choice in self._first_choices():
            values = {}
            for site in self.sites:
                if site.original:
                    values[site.name] = "original"
                    continue
                network = self._network(site, self._positions(site)[0], choice)
                values[site.name] = self._by_network[site.name][network]
            result.append(Baseline(str(BaselineName("uniform", str(choice))), values))
        return result

    def _positions(self, site: Site) -> list[str]:
        return [p for p in self.spec.sites.positions if p in site.positions] or [
            site.default_position
        ]

    def _add_site(self, site: Site) -> None:
        """Fills the encoding of one site: what is allowed, then what only the baselines need."""
        types = self._types_at(site)
        value_of: dict[str, str] = {}
        if site.original:
            value_of[_signature({})] = "original"
        if self.spec.with_none and "none" in types:
            value_of[self._network(site, self._positions(site)[0], Choice("none"))] = "none"
        for position in self._positions(site):
            for choice in self._choices(types):
                value_of.setdefault(
                    self._network(site, position, choice), self._value(site, position, choice)
                )
        self.allowed[site.name] = tuple(value_of.values())
        value_of.setdefault(_signature({}), _bare(site))
        for choice in [] if site.original else self._first_choices():
            position = self._positions(site)[0]
            value_of.setdefault(
                self._network(site, position, choice), self._value(site, position, choice)
            )
        self._by_network[site.name] = value_of
        self.parameters[site.name] = tuple(value_of.values())

    def _types_at(self, site: Site) -> set[str]:
        types = {*self.spec.types, "none"}
        for pattern, restriction in self.spec.per_site.items():
            if fnmatch.fnmatchcase(site.name, pattern):
                types &= set(restriction.choices)
        return types

    def _choices(self, types: set[str]) -> Iterator[Choice]:
        """Each type with each combination of its knobs, as written."""
        for name, grids in self.spec.types.items():
            for grid in grids if name in types else ():
                for combination in itertools.product(*grid.values()):
                    yield Choice(name, tuple(zip(grid, combination, strict=True)))

    def _first_choices(self) -> list[Choice]:
        """Each type as the space names it first."""
        choices = []
        for name, grids in self.spec.types.items():
            if grids:
                knobs = tuple((knob, values[0]) for knob, values in grids[0].items())
                choices.append(Choice(name, knobs))
        return choices

    def _network(self, site: Site, position: str, choice: Choice) -> str:
        """A text that is the same for all choices that build the same network at this site."""
        return _signature(dict(self._resolve_one(site, position, choice, strict=False).modules))

    def _value(self, site: Site, position: str, choice: Choice) -> str:
        """Notation for the encoding: as written if that means the same when typed, else
        explicit.
        """
        at = ""
        if len(self.spec.sites.positions) > 1 or position != site.default_position:
            at = f"@{position}="
        explicit = self._resolve_one(site, position, choice, strict=False)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", NasAttnWarning)
                if self._resolve_one(site, position, choice, strict=True).key == explicit.key:
                    return f"{at}{choice}"
        except (PlacementError, NasAttnWarning):
            pass
        _, (resolved, *_) = explicit.modules[0]
        return f"{at}{short(resolved)}"

    def _resolve_one(
        self, site: Site, position: str, choice: Choice, *, strict: bool
    ) -> ResolvedPlacement:
        single = Placement((Assignment(site.name, choice, position),))
        try:
            return resolve(single, self._all_sites, init=self.init, strict=strict)
        except PlacementError as error:
            if strict:
                raise
            raise RecipeError(f"{self.spec.where}: choices.{choice.type}: {error}") from None

    def _counts(self, start: int) -> list[int]:
        """Number of ways to fill the sites from `start` on, by the number of modules used."""
        ways = [1]
        for allowed in list(self.allowed.values())[start:]:
            without = sum(value in FREE for value in allowed)
            with_module = len(allowed) - without
            stays = [*ways, 0]
            grows = [0, *ways]
            ways = [
                old * without + fewer * with_module for old, fewer in zip(stays, grows, strict=True)
            ]
        return ways


def _included(spec: SpaceSpec, sites: Sequence[Site]) -> list[Site]:
    """Sites of the space's granularity that its patterns include."""
    blocks = spec.sites.granularity == "block"
    originals = spec.sites.originals == "search"

    def of_level(site: Site) -> bool:
        if site.original:
            return originals
        return site.name in spec.sites.custom or ("." in site.name) == blocks

    def fits(site: Site, patterns: Sequence[str]) -> bool:
        return any(fnmatch.fnmatchcase(site.name, pattern) for pattern in patterns)

    level = [site for site in sites if of_level(site)]
    chosen = [
        site
        for site in level
        if fits(site, spec.sites.include) and not fits(site, spec.sites.exclude)
    ]
    if not chosen:
        names = ", ".join(site.name for site in level) or "none"
        raise RecipeError(
            f"{spec.where}: sites.include {spec.sites.include} leaves no site; the backbone has"
            f" {names}"
        )
    return chosen


def _bare(site: Site) -> str:
    """The value that leaves the backbone as it is."""
    return "original" if site.original else "none"


def _signature(modules: Mapping[Point, Sequence[Choice]]) -> str:
    return "; ".join(
        sorted(f"{point.path}: {' '.join(map(str, choices))}" for point, choices in modules.items())
    )


def _ways(below: list[int], limit: int) -> int:
    return below[min(limit, len(below) - 1)] if limit >= 0 else 0
