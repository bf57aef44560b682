"""When failures are no longer single candidates' own: then a study stops instead of recording one after the other."""

from __future__ import annotations

from nas_attn.errors import NasAttnError, OutOfMemory, RecipeError, TrainingError
from nas_attn.evaluation.measuring import BARE
from nas_attn.evaluation.names import BACKBONE
from nas_attn.recipe import Recipe
from nas_attn.storage import Run, StudyStore

MANY = 3
"""Failed networks, while none has been scored, that end a study."""


def stop_if_all_fail(store: StudyStore, recipe: Recipe, run: Run, error: TrainingError) -> None:
    """Stops where a fault hits every network: the bare backbone itself, or several while no run of this way has a score.

    Running out of memory does not count: that depends on the network, and on who else uses the machine.

    Raises:
        RecipeError: an evaluator has not scored one run yet.
        TrainingError: likewise without an evaluator.
    """
    if isinstance(error, OutOfMemory) or any(s.purpose != BACKBONE for s in store.scores(way=run.way)):
        return
    failed = {row.run.key for row in store.queue.rows(state="failed", way=run.way)} | {run.key}
    if run.placement != BARE and len(failed) < MANY:
        return
    kind: type[NasAttnError] = TrainingError if recipe.training.evaluator is None else RecipeError
    who = "" if recipe.training.evaluator is None else "training.evaluator has not scored one run yet: "
    if run.placement == BARE:
        what = "the bare backbone fails, so every network would; nothing was recorded"
    else:
        what = (
            f"{len(failed)} networks failed and none has been scored, so the search stops; the last, '{run.placement}'"
        )
    raise kind(f"{who}{what}: {error}; fix this, then run nas-attn resume {store.name}") from error
