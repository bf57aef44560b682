"""A recipe's plan before any training: backbone, sites, search space, and the study's training
protocols.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, astuple, dataclass, field
from functools import cached_property, partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from nas_attn import attachment, backbones
from nas_attn.attention.choice import Choice
from nas_attn.backbones.weight_files import restore
from nas_attn.data.dataset import Dataset
from nas_attn.errors import BackboneError, RecipeError, StudyError
from nas_attn.recipe.purposes import SEARCH, TARGET_PROTOCOL
from nas_attn.recipe.reading import frozen_recipe, other_backbone
from nas_attn.recipe.recipe import (
    DataSection,
    Recipe,
    TrainingSection,
    objective_name,
)
from nas_attn.recipe.sections import height_and_width
from nas_attn.recipe.tables import COSTS, OWN_SIDE, Cost, Costs
from nas_attn.space.placement import BARE, Placement, Point, ResolvedPlacement, Site
from nas_attn.space.search_space import BACKBONE_SITE, SearchSpace, other_of, resolve
from nas_attn.storage.records import Latency
from nas_attn.storage.store import StudyStore
from nas_attn.training.images import keep_or_compare
from nas_attn.training.tasks.data import reading_of

# builds the bare backbone, randomly initialised from torch's global generator
Build = Callable[[], nn.Module]


@dataclass(frozen=True)
class Plan:
    """A recipe joined with its backbone."""

    recipe: Recipe
    # (channels, height, width) of one image
    input_shape: tuple[int, int, int]
    classes: int
    # stages, then blocks
    sites: tuple[Site, ...]
    space: SearchSpace
    build: Build
    # the user's function behind `build`; None: the recipe's backbone
    own_build: Build | None = None
    # the backbone that placements name instead of the study's; None: the study's
    other: Choice | None = None
    _resolved: dict[Placement, ResolvedPlacement] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _like: dict[Choice, Plan] = field(default_factory=dict, init=False, repr=False, compare=False)

    def resolved(self, placement: Placement) -> ResolvedPlacement:
        """The network of a placement. Raises PlacementError: it does not fit its backbone. Raises
        BackboneError: another backbone, that it names, has no sites or cannot be built.
        """
        if placement not in self._resolved:
            other = other_of(placement)
            sites = self.sites
            # a user's own site may have this name
            own = any(site.name == BACKBONE_SITE for site in sites)
            if other is not None and not own and len(placement.assignments) > 1:
                sites = self.like(other).found
            self._resolved[placement] = resolve(placement, sites, init=self.space.init)
        return self._resolved[placement]

    @cached_property
    def found(self) -> tuple[Site, ...]:
        """The sites of another backbone, only looked for where something is placed at them. Raises
        BackboneError.
        """
        return _found_sites(self.bare(0), self.recipe, self.input_shape)

    def bare(self, seed: int) -> nn.Module:
        """The bare backbone with the seed's random weights; torch's global generator keeps its
        state.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.build()

    def network(
        self, resolved: ResolvedPlacement, seed: int, weights: Mapping[str, Any] | None = None
    ) -> nn.Module:
        """A candidate with the seed's random weights, or with these in its bare backbone."""
        model = self.like(resolved.other).bare(seed)
        if weights is not None:
            restore(model, weights)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return attachment.attach(model, resolved)

    def like(self, other: Choice | None) -> Plan:
        """The same plan with another backbone, without sites, which nothing is placed at; None: the
        plan itself. Where the study's backbone starts from a file of weights, another network
        starts from its published ones, and takes images as these are made for.
        """
        if other in (None, self.other):
            return self
        if other not in self._like:
            self._like[other] = self._with(other)
        return self._like[other]

    def _with(self, other: Choice) -> Plan:
        own = self.recipe
        backbone = other_backbone(own.backbone, other)
        update: dict[str, Any] = {"backbone": backbone}
        for name in ("training", "target"):
            section = getattr(own, name)
            if section.weights is not None and backbone != own.backbone:
                update[name] = section.model_copy(update={"weights": "default"})
        data = reading_of(own)
        update["data"] = data.of_other(own, own.model_copy(update=update))
        recipe = own.model_copy(update=update)
        size = data.section(recipe).size
        shape = self.input_shape
        if size is not None and size != data.section(own).size:
            shape = (shape[0], *height_and_width(size))
        build = partial(backbones.build, recipe.network, input_shape=shape, classes=self.classes)
        return Plan(recipe, shape, self.classes, (), self.space, build, other=other)

    def shape_of(self, resolved: ResolvedPlacement) -> tuple[int, int, int]:
        """(channels, height, width) of one image of a network: other backbones may take others."""
        return self.like(resolved.other).input_shape

    def cost(self, resolved: ResolvedPlacement) -> Costs:
        """What a network costs on images of its size; the side of its images, where another
        backbone takes others than the study's.
        """
        shape = self.shape_of(resolved)
        cost = attachment.cost(self.network(resolved, 0), shape, self.recipe.objectives)
        return cost if shape == self.input_shape else {**cost, OWN_SIDE: shape[1]}


