"""Begins a study, or prepares a known one for workers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from nas_attn.answer.reading import snapshot
from nas_attn.data.dataset import Dataset
from nas_attn.errors import DataError
from nas_attn.recipe import tasks
from nas_attn.recipe.recipe import Recipe
from nas_attn.searching.prepare.baselines import enqueue_first
from nas_attn.searching.prepare.checks import check_weights
from nas_attn.searching.prepare.own_placements import user_trials
from nas_attn.searching.propose.prior import known_before
from nas_attn.storage.opening import OpenStudy, create_study, is_study
from nas_attn.storage.records import Fingerprint
from nas_attn.storage.store import StudyStore
from nas_attn.training.images import keep_inventory, keep_or_compare
from nas_attn.training.measuring import to_text
from nas_attn.training.plan import Build, Plan, check_limits, kept_sites, plan_for, study_plan
from nas_attn.training.tasks.data import data_of
from nas_attn.training.trainer import check_trainings


def plan_recipe(
    recipe: Recipe, *, build: Build | None = None, store: StudyStore | None = None
) -> Plan:
    """A recipe's backbone, sites (with `store`: those that the study began with) and space. Loads
    the data, trains nothing.
    """
    dataset = data_of(tasks.of(recipe)).load(recipe, device="cpu")
    if store is not None:
        keep_or_compare(store, recipe, dataset)
    return plan_of(recipe, dataset, build=build, store=store)


def plan_of(
    recipe: Recipe,
    dataset: Dataset | None,
    *,
    build: Build | None,
    store: StudyStore | None = None,
) -> Plan:
    """Plans a recipe's networks.

    Args:
        recipe: what is searched.
        dataset: its images; None: an evaluator reads them.
        build: makes the backbone, if a function does.
        store: keeps the sites that its study began with; None: there is no study yet.

    Raises:
        UserError: the recipe cannot be carried out.
    """
    kept = None
    if store is not None:
        kept = kept_sites(store)
    check_trainings(recipe, dataset)
    return plan_for(recipe, dataset, build=build, kept=kept)


def begin(
    recipe: Recipe,
    url: str,
    *,
    tried: Iterable[str] = (),
    artifacts: Path | str | None = None,
    build: Build | None = None,
    trials: int | None = None,
) -> OpenStudy:
    """Begins a study, or takes up the one with its name, and makes it ready for workers.

    Args:
        recipe: what is searched.
        url: of the database.
        tried: placements that the user names.
        artifacts: the folder or bucket of checkpoints and weights; None: beside the database.
        build: makes the backbone, if a function does.
        trials: of a new study: fewer than its recipe's if its time is short.

    Raises:
        UserError: a recipe or placement is wrong; nothing is written then.
    """
    tried = list(tried)
    dataset = data_of(tasks.of(recipe)).load(recipe, device="cpu")
    if dataset is not None and dataset.contradiction and not is_study(recipe.name, url):
        raise DataError(dataset.contradiction)
    plan = plan_of(recipe, dataset, build=build)
    if not is_study(recipe.name, url):
        # a study that began before this was checked goes on
        check_limits(plan)
    user_trials(plan, tried)
    check_weights(plan)
    resplit = dataset is not None and dataset.divide is not None
    opened = create_study(recipe, url, artifacts=artifacts, resplit=resplit)
    keep_or_compare(opened.store, opened.recipe, dataset)
    keep_inventory(opened.store, opened.recipe, dataset)
    study_plan(opened.store, plan)
    begun = bool(opened.store.candidates())
    return take_up(opened, trials=None if begun else trials, tried=tried)


def move_here(opened: OpenStudy, machine: Fingerprint) -> None:
    """Makes this machine the one that measures a study's latencies; its workers measure the
    candidates on the front anew.
    """
    now = snapshot(opened.store)
    # without any latency there is no front
    again = now.front if now.latency else now.candidates
    keys = [view.key for view in again if not view.is_bare]
    opened.store.move_to(to_text(machine), again=keys)


def check_tried(recipe: Recipe, tried: Sequence[str]) -> None:
    """Raises UserError: one of the user's own placements does not fit into the network."""
    if tried:
        dataset = data_of(tasks.of(recipe)).load(recipe, device="cpu")
        user_trials(plan_of(recipe, dataset, build=None), tried)


def take_up(
    opened: OpenStudy, *, trials: int | None = None, tried: Iterable[str] = ()
) -> OpenStudy:
    """Prepares an existing study for workers: a new total of `trials`, the user's placements.
    Raises PlacementError.
    """
    own = user_trials(study_plan(opened.store), tried)
    if (
        opened.store.settings.prior is None
        and (prior := known_before(opened.recipe, opened.database)) is not None
    ):
        opened.store.set(prior=prior)
    if trials is not None:
        opened.store.set(trials=trials)
    enqueue_first(opened, own)
    return opened
