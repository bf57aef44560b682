"""What a search takes and can show, said before it begins: the one estimate.

An epoch of the bare backbone is timed once, by a few of its steps. Whether a test ends the search
is not planned: it is run if what is left at the end is enough for it.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

from nas_attn.data.dataset import Dataset
from nas_attn.errors import several
from nas_attn.recipe import tasks
from nas_attn.recipe.recipe import Recipe, TrainingSection
from nas_attn.recipe.target import AUTO
from nas_attn.recipe.units import duration
from nas_attn.searching.prepare.baselines import (
    first_queue,
    likely_relatives,
    user_trials,
)
from nas_attn.searching.prepare.fitting import (
    LEAST_TRIALS,
    MOST_CANDIDATES,
    PRUNED_SHARE,
    RATE_SHARE,
    Fit,
    Speed,
    before_s,
    fitted,
    least_s,
    most_of_few,
    smallest_gain,
    usual_epochs,
    whole_s,
)
from nas_attn.searching.prepare.search_plan import SearchPlan
from nas_attn.system.wrapping import Line
from nas_attn.training.evaluators import EvaluatorRun, evaluator_of
from nas_attn.training.numerics import new_arithmetic, threads_for
from nas_attn.training.plan import session_s
from nas_attn.training.starts import pick_device
from nas_attn.training.tasks.data import reading_of
from nas_attn.training.trainer import Trainer


@dataclass(frozen=True, slots=True)
class ImageCounts:
    """About how many images a search has."""

    trained: float
    validated: float
    few: bool
    """Whether each seed divides few of them anew."""

    @property
    def pool(self) -> float:
        """Those that validate any of the runs."""
        return self.validated + self.trained * self.few


@dataclass(frozen=True)
class TimedSearch:
    """A search whose trainings were timed."""

    recipe: Recipe
    """With the usual length of the target, where the study must find it."""
    guess: int | None
    """Epochs of this usual length; None: the recipe says how long the target trains."""
    speed: Speed
    images: ImageCounts

    @cached_property
    def epochs(self) -> float:
        """Of a run, about."""
        rungs = self.recipe.training.rungs
        return rungs[-1] * (PRUNED_SHARE if len(rungs) > 1 else 1.0)

    @cached_property
    def before_s(self) -> float:
        """Seconds of trainings of the bare backbone before the first candidate."""
        return before_s(self.recipe, self.guess, self.speed)

    @cached_property
    def least_s(self) -> float:
        """The shortest time of this search."""
        return self.before_s + least_s(self.speed, self.epochs)

    def fit(
        self, seconds: float, *, most: int = MOST_CANDIDATES, stated: bool = False
    ) -> Fit | None:
        """Finds the richest search in a time.

        Args:
            seconds: for everything.
            most: candidates.
            stated: whether a person wants so many, however few the images.

        Returns:
            None if not even a few pairs fit.
        """
        left_s = seconds - self.before_s
        # a third and three times the usual rate, where that costs little enough
        rates_s = self.speed.lengths_s(2 * (self.guess or 0))
        if self.recipe.target.learning_rate == AUTO and rates_s <= RATE_SHARE * seconds:
            left_s -= rates_s
        if self.images.few and not stated:
            most = min(most, most_of_few(left_s, self.speed, self.epochs))
        return fitted(left_s, self.speed, self.epochs, most=most, longer=self.guess is None)


@dataclass(frozen=True, slots=True)
class TimeUse:
    """What a search does with its time."""

    seconds: float
    workers: int
    stated: int
    """Candidates that are asked for."""
    trials: int
    """Of these, those that fit."""
    enough_s: float | None
    """The shortest time in which networks can be compared that train as the target says, where this
    one is too short for it.
    """
    few: bool = False
    """Whether each seed divides few images anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchEstimate:
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
    """Of accuracy, that a search could show at 95 %, between the best candidate and the bare
    backbone.
    """
    guess: int | None
    """Epochs of a usual target, where the study must find its own."""
    time: TimeUse | None
    """None: it has no limit, or its pace is not known."""