@dataclass(frozen=True, slots=True)
class Kept:
    """The sites that a study began with."""

    # of the images for which the points' shapes hold
    input_shape: tuple[int, int, int]
    classes: int
    sites: tuple[Site, ...]


def make_plan(
    recipe: Recipe,
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    build: Build | None = None,
    kept: Kept | None = None,
) -> Plan:
    """Joins a recipe with its backbone.

    Args:
        recipe: the recipe.
        input_shape: (channels, height, width) of one image.
        classes: their number.
        build: the user's function that makes the bare backbone; None: the recipe's backbone.
        kept: the sites that the study began with; None: those that are found.

    Raises:
        BackboneError: it cannot be built or has no site.
        RecipeError: the space names what it lacks.
    """
    made_by = partial(backbones.build, recipe.network, input_shape=input_shape, classes=classes)
    if build is not None:
        made_by = partial(backbones.building.users_network, recipe.network, build)
    with torch.random.fork_rng(devices=[]):
        model = made_by()
    if kept is None:
        sites = _found_sites(model, recipe, input_shape)
    elif kept.input_shape == input_shape:
        sites = kept.sites
    else:
        sites = attachment.reshaped(kept.sites, model, input_shape)
    # or says now why one's own cost cannot be counted
    attachment.cost(model, input_shape, recipe.objectives)
    space = SearchSpace(recipe.space, sites, init=recipe.training.init)
    return Plan(recipe, input_shape, classes, sites, space, made_by, build)


def _found_sites(
    model: nn.Module, recipe: Recipe, input_shape: tuple[int, int, int]
) -> tuple[Site, ...]:
    """Finds a bare backbone's sites. Raises BackboneError: it has none, or no gradient arrives at
    one.
    """
    wanted = recipe.space.sites
    found = attachment.survey(model, input_shape, custom=wanted.custom, heads=wanted.heads)
    untaught = {path for note in found.notes if note.kind == "no_gradient" for path in note.modules}
    for site in found.sites:
        for _, points in site.points:
            if untaught.intersection(point.path for point in points):
                raise BackboneError(
                    f"no gradient arrives at {site.name}: the network's code runs it under"
                    " torch.no_grad() or detaches what it makes, so attention there would not"
                    " learn; let gradients through, or name other sites"
                )
    return found.sites


def kept_sites(store: StudyStore) -> Kept | None:
    """The sites that a study began with; None if they are not recorded yet."""
    if store.sites is None:
        return None
    content = json.loads(store.sites)
    for entry in content["sites"]:
        entry["points"] = tuple(
            (position, tuple(Point(*point) for point in there))
            for position, there in entry["points"].items()
        )
    channels, height, width = content["input_shape"]
    sites = tuple(Site(**entry) for entry in content["sites"])
    return Kept((channels, height, width), content["classes"], sites)


