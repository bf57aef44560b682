"""Which further runs a search has had after its last candidate, and whether it needs more."""

from __future__ import annotations

import numpy as np

from nas_attn.answer.progress import Progress
from nas_attn.answer.reading import searched_snapshot
from nas_attn.answer.rounds import ROUNDS_PER_SEED, next_round
from nas_attn.recipe.purposes import ROUND
from nas_attn.recipe.recipe import Recipe
from nas_attn.storage.opening import OpenStudy
from nas_attn.storage.store import StudyStore


def is_unfinished(opened: OpenStudy, reached: Progress) -> bool:
    """Whether a worker that comes now would find work, though nobody asked for more."""
    exhausted = opened.store.settings.exhausted_at is not None and not reached.running
    if reached.finished < reached.trials and not exhausted:
        return True
    return reached.phase is not None or _needs_more(opened)


def _needs_more(opened: OpenStudy) -> bool:
    """Whether further seeds or a round are not chosen yet. In a search with a time, the clock
    decides how many there are: then it is not known.
    """
    settings = opened.store.settings
    if not opened.recipe.search.confirm_seeds or settings.test_from is not None:
        return False
    if settings.confirmed_trials != opened.trials:
        return True
    if all_rounds_ran(opened.store, opened.recipe):
        return False
    # whether there is one does not depend on the rivals that are drawn
    return bool(next_round(searched_snapshot(opened.store), np.random.default_rng(0)))


def rounds_begun(store: StudyStore) -> int:
    """Number of confirmation rounds. One in which only the bare network ran has not begun: an idle
    worker trained it ahead.
    """
    bare = {row.key for row in store.candidates() if row.is_bare}
    rows = store.queue.rows(purposes=[ROUND])
    return len({row.run.round for row in rows if row.run.key not in bare})


def all_rounds_ran(store: StudyStore, recipe: Recipe) -> bool:
    """Whether a search without a time has had all its rounds."""
    settings = store.settings
    had = rounds_begun(store) - settings.rounds_before
    return settings.test_from is None and had >= ROUNDS_PER_SEED * recipe.search.confirm_seeds