def estimate(
    plan: SearchPlan,
    *,
    workers: int,
    threads: int | None = None,
    seconds: float | None = None,
    trials: int | None = None,
    timed: TimedSearch | None = None,
) -> SearchEstimate:
    """Says what a search would take and show. Times a few steps of the bare backbone, trains no
    candidate, writes nothing.

    Args:
        plan: the search, checked.
        workers: that share the time.
        threads: intra-op threads of each training; None: a worker's share of the cores.
        seconds: for everything; None: no limit.
        trials: candidates that a person wants in any case; None: those of the recipe that fit.
        timed: the same search, if its trainings were timed already.

    Raises:
        UserError: the recipe cannot be carried out.
    """
    if timed is None and has_pace(plan):
        timed = timed_search(plan, workers=workers, threads=threads)
    if timed is None:
        recipe, guess = with_usual_length(plan.recipe, 0)
        epoch_s = _epoch_of_task(recipe, plan)
    else:
        recipe = timed.recipe.with_resplit(timed.images.few)
        guess = timed.guess
        epoch_s = timed.speed.epoch_s
    stated = recipe.search.trials if trials is None else trials
    use = None
    rounds = None
    if timed is not None and seconds is not None:
        use, rounds = _use(timed, seconds, stated, wanted=trials is not None)
        stated = use.trials
    counts = _counts(plan, recipe, stated)
    total_s = None
    if epoch_s is not None:
        alone = Speed(epoch_s, 1, session_s(recipe))
        total_s = whole_s(recipe, guess, alone, counts["trials"], rounds)
    return SearchEstimate(
        study=recipe.name,
        pruned=len(recipe.training.rungs) > 1 and recipe.search.pruner != "none",
        **counts,
        epoch_s=epoch_s,
        total_s=total_s,
        target_s=_times(epoch_s, recipe.target_training.rungs[-1]),
        # of the recommended network (or the best bet), the best uniform one and the bare backbone
        validation_s=_times(epoch_s, recipe.target.seeds * 3 * recipe.target_training.rungs[-1]),
        smallest_difference=_smallest_difference(recipe, timed, rounds),
        guess=guess,
        time=use,
    )


def _counts(plan: SearchPlan, recipe: Recipe, stated: int) -> dict[str, int]:
    """The numbers of `SearchEstimate`, of a search for so many candidates."""
    networks = plan.networks
    own = user_trials(networks, plan.tried)
    queue = first_queue(recipe, networks, stated, own)
    wished = max(stated, max((count for count, one in enumerate(queue, 1) if one.typed), default=0))
    begun = queue[:wished]
    # they come last
    family = likely_relatives(recipe, networks, stated)
    late = min(len(family), wished - len(begun))
    inside = sum(one.values is not None and networks.space.contains(one.values) for one in begun)
    outside = len(begun) - inside + late
    placements = networks.space.count()
    return {
        "placements": placements,
        "trials": min(wished, placements + outside),
        "outside": outside,
        "baselines": sum(one.baseline is not None for one in begun) + late,
        "tried": sum(one.baseline is None for one in begun),
        "queued": len(queue) + len(family),
    }


def has_pace(plan: SearchPlan) -> bool:
    """Whether our own trainer trains, so that some of its steps say how long a search takes."""
    return plan.recipe.training.evaluator is None and plan.dataset is not None


def with_usual_length(recipe: Recipe, images: float) -> tuple[Recipe, int | None]:
    """Gives the recipe the usual length of its target, and tells its epochs, where a study must
    find it; else the recipe as it is, and None.

    Args:
        recipe: what is searched.
        images: to train on; 0: not known.
    """
    if not recipe.target_is_open:
        return recipe, None
    guess = usual_epochs(recipe, images)
    return recipe.with_length(guess), guess