def _keep_sites(store: StudyStore, plan: Plan) -> None:
    sites = []
    for site in plan.sites:
        points = {position: [astuple(point) for point in there] for position, there in site.points}
        sites.append({**asdict(site), "points": points})
    content = {"input_shape": plan.input_shape, "classes": plan.classes, "sites": sites}
    store.set(sites=json.dumps(content, separators=(",", ":")))


def plan_for(
    recipe: Recipe,
    dataset: Dataset | None,
    *,
    build: Build | None = None,
    kept: Kept | None = None,
) -> Plan:
    """Makes a recipe's plan with the shape and classes of its data.

    Args:
        recipe: the recipe.
        dataset: its data; None: the recipe says their shape.
        build: as in `make_plan`, like the next one.
        kept: the sites that the study began with.

    Raises:
        BackboneError: the backbone cannot be built or has no site.
        RecipeError: the space names what it lacks.
    """
    if dataset is not None:
        shape = dataset.input_shape
        classes = len(dataset.classes)
    else:
        shape, classes = reading_of(recipe).shape_and_classes(recipe)
    return make_plan(recipe, shape, classes, build=build, kept=kept)


# a plan takes seconds to make, and whoever has opened a study asks for it several times
_made: WeakKeyDictionary[StudyStore, Plan] = WeakKeyDictionary()


def study_plan(store: StudyStore, plan: Plan | None = None) -> Plan:
    """The plan of a study's own recipe, on the sites that it began with; `plan`, if nothing has
    changed since. It is made once for each opened study.
    """
    if plan is None and store in _made:
        return _made[store]
    recipe = frozen_recipe(store.recipe, where=f"study '{store.name}'")
    kept = kept_sites(store)
    of = kept or plan
    if of is None:
        dataset = reading_of(recipe).load(recipe, device="cpu")
        keep_or_compare(store, recipe, dataset)
        plan = plan_for(recipe, dataset)
    elif plan is None or recipe.to_json() != plan.recipe.to_json() or of.sites != plan.sites:
        build = plan.own_build if plan else None
        plan = make_plan(recipe, of.input_shape, of.classes, build=build, kept=kept)
    if kept is None:
        _keep_sites(store, plan)
    # for as long as the study is open
    _made[store] = plan
    return plan


def wanted(recipe: Recipe) -> set[str]:
    """The quantities that a recipe's objectives and limits need."""
    needed = {objective_name(objective) for objective in recipe.objectives}
    if recipe.limits.bounds_latency:
        needed.add("latency")
    return needed


def session_s(recipe: Recipe) -> float:
    """Seconds that a candidate's latency takes at least; 0 if nothing needs it."""
    return recipe.latency.session_seconds if "latency" in wanted(recipe) else 0.0


def excesses(recipe: Recipe, cost: Costs, latency: Latency | None) -> dict[str, float]:
    """Limit -> the share by which a known cost exceeds it, 0 or less if it does not. For a latency
    the low end of the interval counts.
    """
    limited = _limited(recipe, cost, latency)
    return {row.limit: value / limit - 1 for row, limit, value in limited}


def over_limits(recipe: Recipe, cost: Costs, latency: Latency | None) -> str:
    """Why a candidate is infeasible, in one sentence; empty if it is feasible."""
    for row, limit, value in _limited(recipe, cost, latency):
        if value <= limit:
            continue
        said = f"{value:,}"
        written = f"limits.{row.limit} = {limit:,}"
        if latency is not None and not row.function:
            said = f"{latency.ratio:.3f} ({latency.low:.3f} to {latency.high:.3f})"
            written = recipe.limits.latency_text(latency.reference_ms)
        return row.excess.format(value=said, limit=written)
    return ""


def _limited(
    recipe: Recipe, cost: Costs, latency: Latency | None
) -> Iterator[tuple[Cost, float, float]]:
    """Each known cost with a limit, the limit, and the value that it bounds. Those come first that
    are known without a measurement.
    """
    for row in sorted(COSTS.values(), key=lambda row: not row.function):
        limit = getattr(recipe.limits, row.limit) if row.limit else None
        value = cost.get(row.name)
        if not row.function:
            value = latency.low if latency else None
            limit = recipe.limits.latency_ratio(latency.reference_ms if latency else None)
        if limit is not None and value is not None:
            yield row, limit, value


