"""What a recipe's search does with a given time: how many of its candidates fit, and whether a test
follows. A folder of images has a plan of the same kind (`planning.plan_folder`).

Settings that the recipe states stay: a short time makes fewer candidates, never shorter trainings.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from nas_attn.answer.plans import Timetable, smallest_gain
from nas_attn.recipe import tasks
from nas_attn.recipe.recipe import Recipe
from nas_attn.searching.prepare.lengths import SEEDS_PER_LENGTH, usual_epochs
from nas_attn.searching.prepare.timing import (
    OF_A_TEST,
    PRUNED_SHARE,
    Fit,
    Speed,
    fitted,
    least_s,
    most_of_few,
)
from nas_attn.training.arithmetic import new_arithmetic, threads_for
from nas_attn.training.plan import plan_for, session_s
from nas_attn.training.starts import pick_device
from nas_attn.training.tasks.data import data_of
from nas_attn.training.trainer import Trainer

# the bare network and two others, where nothing else fits
LEAST_TRIALS = 3


def timetable(
    recipe: Recipe, seconds: float, *, workers: int, device: str, trials: int | None = None
) -> Timetable | None:
    """The plan of a recipe's search; None where an evaluator trains, whose pace is not known.
    `trials`: that the user wants in any case. Raises UserError: the recipe cannot be carried out.
    """
    where = pick_device(device)
    dataset = data_of(tasks.of(recipe)).load(recipe, device=where)
    if recipe.training.evaluator is not None or dataset is None:
        return None
    guess = None
    if recipe.target_is_open:
        guess = usual_epochs(recipe, len(dataset.train))
    whole = recipe if guess is None else recipe.with_length(guess)
    section = whole.training
    model = plan_for(whole, dataset).bare(0)
    trainer = Trainer(
        section,
        dataset,
        device=where,
        threads=threads_for(section, workers=workers),
        arithmetic=new_arithmetic(section, dataset, where, bare=model),
    )
    epoch_s = epoch_seconds(trainer, model, section.rungs[-1])
    stated = recipe.search.trials if trials is None else trials
    few = dataset.divide is not None
    speed = Speed(epoch_s, workers, session_s(recipe))
    time = _Time(seconds, _seconds_before(whole, speed, guess), speed)
    fit, enough_s = _fit(whole, time, stated, few=few and trials is None)
    shown = None
    if tasks.of(recipe).per_image:
        images = len(dataset.validation)
        pool = images + len(dataset.train) if few else images
        shown = smallest_gain(images, fit.pairs, pool)
    return Timetable(
        seconds=seconds,
        workers=workers,
        epoch_s=epoch_s,
        stated=stated,
        trials=stated if trials is not None else fit.trials,
        blocks=fit.blocks,
        enough_s=enough_s,
        guess=guess,
        few=few,
        smallest_difference=shown,
    )


@dataclass(frozen=True)
class _Time:
    """The time of a search, and what trainings take of it."""

    seconds: float
    # of it, before the first candidate is trained
    before_s: float
    speed: Speed

    @property
    def left_s(self) -> float:
        return self.seconds - self.before_s


def _seconds_before(recipe: Recipe, speed: Speed, guess: int | None) -> float:
    """Seconds in which the length of the target is found, and backbones are trained."""
    training = recipe.training
    epochs = 0
    if guess is not None:
        epochs = SEEDS_PER_LENGTH * 3 * guess
    if training.start == "backbone":
        epochs += training.backbones * training.backbone_epochs
    return epochs * speed.epoch_s / speed.workers


def _fit(recipe: Recipe, time: _Time, most: int, *, few: bool) -> tuple[Fit, float | None]:
    """What fits; and, where not even a few pairs do, the time that they take. `few`: with few
    images, so that each candidate needs many runs.
    """
    training = recipe.training
    speed = time.speed
    epochs = training.rungs[-1] * (PRUNED_SHARE if len(training.rungs) > 1 else 1.0)
    test_s = OF_A_TEST * speed.run_s(recipe.target_training.rungs[-1])
    if few:
        most = min(most, most_of_few(time.left_s, speed, epochs))
    fit = fitted(time.left_s, speed, epochs, most=most, test_s=test_s)
    if fit is not None:
        return fit, None
    return Fit(min(LEAST_TRIALS, most), 0), time.before_s + least_s(speed, epochs)


def epoch_seconds(trainer: Trainer, model: nn.Module, epochs: int) -> float:
    """Seconds of an epoch and its score in a training of so many epochs, by a few of its steps:
    short trainings and long ones run their steps differently on a GPU. Trains the network.
    """
    images: float = trainer.section.step_size
    steps = trainer.train.steps(trainer.section.step_size)
    if trainer.train.own_batches:
        images = len(trainer.train) / steps
    scoring = len(trainer.dataset.validation) / images / 3
    return trainer.step_s(model, steps * epochs) * (steps + scoring)