def timed_search(plan: SearchPlan, *, workers: int, threads: int | None = None) -> TimedSearch:
    """Times a few steps of a search's trainings.

    Args:
        plan: the search, which our own trainer trains.
        workers: that share the time.
        threads: intra-op threads of each training; None: a worker's share of the cores.
    """
    device = pick_device(plan.device)
    dataset = plan.dataset
    if device.type != "cpu":
        dataset = reading_of(plan.recipe).load(plan.recipe, device=device)
    assert dataset is not None
    images = ImageCounts(len(dataset.train), len(dataset.validation), dataset.divide is not None)
    recipe, guess = with_usual_length(plan.recipe, images.trained)
    epoch_s = epoch_seconds(
        recipe.training,
        dataset,
        plan.networks.bare(0),
        images,
        workers=workers,
        threads=threads,
    )
    return TimedSearch(recipe, guess, Speed(epoch_s, workers, session_s(recipe)), images)


def epoch_seconds(
    section: TrainingSection,
    dataset: Dataset,
    bare: nn.Module,
    images: ImageCounts,
    *,
    workers: int,
    threads: int | None = None,
) -> float:
    """Seconds of an epoch and its score, by a few steps of a whole training: short trainings and
    long ones run their steps differently on a GPU.

    Args:
        section: the training.
        dataset: of which a batch is used, on the device of the training.
        bare: the network, which is trained.
        images: to train on, and to score on.
        workers: that share the cores.
        threads: intra-op threads of the training; None: a worker's share of the cores.
    """
    device = dataset.train.device
    trainer = Trainer(
        section,
        dataset,
        device=device,
        threads=threads_for(section, threads, workers=workers),
        arithmetic=new_arithmetic(section, dataset.task, device, bare=bare),
    )
    steps = math.ceil(images.trained / section.step_size)
    # scoring takes a third of a training step
    scored = images.validated / section.step_size / 3
    return trainer.step_s(bare, steps * section.rungs[-1]) * (steps + scored)


def _epoch_of_task(recipe: Recipe, plan: SearchPlan) -> float | None:
    """Seconds of an epoch where the task has an evaluator of its own; None for a user's
    evaluator.
    """
    evaluate = None
    if recipe.training.evaluator is None:
        evaluate = evaluator_of(recipe)
    if evaluate is None:
        return None
    with TemporaryDirectory(prefix="nas_attn-") as folder:
        device = str(pick_device(plan.device))
        run = EvaluatorRun(
            "none", 0, epochs=1, new_epochs=1, seed=0, folder=Path(folder), device=device
        )
        began = time.perf_counter()
        evaluate(plan.networks.bare(0), run)
        return time.perf_counter() - began


def _use(timed: TimedSearch, seconds: float, stated: int, *, wanted: bool) -> tuple[TimeUse, int]:
    """What a search does with its time, and for how many rounds; `wanted`: a person wants the
    stated candidates in any case.
    """
    found = timed.fit(seconds, most=stated, stated=wanted)
    fit = found or Fit(min(LEAST_TRIALS, stated))
    use = TimeUse(
        seconds=seconds,
        workers=timed.speed.workers,
        stated=stated,
        trials=stated if wanted else fit.trials,
        enough_s=timed.least_s if found is None else None,
        few=timed.images.few,
    )
    return use, fit.rounds


def _times(epoch_s: float | None, epochs: float) -> float | None:
    """Seconds of so many epochs; None where an epoch's are not known."""
    return None if epoch_s is None else epoch_s * epochs


def _smallest_difference(
    recipe: Recipe, timed: TimedSearch | None, rounds: int | None
) -> float | None:
    """The gain in accuracy that a search of so many rounds could show, of a search without a time
    by its seeds that confirm; None for other metrics.
    """
    if timed is None or not timed.images.validated or not tasks.of(recipe).per_image:
        return None
    further = recipe.search.confirm_seeds if rounds is None else rounds
    pairs = recipe.training.seeds + further
    return smallest_gain(timed.images.validated, pairs, timed.images.pool)