def check_limits(plan: Plan) -> None:
    """Raises RecipeError: the bare backbone alone costs more than a limit. Attention is added to
    it, so that no placement could be within. A space that searches where the backbone's own
    modules stay may cost less.
    """
    unlimited = plan.recipe.limits == type(plan.recipe.limits)()
    if unlimited or plan.space.spec.sites.originals == "search":
        return
    excess = over_limits(plan.recipe, plan.cost(plan.resolved(BARE)), None)
    if excess:
        raise RecipeError(
            f"the bare backbone's {excess}, and attention adds more: give a higher limit, or a"
            " smaller backbone"
        )


# fewest candidates that share a seed
A_SEED = 6


# begins the name of a protocol that is neither the search's nor the target's
OWN_PROTOCOL = "own-"


def keep_protocol(store: StudyStore, training: TrainingSection, data: DataSection) -> str:
    """Stores a training protocol in the study, for all workers, and returns its name."""
    text = protocol_text(training, data)
    own = [name for name in store.protocols.all() if name.startswith(OWN_PROTOCOL)]
    for name in (SEARCH, TARGET_PROTOCOL, *own):
        if text == kept_text(store, name):
            return name
    name = f"{OWN_PROTOCOL}{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    store.protocols.put(name, text)
    return name


def kept_text(store: StudyStore, protocol: str) -> str:
    """The text of one of a study's protocols as it would be written now, also where an earlier
    version wrote other keys. Raises as `protocol_recipe` does.
    """
    recipe = protocol_recipe(store, protocol)
    return protocol_text(recipe.training, recipe.data)


def protocol_recipe(store: StudyStore, protocol: str) -> Recipe:
    """The study's recipe with the training and data of one of its protocols; StudyError if the
    protocol is unknown.
    """
    recipe = frozen_recipe(store.recipe, where=f"study '{store.name}'")
    if protocol == SEARCH:
        return recipe
    if protocol == TARGET_PROTOCOL:
        return recipe.model_copy(update={"training": recipe.target_training})
    text = store.protocols.get(protocol)
    if text is None:
        raise StudyError(
            f"study '{store.name}' has lost its training protocol '{protocol}': restore the"
            " database"
        )
    content = json.loads(text)
    training = TrainingSection.model_validate(content["training"])
    data = DataSection.stored(content["data"])
    return recipe.model_copy(update={"training": training, "data": data})


def search_seeds(recipe: Recipe) -> int:
    """Number of seeds that candidates are spread over; fewer for few candidates, unless each seed
    has its own backbone.
    """
    most = recipe.training.backbones
    own = recipe.training.start == "backbone"
    return most if own else max(1, min(most, recipe.search.trials // A_SEED))


def bare_seeds(recipe: Recipe) -> range:
    """Seeds of the bare backbone's runs in the search: all that candidates run on."""
    first = recipe.first_seed
    return range(first, first + max(search_seeds(recipe), recipe.training.seeds))


def candidate_seeds(recipe: Recipe, trial: int) -> list[int]:
    """Seeds of a candidate's runs in the search, the first one first: of those of the bare
    backbone, over which candidates are spread evenly.
    """
    seeds = bare_seeds(recipe)
    begin = trial % search_seeds(recipe)
    return [seeds[(begin + number) % len(seeds)] for number in range(recipe.training.seeds)]


def backbone_number(recipe: Recipe, seed: int) -> int:
    """The backbone that a run of the search with this seed starts from."""
    training = recipe.training
    return seed % training.backbones if training.start == "backbone" else 0


def protocol_text(training: TrainingSection, data: DataSection) -> str:
    """Writes a training protocol as a study keeps it: equal texts are equal trainings."""
    content = {
        "training": training.model_dump(mode="json"),
        "data": data.model_dump(mode="json", exclude={"workers"}),
    }
    return json.dumps(content, sort_keys=True)
