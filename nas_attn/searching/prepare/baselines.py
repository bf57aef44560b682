"""What a search tries without being asked by its sampler: baselines, controls beside them, and the
user's own placements.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from optuna.trial import FrozenTrial, TrialState

from nas_attn.attention.catalogue import CONTROLS
from nas_attn.attention.choice import Choice
from nas_attn.backbones.relatives import Relatives, relatives
from nas_attn.errors import BackboneError, NasAttnWarning, PlacementError, shorten
from nas_attn.recipe.recipe import Recipe
from nas_attn.space.notation import parse, parse_choice
from nas_attn.space.placement import Assignment, BaselineName, Placement, ResolvedPlacement
from nas_attn.space.search_space import BACKBONE_SITE, Baseline, SearchSpace, Values
from nas_attn.storage.opening import OpenStudy
from nas_attn.storage.trial_book import BASELINE, OUTSIDE, TRIED
from nas_attn.training.plan import Plan, study_plan, wanted
from nas_attn.training.starts import read_weights, wanted_weights

# searches with at least so many trials have relatives of the backbone among them
FEWEST_TRIALS = 6
# searches of few images with at least so many trials may be uniform by two thirds
FEWEST_UNIFORM = 10
# of the candidates, at most
RELATIVES = 1 / 4


@dataclass(frozen=True, slots=True)
class Queued:
    """A network that a search tries without being asked by its sampler."""

    resolved: ResolvedPlacement
    # in the study's space; None if the space does not contain it
    values: Values | None
    # its name as a baseline or control; None if it is none
    baseline: str | None = None
    # as the user has named it; None if nobody has
    typed: str | None = None


def family_of(recipe: Recipe, plan: Plan, trials: int) -> Relatives:
    """Finds the relatives of the backbone that a search tries beside placements, if its recipe
    leaves them to it, it measures latency, and has enough trials.

    Args:
        recipe: what is searched.
        plan: of its networks.
        trials: candidates in all.

    Returns:
        The relatives; none of a user's own function.
    """
    search = recipe.search
    usual = search.controls == "auto" and search.baselines == "all" and not plan.own_build
    if not usual or "latency" not in wanted(recipe) or trials < FEWEST_TRIALS:
        return Relatives()
    # of search and target; a file counts first, which no other network starts from
    weights = max(wanted_weights(recipe), key=lambda one: one != "default", default=None)
    return relatives(recipe.backbone, weights=weights)


def relative(plan: Plan, other: Choice) -> ResolvedPlacement:
    """A relative of the backbone, bare. Raises BackboneError: it cannot be built."""
    return plan.resolved(Placement((Assignment(BACKBONE_SITE, other),)))


def most_relatives(trials: int) -> int:
    """How many relatives a search of so many trials tries, at most."""
    return max(1, int(RELATIVES * trials))


def in_turn(family: Relatives) -> list[Choice]:
    """Lists the relatives that a search tries, in this order: the next larger one, the next smaller
    one, then one further on each side.
    """
    sides = [_two_of(family.larger), _two_of(family.smaller)]
    return [other for pair in zip_longest(*sides) for other in pair if other]


def likely_relatives(recipe: Recipe, plan: Plan, trials: int) -> list[Choice]:
    """The relatives that a search of so many trials tries if each can begin; as `family_of`."""
    return in_turn(family_of(recipe, plan, trials))[: most_relatives(trials)]


def _two_of(others: Sequence[Choice]) -> list[Choice]:
    """The nearest one, and one that differs in another way: deeper, if the first is wider."""
    rest = sorted(others[1:], key=lambda other: other.type == others[0].type)
    return [*others[:1], *rest[:1]]


def control_name(placement: Placement) -> str:
    """The name under which a study keeps a relative: `control resnet8(width=22)`."""
    return str(BaselineName("control", str(placement).removeprefix(f"{BACKBONE_SITE}=")))


def named_controls(recipe: Recipe, plan: Plan) -> dict[str, ResolvedPlacement]:
    """Name -> another network that the recipe names.

    Raises:
        BackboneError: the backbone, which is a Python object, cannot be compared with it.
        PlacementError: its name cannot be read.
    """
    listed = recipe.search.controls
    if isinstance(listed, str) or not listed:
        return {}
    if plan.own_build is not None:
        raise BackboneError(
            f"search.controls = {shorten(str(listed))}: no other network can be compared with a"
            " model given as a Python object: give it as backbone.name = 'package.module:function',"
            " or leave search.controls out"
        )
    networks = [relative(plan, parse_choice(text, "search.controls")) for text in listed]
    return {control_name(network.placement): network for network in networks}


def first_baselines(recipe: Recipe, space: SearchSpace, trials: int) -> dict[str, Baseline]:
    """Key -> baseline of the recipe, equal networks once; uniform ones: at most three, or a third
    of the trials (two thirds where each seed divides few images anew).
    """
    baselines: dict[str, Baseline] = {}
    if recipe.search.baselines == "none":
        return baselines
    bare, *uniform = space.baselines()
    # where there are few validation images, there are few candidates: these first
    few = recipe.data.resplit is True and trials >= FEWEST_UNIFORM
    share = 2 / 3 if few else 1 / 3
    most = 0
    if recipe.search.baselines == "all":
        most = max(3, math.ceil(share * trials))
    # evenly over the types, which follow each other in a search space
    if len(uniform) > most:
        uniform = [uniform[number * len(uniform) // most] for number in range(most)]
    for baseline in (bare, *uniform):
        baselines.setdefault(space.resolve(baseline.values).key, baseline)
    return baselines


def first_controls(recipe: Recipe, plan: Plan, trials: int) -> dict[str, ResolvedPlacement]:
    """Name -> a network with a plain layer at every site, one for each kind of layer. Empty if no
    latency is measured, or if there are too few trials: with the other baselines, they take at most
    half of them, with the backbone's relatives at most a third.
    """
    baselines = first_baselines(recipe, plan.space, trials)
    search = recipe.search
    if search.controls != "auto" or search.baselines != "all" or "latency" not in wanted(recipe):
        return {}
    if 2 * (len(baselines) + len(CONTROLS)) > trials:
        return {}
    # a fourth one takes the place of no control
    if 3 * (len(likely_relatives(recipe, plan, trials)[:3]) + len(CONTROLS)) > trials:
        return {}
    networks = {
        str(BaselineName("control", name)): plan.resolved(plan.space.everywhere(Choice(name)))
        for name in CONTROLS
    }
    return {name: resolved for name, resolved in networks.items() if resolved.key not in baselines}


def first_queue(
    recipe: Recipe, plan: Plan, trials: int, own: Sequence[Queued] = ()
) -> list[Queued]:
    """Lists what a search tries before its sampler proposes anything: the bare backbone, the user's
    own placements, then the other baselines and the controls. So a search that ends early has tried
    what its user asked for.

    Args:
        recipe: what is searched.
        plan: of its networks.
        trials: candidates in all, which limit the baselines.
        own: the user's placements.

    Returns:
        Equal networks once.
    """
    space = plan.space
    known = {
        key: Queued(space.resolve(one.values), one.values, one.name)
        for key, one in first_baselines(recipe, space, trials).items()
    }
    controls = first_controls(recipe, plan, trials) | named_controls(recipe, plan)
    for name, resolved in controls.items():
        known[resolved.key] = Queued(resolved, None, name)
    queue = dict(list(known.items())[:1])
    for trial in own:
        key = trial.resolved.key
        queue.setdefault(
            key, replace(known.get(key, trial), values=trial.values, typed=trial.typed)
        )
    for key, one in known.items():
        queue.setdefault(key, one)
    return list(queue.values())


def enqueue_first(opened: OpenStudy, own: Sequence[Queued] = ()) -> None:
    """Puts `first_queue` into the study's queue; what is queued already keeps its place. Raises the
    study's number of trials if it is too small for the user's own placements.
    """
    for one in first_queue(opened.recipe, study_plan(opened.store), opened.trials, own):
        candidate = None if one.typed is None else opened.store.candidate(one.resolved.key)
        if candidate is not None:
            warnings.warn(
                f"'{one.typed}' is trial {candidate.trial} already ({candidate.state})",
                NasAttnWarning,
                stacklevel=2,
            )
            continue
        named = {BASELINE: one.baseline, TRIED: one.typed}
        if one.values is None:
            named[OUTSIDE] = one.resolved.text
        attributes = {name: text for name, text in named.items() if text is not None}
        with opened.database.creating():
            opened.book.enqueue(one.values or {}, attributes)
    if own:
        opened.store.set(trials=max(opened.trials, trials_to_try_all(opened)))


def user_trials(plan: Plan, placements: Iterable[str]) -> list[Queued]:
    """The user's placements, each network once; writes nothing. Raises PlacementError: one does not
    fit this backbone.
    """
    trials_by_key: dict[str, Queued] = {}
    for typed in placements:
        resolved = plan.resolved(parse(typed))
        try:
            values = plan.space.values(resolved)
        except PlacementError:
            values = None
        trials_by_key.setdefault(resolved.key, Queued(resolved, values, typed=typed))
    return list(trials_by_key.values())


def check_other(plan: Plan, other: Choice) -> None:
    """Raises BackboneError: there is no such backbone, or it has no weights to start from."""
    networks = plan.like(other)
    networks.bare(0)
    list(read_weights(networks))


def trials_to_try_all(opened: OpenStudy) -> int:
    """The fewest trials with which a study comes to each placement that its user has named; 0 if
    none of them waits.
    """
    trials = opened.book.all()
    # workers take them in order
    waiting = [t.number for t in trials if t.state == TrialState.WAITING]
    last = max((n for n in waiting if TRIED in trials[n].user_attrs), default=-1)
    if last < 0:
        return 0
    return sum(n <= last for n in waiting) + begun_of(trials)


def begun_of(trials: Iterable[FrozenTrial]) -> int:
    """How many of Optuna's trials have had a run."""
    begun = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)
    return sum(trial.state in begun for trial in trials)