# ------------------------------------------------------------------------------ how it is said


def estimate_lines(estimate: SearchEstimate) -> list[Line]:
    """Size, cost and resolving power of a search, in a few sentences."""
    lines = [_size(estimate)]
    if estimate.trials <= estimate.queued and estimate.trials < estimate.placements:
        lines.append(
            f"nothing is searched for: {estimate.queued} placements are tried first, and"
            f" there are {several(estimate.trials, 'candidate')}; give more"
            f" (--trials {2 * estimate.queued}) or fewer baselines (search.baselines)"
        )
    if estimate.guess is not None:
        lines.append(
            "target: as long as the bare backbone needs, which is found first: it is trained for"
            f" {estimate.guess} epochs, {2 * estimate.guess} … until twice as long is not clearly"
            f" better; what follows holds if {estimate.guess} will do"
        )
    if estimate.epoch_s is not None and estimate.total_s is not None:
        lines.append(_whole(estimate, estimate.epoch_s, estimate.total_s))
    if estimate.target_s is not None and estimate.validation_s is not None:
        lines.append(
            "training the winner as the target says takes about"
            f" {duration(estimate.target_s)}; nas-attn test, which tests the answer, about"
            f" {duration(estimate.validation_s)} with one worker"
        )
    return [*map(Line, lines), *time_lines(estimate)]


def time_lines(estimate: SearchEstimate) -> list[Line]:
    """What a search does with its time, if that is limited, and what it can show."""
    use = estimate.time
    lines = []
    if use is not None:
        lines.append(Line(f"{duration(use.seconds)}: {_use_text(use, estimate.guess)}", "plan"))
    too_short = use is not None and use.enough_s is not None
    if estimate.smallest_difference is not None and not too_short:
        points = 100 * estimate.smallest_difference
        lines.append(Line(f"this search can show a gain of about {points:.1f} points", "shows"))
    return lines


def estimate_as_json(estimate: SearchEstimate) -> dict[str, Any]:
    """The same in JSON's types; `time` is left out where there is no limit."""
    fields = asdict(estimate)
    if estimate.time is None:
        del fields["time"]
        return fields
    of_time = ("epoch_s", "guess", "smallest_difference")
    fields["time"] |= {name: fields[name] for name in of_time}
    return fields


def epoch_text(seconds: float) -> str:
    """How long an epoch takes."""
    return f"{seconds:.2g} s" if seconds < 10 else duration(seconds)


def _size(estimate: SearchEstimate) -> str:
    inside = estimate.trials - estimate.outside
    outside = f" and {estimate.outside} outside the search space" if estimate.outside else ""
    own = f", {estimate.tried} your own" if estimate.tried else ""
    return (
        f"study {estimate.study}: {inside} of {estimate.placements:,} placements{outside},"
        f" {estimate.baselines} of them baselines{own}"
    )


def _whole(estimate: SearchEstimate, epoch_s: float, total_s: float) -> str:
    pruning = "pruning and " if estimate.pruned else ""
    return (
        f"one epoch takes about {epoch_text(epoch_s)} here; the whole search about"
        f" {duration(total_s)} with one worker, less with {pruning}more workers"
    )


def _use_text(use: TimeUse, guess: int | None) -> str:
    if use.enough_s is not None:
        would_do = f"--time {math.ceil(use.enough_s / 60)}m would do"
        return f"too short to compare anything, it holds little but baselines; {would_do}"
    many = several(use.trials, "candidate")
    if use.trials < use.stated:
        many = f"{use.trials} of the recipe's {several(use.stated, 'candidate')}"
    will_do = f" (if {guess} epochs will do)" if guess is not None else ""
    uniform = "up to two thirds" if use.few else "at most a third"
    return (
        f"{many}{will_do}, {uniform} of them uniform, trained as the recipe says; then more seeds"
        " for the best, and a test if the time that is left is enough for one"
    )
