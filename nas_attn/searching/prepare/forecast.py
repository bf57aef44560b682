"""What a search would cost and show, before it begins."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from nas_attn.answer.pace import further_runs
from nas_attn.answer.plans import Forecast, smallest_gain
from nas_attn.answer.rounds import ROUNDS_PER_SEED
from nas_attn.answer.validation import validation_epochs
from nas_attn.recipe import tasks
from nas_attn.recipe.recipe import Recipe
from nas_attn.searching.prepare.baselines import Queued, first_queue, larger_networks
from nas_attn.searching.prepare.checks import check_weights
from nas_attn.searching.prepare.lengths import SEEDS_PER_LENGTH, control_lengths, usual_epochs
from nas_attn.searching.prepare.own_placements import UserTrial, user_trials
from nas_attn.searching.prepare.timetable import epoch_seconds
from nas_attn.searching.worker.devices import default_workers
from nas_attn.training.arithmetic import new_arithmetic, threads_for
from nas_attn.training.evaluators import EvaluatorRun
from nas_attn.training.plan import Plan, bare_seeds, check_limits, plan_for, session_s
from nas_attn.training.programs import evaluator_of
from nas_attn.training.starts import pick_device
from nas_attn.training.tasks.data import data_of
from nas_attn.training.trainer import Trainer, check_trainings


def forecast(
    recipe: Recipe, *, device: str = "auto", threads: int | None = None, tried: Sequence[str] = ()
) -> Forecast:
    """Builds everything, times a few steps, trains no candidate, writes nothing. `tried`: the
    user's own placements.

    Raises UserError: the recipe or one of these cannot be carried out.
    """
    where = pick_device(device)
    dataset = data_of(tasks.of(recipe)).load(recipe, device=where)
    # the study will have decided this; it changes how many baselines there are
    recipe = recipe.with_resplit(dataset is not None and dataset.divide is not None)
    guess = None
    if recipe.target_is_open:
        guess = usual_epochs(recipe, 0 if dataset is None else len(dataset.train))
        recipe = recipe.with_length(guess)
    check_trainings(recipe, dataset)
    plan = plan_for(recipe, dataset)
    check_limits(plan)
    own = user_trials(plan, tried)
    check_weights(plan)
    if recipe.training.evaluator is not None or dataset is None:
        made = _made(recipe, plan, own, _epoch_of_task(recipe, plan, str(where)), None)
        return replace(made, guess=guess)
    taken = threads_for(recipe.training, threads, workers=default_workers(device))
    bare = plan.bare(0)
    arithmetic = new_arithmetic(recipe.training, dataset, where, bare=bare)
    trainer = Trainer(recipe.training, dataset, device=where, threads=taken, arithmetic=arithmetic)
    epoch_s = epoch_seconds(trainer, bare, recipe.training.rungs[-1])
    images = None
    if tasks.of(recipe).per_image:
        images = len(dataset.validation)
    return replace(_made(recipe, plan, own, epoch_s, images), guess=guess)


def _epoch_of_task(recipe: Recipe, plan: Plan, device: str) -> float | None:
    """Seconds of an epoch where the task has an evaluator of its own; None for a user's
    evaluator.
    """
    evaluate = None
    if recipe.training.evaluator is None:
        evaluate = evaluator_of(recipe)
    if evaluate is None:
        return None
    with TemporaryDirectory(prefix="nas_attn-") as folder:
        run = EvaluatorRun(
            "none", 0, epochs=1, new_epochs=1, seed=0, folder=Path(folder), device=device
        )
        began = time.perf_counter()
        evaluate(plan.bare(0), run)
        return time.perf_counter() - began


def _made(
    recipe: Recipe, plan: Plan, own: Sequence[UserTrial], epoch_s: float | None, images: int | None
) -> Forecast:
    training = recipe.training
    search = recipe.search
    placements = plan.space.count()
    queue = _queue(recipe, plan, own)
    for_own = max((count for count, one in enumerate(queue, 1) if one.typed), default=0)
    wished = max(search.trials, for_own)
    begun = queue[:wished]
    outside = sum(one.values is None or not plan.space.contains(one.values) for one in begun)
    trials = min(wished, placements + outside)
    from_backbone = training.start == "backbone"
    backbones = 0
    if from_backbone:
        backbones = training.backbones + ROUNDS_PER_SEED * search.confirm_seeds
    if from_backbone and larger_networks(recipe, plan, recipe.search.trials):
        # the larger network has backbones of its own
        backbones += min(training.backbones, 1 + search.confirm_seeds)
    # the bare network runs on each seed
    spread = len(bare_seeds(recipe)) - training.seeds
    epochs = backbones * training.backbone_epochs
    epochs += training.rungs[-1] * (trials * training.seeds + spread + further_runs(recipe, trials))
    epochs += SEEDS_PER_LENGTH * sum(control_lengths(recipe, trials))
    target_epochs = recipe.target_training.rungs[-1]
    pairs = training.seeds + search.confirm_seeds
    return Forecast(
        study=recipe.name,
        placements=placements,
        pruned=len(training.rungs) > 1 and search.pruner != "none",
        trials=trials,
        outside=outside,
        baselines=sum(one.baseline is not None for one in begun),
        tried=sum(one.baseline is None for one in begun),
        queued=len(queue),
        epoch_s=epoch_s,
        total_s=None if epoch_s is None else epoch_s * epochs + session_s(recipe) * trials,
        target_s=None if epoch_s is None else epoch_s * target_epochs,
        validation_s=None if epoch_s is None else epoch_s * validation_epochs(recipe),
        smallest_difference=None if not images else smallest_gain(images, pairs, images),
    )


def _queue(recipe: Recipe, plan: Plan, own: Sequence[UserTrial]) -> list[Queued]:
    """What a new study tries first, a larger network included."""
    queue = first_queue(recipe, plan, recipe.search.trials, own)
    for name, resolved in list(larger_networks(recipe, plan, recipe.search.trials).items())[:1]:
        if all(one.resolved.key != resolved.key for one in queue):
            queue.append(Queued(resolved, None, name))
    return queue
