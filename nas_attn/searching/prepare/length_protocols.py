"""How a study keeps the bare backbone's trainings for several lengths, and which of them the search
need not repeat.

Such a training begins and goes on as the target says, for so many epochs. Once the search trains so
long itself, since that length was found or `target.epochs` was set to it, its run of the bare
backbone with the same seed gives the same, digit by digit.
"""

from __future__ import annotations

from nas_attn.answer.arithmetic import pairing
from nas_attn.answer.modelling import searched_as_target
from nas_attn.recipe.purposes import SEARCH, length_protocol
from nas_attn.recipe.recipe import Recipe
from nas_attn.space.placement import BARE
from nas_attn.storage.records import Score
from nas_attn.storage.rows import Run
from nas_attn.storage.store import StudyStore
from nas_attn.training.plan import kept_text, protocol_text
from nas_attn.training.workbench import Workbench


def keep_length_protocol(store: StudyStore, recipe: Recipe, epochs: int, rate: float = 1.0) -> None:
    """Stores how a run of this length trains, for all workers: as the target, for so long.

    Args:
        store: of the study.
        recipe: of the study.
        epochs: the length.
        rate: times the usual learning rate.
    """
    name = length_protocol(epochs, rate)
    if store.protocols.get(name) is None:
        changed = {"rungs": [epochs], "rate_factor": rate}
        training = recipe.target_training.model_copy(update=changed)
        store.protocols.put(name, protocol_text(training, recipe.data))


def known_score(bench: Workbench, run: Run) -> Score | None:
    """Gives the result of a run of the search from an equal training for a length, in the same
    arithmetic; None without one, and where the search trains otherwise.
    """
    recipe = bench.recipe
    store = bench.store
    rungs = recipe.training.rungs
    name = length_protocol(rungs[-1], recipe.training.rate_factor)
    if run.placement != BARE or run.protocol != SEARCH or bench.arithmetic is None:
        return None
    if len(rungs) != 1 or not searched_as_target(recipe) or store.protocols.get(name) is None:
        return None
    if kept_text(store, name) != protocol_text(recipe.target_training, recipe.data):
        return None
    scores = store.scores(run.key, protocol=name, with_correct=True, with_answers=True)
    for stored in scores:
        text = stored.score.arithmetic
        same_run = (stored.score.seed, stored.backbone) == (run.seed, run.backbone)
        if same_run and text and pairing(text) == bench.arithmetic.comparable.text:
            return stored.score
    return None
