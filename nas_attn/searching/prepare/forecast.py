"""What a search would cost and show, before it begins."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from nas_attn.answer.validation import validation_epochs
from nas_attn.errors import several
from nas_attn.recipe import tasks
from nas_attn.recipe.recipe import Recipe
from nas_attn.recipe.units import duration
from nas_attn.searching.prepare.baselines import UserTrial, expected_queue, user_trials
from nas_attn.searching.prepare.checks import check_weights
from nas_attn.searching.prepare.planning import (
    epoch_seconds,
    planned_epochs,
    shares_lines,
    smallest_gain,
    usual_epochs,
)
from nas_attn.searching.worker.devices import default_workers
from nas_attn.system.wrapping import Line
from nas_attn.training.evaluators import EvaluatorRun, evaluator_of
from nas_attn.training.numerics import new_arithmetic, threads_for
from nas_attn.training.plan import Plan, check_limits, plan_for, session_s
from nas_attn.training.starts import pick_device
from nas_attn.training.tasks.data import data_of
from nas_attn.training.trainer import Trainer, check_trainings


@dataclass(frozen=True, slots=True)
class Forecast:
    """Size, cost and resolving power of a search; times are those of one worker."""

    study: str
    placements: int
    """That the search space holds."""
    pruned: bool
    """Whether candidates may be stopped early."""
    trials: int
    """Candidates to evaluate in all."""
    outside: int
    """Of these, outside the search space: uniform baselines that it does not hold, placements of
    one's own.
    """
    baselines: int
    """Of these, baselines."""
    tried: int
    """Of these, placements of one's own that are no baseline."""
    queued: int
    """Baselines and placements of one's own: with no more trials than that, nothing is searched."""
    epoch_s: float | None
    """Of the bare backbone; None with an evaluator of one's own."""
    total_s: float | None
    """Upper bound: nothing pruned."""
    target_s: float | None
    """Training one network as the recipe's target says."""
    validation_s: float | None
    """`nas-attn test` with as many blocks as the target has seeds, and three networks."""
    smallest_difference: float | None
    """Of accuracy, between two candidates, that their scores could show at 95 %."""
    guess: int | None = None
    """Epochs of a usual target, where the study must find its own."""
    others_share: float = 0.0
    """Of the epochs, for networks other than placements."""
    longer_share: float = 0.0
    """Of the epochs, for a longer training of the bare backbone."""


DAY_S = 86_400.0


def forecast_lines(forecast: Forecast) -> list[Line]:
    """Size, cost and resolving power of a search, in a few sentences."""
    lines = [_size(forecast)]
    shares = shares_lines(forecast.others_share, forecast.longer_share)
    lines += [line.text for line in shares]
    if forecast.trials <= forecast.queued and forecast.trials < forecast.placements:
        lines.append(
            f"nothing is searched for: {forecast.queued} placements are tried first, and"
            f" there are {several(forecast.trials, 'candidate')}; give more"
            f" (--trials {2 * forecast.queued}) or fewer baselines (search.baselines)"
        )
    if forecast.guess is not None:
        lines.append(
            "target: as long as the bare backbone needs, which is found first: it is trained for"
            f" {forecast.guess} epochs, {2 * forecast.guess} … until twice as long is not clearly"
            f" better; what follows holds if {forecast.guess} will do"
        )
    if forecast.epoch_s is not None and forecast.total_s is not None:
        lines.append(_times(forecast, forecast.epoch_s, forecast.total_s))
    if forecast.target_s is not None and forecast.validation_s is not None:
        lines.append(
            "training the winner as the target says takes about"
            f" {duration(forecast.target_s)}; nas-attn test, which tests the answer, about"
            f" {duration(forecast.validation_s)} with one worker"
        )
    if forecast.smallest_difference is not None:
        points = 100 * forecast.smallest_difference
        lines.append(
            f"differences in accuracy above about {points:.1f} points could be shown between two"
            " confirmed candidates; smaller ones are noise at this budget"
        )
    return [Line(line) for line in lines]


def _size(forecast: Forecast) -> str:
    inside = forecast.trials - forecast.outside
    outside = f" and {forecast.outside} outside the search space" if forecast.outside else ""
    own = f", {forecast.tried} your own" if forecast.tried else ""
    return (
        f"study {forecast.study}: {inside} of {forecast.placements:,} placements{outside},"
        f" {forecast.baselines} of them baselines{own}"
    )


def _times(forecast: Forecast, epoch_s: float, total_s: float) -> str:
    epoch = f"{epoch_s:.1f} s" if epoch_s < 10 else duration(epoch_s)
    pruning = "pruning and " if forecast.pruned else ""
    shorter = ""
    if total_s > DAY_S:
        shorter = "; a limit on its time ends it earlier, fewer candidates or epochs shorten it"
    return (
        f"one epoch takes about {epoch} here; the whole search about {duration(total_s)} with one"
        f" worker, less with {pruning}more workers{shorter}"
    )


def forecast(
    recipe: Recipe, *, device: str = "auto", threads: int | None = None, tried: Sequence[str] = ()
) -> Forecast:
    """Says what a search would cost and show: builds everything, times a few steps, trains no
    candidate, writes nothing.

    Args:
        recipe: what is searched.
        device: of the trainings.
        threads: intra-op threads of each; None: a worker's share of the cores.
        tried: the user's own placements.

    Raises:
        UserError: the recipe or one of these cannot be carried out.
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
    arithmetic = new_arithmetic(recipe.training, dataset.task, where, bare=bare)
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
    queue = expected_queue(recipe, plan, search.trials, own)
    for_own = max((count for count, one in enumerate(queue, 1) if one.typed), default=0)
    wished = max(search.trials, for_own)
    begun = queue[:wished]
    outside = sum(one.values is None or not plan.space.contains(one.values) for one in begun)
    trials = min(wished, placements + outside)
    epochs = planned_epochs(recipe, plan, trials, own=own)
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
        total_s=None if epoch_s is None else epoch_s * epochs.total + session_s(recipe) * trials,
        target_s=None if epoch_s is None else epoch_s * target_epochs,
        validation_s=None if epoch_s is None else epoch_s * validation_epochs(recipe),
        others_share=epochs.others_share,
        longer_share=epochs.longer_share,
        smallest_difference=None if not images else smallest_gain(images, pairs, images),
    )
