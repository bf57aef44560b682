"""Begins a study, or prepares a known one for workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from nas_attn.recipe.purposes import CONFIRM, ROUND
from nas_attn.recipe.recipe import Recipe
from nas_attn.searching.prepare.baselines import enqueue_first, user_trials
from nas_attn.searching.prepare.checks import check
from nas_attn.searching.prepare.search_plan import SearchPlan
from nas_attn.searching.prepare.taking_over import take_over
from nas_attn.storage.opening import OpenStudy, create_study, open_study
from nas_attn.storage.records import Fingerprint
from nas_attn.system.waiting import ignore
from nas_attn.training.images import keep_inventory, keep_or_compare
from nas_attn.training.measurer import to_text
from nas_attn.training.plan import study_plan


def begin(recipe: Recipe, url: str, **asked: Any) -> OpenStudy:
    """Begins a study, or takes up the one with its name, and makes it ready for workers.

    Args:
        recipe: what is searched.
        url: of the database.
        asked: other fields of a `SearchPlan`.

    Raises:
        UserError: a recipe or placement is wrong; nothing is written then.
    """
    plan = SearchPlan(recipe, url, **asked)
    check(plan)
    return create(plan)


def create(
    plan: SearchPlan, trials: int | None = None, *, say: Callable[[str], None] = ignore
) -> OpenStudy:
    """Creates the study of a checked plan, or opens the one of its name, and makes it ready for
    workers.

    Args:
        plan: what is searched.
        trials: of one that has begun nothing yet, fewer than its recipe's if its time is short.
        say: is told what it takes over from another study.
    """
    dataset = plan.dataset
    resplit = dataset is not None and dataset.divide is not None
    opened = create_study(
        plan.recipe,
        plan.url,
        artifacts=plan.artifacts,
        resplit=resplit,
        source=None if plan.source is None else plan.source.store.name,
    )
    keep_or_compare(opened.store, opened.recipe, dataset)
    keep_inventory(opened.store, opened.recipe, dataset)
    plan.free_images()
    study_plan(opened.store, plan.networks)
    if opened.store.candidates():
        trials = None
    return take_up(opened, trials=trials, tried=plan.tried, say=say)


def move_here(opened: OpenStudy, machine: Fingerprint) -> None:
    """Makes this machine the one that measures a study's latencies. Its workers measure anew the
    candidates on the front that Optuna was told, and those that got further runs.
    """
    best = {trial.number for trial in opened.book.study.best_trials}
    keys = {row.key for row in opened.store.candidates() if row.trial in best and not row.is_bare}
    keys |= {row.run.key for row in opened.store.queue.rows(purposes=[CONFIRM, ROUND])}
    opened.store.move_to(to_text(machine), again=keys)


def take_up(
    opened: OpenStudy,
    *,
    trials: int | None = None,
    tried: Iterable[str] = (),
    say: Callable[[str], None] = ignore,
) -> OpenStudy:
    """Prepares an existing study for workers. One that is new, or whose first command was killed,
    takes over what it shall have from another study.

    Args:
        opened: the study.
        trials: its new total, besides what it takes over; None: as it is.
        tried: placements that the user names.
        say: is told what it takes over.

    Raises:
        PlacementError: one of these placements does not fit into the network.
        StudyError: the other study is not there any more.
    """
    own = user_trials(study_plan(opened.store), tried)
    known = 0
    source = opened.store.settings.taking_over
    if source is not None:
        taken = take_over(opened, open_study(source, opened.url))
        say(str(taken))
        known = taken.candidates
    if trials is not None:
        opened.store.set(trials=trials + known)
    enqueue_first(opened, own)
    return opened
