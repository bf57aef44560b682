"""The time of a search: what fits into it, how long the target trains, and when each phase ends.

A short time makes fewer candidates. Only for a folder of images of which not even the fewest would
fit, its runs are shorter than the target, and nothing is recommended. Times are measured seconds of
an epoch times the epochs of the trainings; they hold to about a tenth.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from torch import nn

from nas_attn.answer.advice.facts import LongerTarget, SearchPower
from nas_attn.answer.length import BESIDE_S, FEWEST_RUNS, LAST_SHARE
from nas_attn.answer.modelling import searched_as_target
from nas_attn.answer.progress import further_runs, seconds_per_epoch
from nas_attn.answer.rounds import CONFIRMED, MOST_BESIDE
from nas_attn.errors import several
from nas_attn.model.features import is_control
from nas_attn.recipe import tables, tasks
from nas_attn.recipe.recipe import Recipe
from nas_attn.recipe.sections import FEW_VALIDATED
from nas_attn.recipe.task import Pace, Task
from nas_attn.recipe.units import duration
from nas_attn.searching.prepare.baselines import (
    FEWEST_TRIALS,
    UserTrial,
    expected_queue,
    trials_to_try_all,
)
from nas_attn.storage.leasing import release_dead
from nas_attn.storage.opening import OpenStudy
from nas_attn.system.wrapping import Line
from nas_attn.training.numerics import new_arithmetic, threads_for
from nas_attn.training.plan import Plan, bare_seeds, plan_for, session_s
from nas_attn.training.starts import pick_device
from nas_attn.training.tasks.data import data_of
from nas_attn.training.trainer import Trainer

# the fewest candidates that can be compared: the bare backbone, and one module at all sites three
# times; each of them on two seeds, since a single pair says next to nothing
FEWEST = FEWEST_RUNS // 2
# with fewer candidates, more seeds tell more than a test
FEWEST_TESTED = 9
MOST_CANDIDATES = 120
# the bare backbone and two others, where nothing else fits
LEAST_TRIALS = 3
# so many candidates have a longer training beside them, which more often helps than another one
WITH_LONGER = 6
# beside runs that are shorter than the target's, so many
WITH_BOTH_LENGTHS = 10
# candidates of a search with few validation images, at least, if so many are asked for
FEWEST_OF_FEW = 10
# times to train, about: with attention, relative to the bare backbone; a larger network, relative
# to one with attention; and the bare backbone on two seeds for twice as many epochs
ATTENTION = 1.4
OF_LARGER = 1.5
OF_LONGER = 3.0
# share of all epochs that a candidate takes if it may be pruned, about
PRUNED_SHARE = 0.7
# that the bare backbone runs on at most; each has six candidates or more
MOST_SEEDS = 3
OF_A_SEED = 6
# networks
OF_A_TEST = 3
OF_A_ROUND = 4
# blocks of the test at the end
FEWEST_BLOCKS = 2
MOST_BLOCKS = 16
# runs for each candidate, where there are few validation images: in simulated studies, this found
# no less than many candidates with a run each (research/notes/trust.md)
RUNS_OF_FEW = 6
# shares of the time: for new candidates, for the test (more seeds come between them), for the last
# runs where there is no test, and for finding the length, at most
SCREENING = 0.55
TESTING = 0.3
LAST_SEED_SHARE = LAST_SHARE
LENGTH_SHARE = 0.4
# seconds until the first training begins: imports, images, the plan
START_S = 12.0
# seconds for the answer and the report
END_S = BESIDE_S - START_S
# time for a folder, if none is given
HOUR_S = 3600.0
# of each length: with one, a lucky training decides
SEEDS_PER_LENGTH = 2
# of a longer training than the target at most, as long as it is open what it brings; and about how
# many that takes from scratch (research/notes/trust.md)
MOST_SEEDS_PER_LENGTH = 8
USUAL_SEEDS_PER_LENGTH = 4
# with fewer, an epoch has few steps
FEW_TRAINING_IMAGES = 2000
# times the usual length: on 3,200 photographs, from random weights, the three networks of libraries
# that were trained so long gained clearly up to it (research/notes/published.md)
OFTEN_NEEDED = 4


@dataclass(frozen=True, slots=True)
class Speed:
    """How long trainings take here."""

    # seconds of an epoch of the bare backbone with one worker, while the others work, too
    epoch_s: float
    workers: int
    # seconds that measuring a candidate's latency takes
    session_s: float

    def run_s(self, epochs: float) -> float:
        """Seconds of a run with attention, divided by the workers."""
        return self.epoch_s * epochs * ATTENTION / self.workers

    def lengths_s(self, *lengths: int) -> float:
        """Seconds that the bare backbone's trainings of these lengths take."""
        return SEEDS_PER_LENGTH * sum(lengths) * self.epoch_s / self.workers


@dataclass(frozen=True, slots=True)
class Fit:
    """What a search does with its time."""

    trials: int
    # of the test at the end; 0: there is no time for it
    blocks: int
    # in which the best candidate meets its rivals and the bare backbone, about
    rounds: int = 0

    @property
    def pairs(self) -> int:
        """Of the best candidate and the bare backbone, about."""
        return 1 + self.rounds + self.blocks


def fitted(  # noqa: PLR0913 - public; the last ones have a name
    seconds: float,
    speed: Speed,
    epochs: float,
    *,
    most: int = MOST_CANDIDATES,
    begun: bool = False,
    longer: bool = True,
    test_s: float | None = None,
) -> Fit | None:
    """Finds the richest search whose runs have so many epochs.

    Args:
        seconds: for everything.
        speed: of trainings here.
        epochs: of a run.
        most: candidates.
        begun: its workers are there already, and the seconds end with its last run.
        longer: a longer training comes beside its runs: none was tried to find the target's length.
        test_s: seconds of a block of the test; None: as long as that many runs.

    Returns:
        None if not even a few pairs fit.
    """
    run_s = speed.run_s(epochs)
    useful_s = seconds if begun else seconds - START_S - END_S
    block_s = OF_A_TEST * run_s if test_s is None else test_s
    blocks = min(MOST_BLOCKS, int(TESTING * useful_s / block_s))
    trials = 0
    in_time = SCREENING * useful_s
    while trials < most and _first_runs_s(trials + 1, speed, run_s, longer=longer) <= in_time:
        trials += 1
    until_test_s = (1 - TESTING) * useful_s
    if blocks < FEWEST_BLOCKS or trials < min(FEWEST_TESTED, most):
        if useful_s < least_s(speed, epochs) - START_S - END_S:
            return None
        blocks = 0
        trials = min(max(FEWEST, trials), most)
        until_test_s = (1 - LAST_SEED_SHARE) * useful_s
    left_s = until_test_s - _first_runs_s(trials, speed, run_s, longer=longer)
    return Fit(trials, blocks, max(0, int(left_s / (OF_A_ROUND * run_s))))


def _first_runs_s(trials: int, speed: Speed, run_s: float, *, longer: bool) -> float:
    """Seconds of the first runs of so many candidates, controls and latencies included."""
    more_bare = min(MOST_SEEDS, max(1, trials // OF_A_SEED)) - 1
    controls = OF_LARGER if trials >= FEWEST_TRIALS else 0.0
    if longer and trials >= WITH_LONGER:
        # on more seeds, it takes turns with the rounds
        controls += OF_LONGER
    return (trials + more_bare + controls) * run_s + trials * speed.session_s


def least_s(speed: Speed, epochs: float) -> float:
    """The shortest time in which a few pairs of runs of so many epochs fit."""
    runs_s = FEWEST_RUNS * speed.run_s(epochs) + FEWEST * speed.session_s
    return START_S + END_S + runs_s / (1 - LAST_SEED_SHARE)


def most_of_few(seconds: float, speed: Speed, epochs: float) -> int:
    """The most candidates of a search with few validation images: each of them needs many runs."""
    runs = seconds / speed.run_s(epochs)
    return min(MOST_CANDIDATES, max(FEWEST_OF_FEW, int(runs / RUNS_OF_FEW)))


# ------------------------------------------------------------------- how long the target trains


def usual_pace(task: Task, data: str, images: float) -> Pace:
    """Epochs and batch of a training on so many images of a data set."""
    if task.paced_by_images and 0 < images < FEW_TRAINING_IMAGES:
        return task.pace_of_few(images)
    row = tables.find_data_set(data)
    return task.pace(data, small=row is not None and row.small)


def usual_epochs(recipe: Recipe, images: float) -> int:
    """How long a network is usually trained on so many images, with which the trials begin."""
    pace = usual_pace(tasks.of(recipe), recipe.data.name, images)
    return pace.tuned() if recipe.target.start == "pretrained" else pace.epochs


def shorter_lengths(epochs: int, *, with_itself: bool) -> Iterator[int]:
    """The length itself, a half of it, a quarter …, 1."""
    length = epochs if with_itself else epochs // 2
    while length > 1:
        yield length
        length //= 2
    yield 1


def found_length_s(speed: Speed, usual: int, needed: int) -> float:
    """The shortest time of a search that begins with the usual length, finds how many epochs are
    needed, and trains for so many.
    """
    tried = [usual]
    while tried[-1] < 2 * needed:
        tried.append(2 * tried[-1])
    return least_s(speed, needed) + speed.lengths_s(*tried)


def longer_target(
    speed: Speed, usual: int, *, images: float, seconds: float, pretrained: bool
) -> LongerTarget | None:
    """What it takes if the usual length is too short, as it often is from random weights.

    Args:
        speed: of trainings here.
        usual: epochs.
        images: to train on.
        seconds: of the search.
        pretrained: whether the target starts from trained weights.

    Returns:
        None: not known of so few images, or it fits into these seconds, too.
    """
    if pretrained or images < FEW_TRAINING_IMAGES:
        return None
    epochs = OFTEN_NEEDED * usual
    needed_s = found_length_s(speed, usual, epochs)
    return LongerTarget(epochs, needed_s) if needed_s > seconds else None


def control_lengths(recipe: Recipe, trials: int) -> list[int]:
    """For how many epochs the bare backbone is trained beside the search's own runs."""
    searched = recipe.training.rungs[-1]
    target = recipe.target_training.rungs[-1]
    # a user's own, which may cost anything
    if recipe.training.evaluator is not None:
        return []
    if recipe.training.start == recipe.target.start and searched < target:
        if recipe.target.found:
            # it is tried already
            return []
        # in a first look, it would take most of the time
        return [target] if SEEDS_PER_LENGTH * target <= trials * searched else []
    asked = recipe.search.baselines == "all" and recipe.search.confirm_seeds > 0
    if not asked or trials < WITH_LONGER:
        return []
    if searched_as_target(recipe):
        return [2 * target]
    # beside fewer candidates, that would take most of the time
    fits = SEEDS_PER_LENGTH * 3 * target <= trials * searched
    return [target, 2 * target] if trials >= WITH_BOTH_LENGTHS and fits else []


def control_seeds(recipe: Recipe) -> int:
    """On about how many seeds each of these lengths is trained."""
    goes_on = recipe.target.start == "scratch" and searched_as_target(recipe)
    return USUAL_SEEDS_PER_LENGTH if goes_on else SEEDS_PER_LENGTH


# ----------------------------------------------------------------- what shares a search's training


@dataclass(frozen=True, slots=True)
class PlannedEpochs:
    """The epochs of a search, by the means that they may find."""

    attention: float
    """Of placements and the bare backbone, with which all are compared."""
    others: float
    """Of larger and smaller networks."""
    longer: float
    """Of the bare backbone's longer trainings."""

    @property
    def total(self) -> float:
        return self.attention + self.others + self.longer

    @property
    def others_share(self) -> float:
        return self.others / self.total

    @property
    def longer_share(self) -> float:
        return self.longer / self.total


def planned_epochs(
    recipe: Recipe,
    plan: Plan,
    trials: int,
    *,
    rounds: int | None = None,
    own: Sequence[UserTrial] = (),
) -> PlannedEpochs:
    """Says how a search shares its epochs between the means, if attention may have an effect. Of
    further seeds, larger and smaller networks get as many as they may have then.

    Args:
        recipe: what is searched; the target's length is known, or guessed.
        plan: of its networks.
        trials: candidates in all.
        rounds: for which there is time; None: as many as a search without a limit has.
        own: the user's placements.
    """
    training = recipe.training
    seeds = recipe.search.confirm_seeds
    queue = expected_queue(recipe, plan, trials, own)
    trials = min(trials, plan.space.count() + sum(one.values is None for one in queue))
    confirming = seeds * min(CONFIRMED, trials)
    further = further_runs(recipe, trials)
    if rounds is not None and seeds:
        further = OF_A_ROUND * rounds
        confirming = min(confirming, further)
    whole_rounds = (further - confirming) // OF_A_ROUND
    # the bare backbone runs on each seed of the candidates
    spread = len(bare_seeds(recipe))
    runs = trials * training.seeds + spread - training.seeds + further
    controls = [one for one in queue if is_control(one.resolved.placement) and one.typed is None]
    other_runs = 0.0
    if controls:
        other_runs = min(len(controls), trials) * training.seeds
        other_runs += confirming * MOST_BESIDE / CONFIRMED + (further - confirming) / OF_A_ROUND
    backbones = 0
    other_backbones = 0
    if training.start == "backbone":
        backbones = training.backbones + whole_rounds
        networks = {one.resolved.other for one in queue if one.resolved.other and one.baseline}
        if networks:
            # each has backbones of its own; one gets further seeds
            other_backbones = len(networks) - 1 + min(training.backbones, 1 + seeds)
    return PlannedEpochs(
        (runs - other_runs) * training.rungs[-1] + backbones * training.backbone_epochs,
        other_runs * training.rungs[-1] + other_backbones * training.backbone_epochs,
        _longer_epochs(recipe, trials, spread + confirming // CONFIRMED + whole_rounds),
    )


def _longer_epochs(recipe: Recipe, trials: int, bare_runs: int) -> int:
    """Epochs of the bare backbone's longer trainings, each on the seed of another of its runs."""
    seeds = min(control_seeds(recipe), max(SEEDS_PER_LENGTH, bare_runs))
    epochs = seeds * sum(control_lengths(recipe, trials))
    if recipe.target.found:
        # twice as long was tried to find it
        return max(epochs, SEEDS_PER_LENGTH * 2 * recipe.target_training.rungs[-1])
    return epochs


def shares_lines(others: float, longer: float) -> list[Line]:
    """How the training of a search is shared between the means; nothing if attention has all of it.

    Args:
        others: share of larger and smaller networks, from 0 to 1.
        longer: share of longer trainings.
    """
    percent = {
        "larger and smaller networks": round(100 * others),
        "a longer training": round(100 * longer),
    }
    attention = 100 - sum(percent.values())
    if attention == 100:
        return []
    parts = {"attention and the bare backbone": attention, **percent}
    said = ", ".join(f"{share} % for {means}" for means, share in parts.items() if share)
    further = "further seeds go to whichever of them may be the best"
    return [Line(f"of its training, about {said}; {further}", "shares")]


# ---------------------------------------------------------------------- before a search begins

# of a pair's difference in accuracy: the standard deviation by its trainings; the variance by
# chance for one image; and the variance that an image brings into every pair
TRAINING_SD = 0.01
BY_CHANCE = 0.113
OF_AN_IMAGE = 0.017


def smallest_gain(images: int, pairs: int, pool: int) -> float:
    """Gain in accuracy that so many pairs of runs show at 95 %.

    A pair's difference has three parts, measured in two folders of 900 photographs: its trainings
    (a standard deviation of a point), what a validation image does to a pair by chance, and what it
    does to every pair of these networks. More pairs help against the first two, other images
    against the third.

    Args:
        images: for validation, of one run.
        pool: images that validate any of the runs: more than `images`, where each seed divides them
            anew.
    """
    seen = min(pool, images * pairs)
    by_chance = (TRAINING_SD**2 + BY_CHANCE / images) / pairs
    return 1.96 * math.sqrt(by_chance + OF_AN_IMAGE / seen)


@dataclass(frozen=True, slots=True)
class Timetable:
    """What a recipe's search does with its time."""

    seconds: float
    workers: int
    epoch_s: float
    """Of the bare backbone with one worker, while the others work, too."""
    stated: int
    """Candidates that the recipe names."""
    trials: int
    """Of these, those that fit."""
    blocks: int
    """Of the test at the end; 0: there is no time for it."""
    enough_s: float | None
    """The shortest time in which candidates can be compared, where this one is too short for it."""
    guess: int | None
    """Epochs of a usual target, where the study must find its own."""
    few: bool = False
    """Whether each seed divides few images anew."""
    smallest_difference: float | None = None
    """A gain in accuracy of about this size is shown; None for other tasks."""
    others_share: float = 0.0
    """Of the epochs, for networks other than placements."""
    longer_share: float = 0.0
    """Of the epochs, for a longer training of the bare backbone."""


def timetable_lines(table: Timetable) -> list[Line]:
    """What a recipe's search does with its time, and what that can show."""
    lines = [Line(f"{duration(table.seconds)}: {_timetable(table)}", "plan")]
    lines += shares_lines(table.others_share, table.longer_share)
    if table.enough_s is None and table.smallest_difference is not None:
        lines.append(Line(shown_text(table.smallest_difference), "shows"))
    return lines


def _timetable(table: Timetable) -> str:
    if table.enough_s is not None:
        return (
            "too short to compare anything, it holds little but baselines;"
            f" --time {math.ceil(table.enough_s / 60)}m would do"
        )
    many = several(table.trials, "candidate")
    if table.trials < table.stated:
        many = f"{table.trials} of the recipe's {several(table.stated, 'candidate')}"
    guess = f" (if {table.guess} epochs will do)" if table.guess is not None else ""
    return (
        f"{many}{guess}, {uniform_text(few=table.few)} of them uniform; then more seeds for the"
        f" best; {test_text(table.blocks)}"
    )


def test_text(blocks: int) -> str:
    if blocks:
        return f"tested with {several(blocks, 'seed')}"
    return "no time for a test: nas-attn test does it later"


def shown_text(gain: float) -> str:
    return f"this search can show a gain of about {100 * gain:.1f} points"


def uniform_text(*, few: bool) -> str:
    """How many of the candidates are uniform."""
    return "up to two thirds" if few else "at most a third"


def timetable(
    recipe: Recipe, seconds: float, *, workers: int, device: str, trials: int | None = None
) -> Timetable | None:
    """Plans a recipe's search: how many of its candidates fit, and whether a test follows.

    Args:
        recipe: what it states stays, the number of candidates aside.
        seconds: for everything.
        workers: that share them.
        device: of the trainings.
        trials: that the user wants in any case.

    Returns:
        None where an evaluator trains, whose pace is not known.

    Raises:
        UserError: the recipe cannot be carried out.
    """
    where = pick_device(device)
    dataset = data_of(tasks.of(recipe)).load(recipe, device=where)
    if recipe.training.evaluator is not None or dataset is None:
        return None
    guess = usual_epochs(recipe, len(dataset.train)) if recipe.target_is_open else None
    whole = recipe if guess is None else recipe.with_length(guess)
    training = whole.training
    plan = plan_for(whole, dataset)
    bare = plan.bare(0)
    trainer = Trainer(
        training,
        dataset,
        device=where,
        threads=threads_for(training, workers=workers),
        arithmetic=new_arithmetic(training, dataset.task, where, bare=bare),
    )
    epoch_s = epoch_seconds(trainer, bare, training.rungs[-1])
    speed = Speed(epoch_s, workers, session_s(recipe))
    # the length of the target is found, and backbones are trained
    before_s = 0.0 if guess is None else speed.lengths_s(guess, 2 * guess)
    if training.start == "backbone":
        before_s += training.backbones * training.backbone_epochs * epoch_s / workers
    left_s = seconds - before_s
    epochs = training.rungs[-1] * (PRUNED_SHARE if len(training.rungs) > 1 else 1.0)
    few = dataset.divide is not None
    stated = recipe.search.trials if trials is None else trials
    most = stated
    if few and trials is None:
        most = min(stated, most_of_few(left_s, speed, epochs))
    test_s = OF_A_TEST * speed.run_s(whole.target_training.rungs[-1])
    fit = fitted(left_s, speed, epochs, most=most, longer=guess is None, test_s=test_s)
    enough_s = None
    if fit is None:
        fit = Fit(min(LEAST_TRIALS, most), 0)
        enough_s = before_s + least_s(speed, epochs)
    shown = None
    if tasks.of(recipe).per_image:
        images = len(dataset.validation)
        shown = smallest_gain(images, fit.pairs, images + len(dataset.train) * few)
    table = Timetable(
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
    if enough_s is not None:
        return table
    planned = planned_epochs(whole.with_resplit(few), plan, table.trials, rounds=fit.rounds)
    return replace(table, others_share=planned.others_share, longer_share=planned.longer_share)


def epoch_seconds(trainer: Trainer, model: nn.Module, epochs: int) -> float:
    """Seconds of an epoch and its score in a training of so many epochs, by a few of its steps:
    short trainings and long ones run their steps differently on a GPU. Trains the network.
    """
    steps = trainer.train.steps(trainer.section.step_size)
    scoring = len(trainer.dataset.validation) / trainer.section.step_size / 3
    return trainer.step_s(model, steps * epochs) * (steps + scoring)


HALF_HOUR_S = 1800.0
# for training and validation, where nobody says how many there are
ASSUMED_IMAGES = 2000
# shares of them
TRAINED_SHARE = 0.8
VALIDATED_SHARE = 0.2
# seconds that measuring a candidate's latency takes
OF_A_CANDIDATE_S = 1.0
# the task whose noise is known, and how long networks train for it
KNOWN_TASK = "classification"


def search_power(
    task: str, backbone: str, *, image_s: float, images: int | None, pretrained: bool
) -> SearchPower:
    """Says what a search of half an hour on this machine's processor could show.

    Args:
        task: its name.
        backbone: its name.
        image_s: seconds of a training step for each image.
        images: for training and validation; None: a usual number is assumed.
        pretrained: whether the target starts from trained weights.
    """
    count = images or ASSUMED_IMAGES
    trained = TRAINED_SHARE * count
    variant = tasks.find(task, backbone)
    pace = usual_pace(variant, "folder:", trained)
    epochs = pace.tuned() if pretrained else pace.epochs
    # scoring takes a third of a training step
    epoch_s = image_s * (trained + VALIDATED_SHARE * count / 3)
    speed = Speed(epoch_s, workers=1, session_s=OF_A_CANDIDATE_S)
    validated = max(1, round(VALIDATED_SHARE * count))
    few = validated < FEW_VALIDATED
    # other trainers are told how long they train
    length_s = speed.lengths_s(epochs, 2 * epochs) if variant.own_trainer else 0.0
    left_s = HALF_HOUR_S - length_s
    most = most_of_few(left_s, speed, epochs) if few else MOST_CANDIDATES
    fit = fitted(left_s, speed, epochs, most=most, longer=not variant.own_trainer)
    gain = None
    longer = None
    if fit is not None and task == KNOWN_TASK:
        gain = 100 * smallest_gain(validated, fit.pairs, count if few else validated)
        longer = longer_target(
            speed, epochs, images=trained, seconds=HALF_HOUR_S, pretrained=pretrained
        )
    return SearchPower(
        seconds=HALF_HOUR_S,
        images=count,
        images_assumed=images is None,
        epochs=epochs,
        epoch_s=epoch_s,
        candidates=fit.trials if fit is not None else 0,
        smallest_gain=gain,
        enough_s=None if fit is not None else least_s(speed, epochs) + length_s,
        longer=longer,
    )


# ------------------------------------------------------------------------- while a search works


@dataclass(frozen=True, slots=True)
class SearchTime:
    """What a command says of the time of a search."""

    seconds: float | None
    """For everything; None: as the study says, if it has a limit."""
    began: float
    """When the command began, by `time.monotonic`."""
    trials: int | None = None
    """Candidates that are wanted in any case."""
    tested: bool = True
    """Whether a test ends it."""
    unlimited: int = 0
    """Candidates at least, once no time limits them any more."""


def time_left(opened: OpenStudy, clock: SearchTime, *, workers: int) -> float | None:
    """Seconds until the whole search ends: as asked, else what is left of the study's time; None:
    no limit. `workers` share the time.
    """
    if clock.seconds is not None:
        left_s = max(1.0, clock.seconds - (time.monotonic() - clock.began) - END_S)
        start_clock(opened, left_s, tested=clock.tested, trials=clock.trials, workers=workers)
        return left_s
    remaining_s = go_on(opened)
    if remaining_s is None and clock.trials is None and opened.trials < clock.unlimited:
        # a short time had made them fewer
        opened.store.set(trials=clock.unlimited)
    return remaining_s


def start_clock(
    opened: OpenStudy, seconds: float, *, tested: bool, trials: int | None = None, workers: int = 1
) -> None:
    """Lets the study's workers end new candidates, and everything, at set times from now on.

    Args:
        opened: the study.
        seconds: until its end.
        tested: whether a test ends it.
        trials: a person's total; None: as many as the time allows, once a run has shown the pace.
        workers: that share the time.
    """
    store = opened.store
    epoch_s = seconds_per_epoch(store)
    if trials is None and epoch_s is not None:
        rungs = opened.recipe.training.rungs
        share = PRUNED_SHARE if len(rungs) > 1 else 1.0
        # one network is measured at a time
        each_s = epoch_s * rungs[-1] * share / workers + session_s(opened.recipe)
        trials = len(store.candidates()) + max(1, int(SCREENING * seconds / each_s))
    if trials is not None:
        store.set(trials=max(trials, trials_to_try_all(opened)))
    screening = LENGTH_SHARE if opened.recipe.target_is_open else SCREENING
    divide_time(opened, seconds, tested=tested, screening=screening)


def divide_time(
    opened: OpenStudy, seconds: float, *, tested: bool, screening: float = SCREENING
) -> None:
    """Sets when new candidates, further runs and everything end.

    Args:
        opened: the study.
        seconds: from now until its end.
        tested: whether a test ends it.
        screening: share of the time for new candidates.
    """
    now = opened.database.now()
    rest = TESTING if tested else LAST_SEED_SHARE
    opened.store.set(
        screen_until=now + screening * seconds,
        test_from=now + (1 - rest) * seconds,
        ends_at=now + seconds,
    )


def go_on(opened: OpenStudy) -> float | None:
    """Seconds that a search with a time still has, pauses in which nobody worked left out; None if
    it has no time (any more). After a clock was set back, the pause is negative, and the search has
    no more time than before.
    """
    store = opened.store
    now = opened.database.now()
    ends = store.settings
    if ends.ends_at is None or ends.screen_until is None or ends.test_from is None:
        return None
    pause = 0.0
    release_dead(store, "")
    # SQLite calls a lease of another container held until it has been watched for a while
    leases = [lease for lease in store.leases(released=False) if lease.state == "held"]
    if not any(lease.expires_at > now for lease in leases):
        times = [row.created_at for rows in store.all_checkpoints().values() for row in rows]
        times += [row.finished_at or row.created_at for row in store.candidates()]
        times += [row.finished_at for row in store.queue.rows() if row.finished_at]
        pause = now - max([store.created_at, *times])
    if ends.ends_at + pause <= now:
        store.set(screen_until=None, test_from=None, ends_at=None)
        return None
    store.set(
        screen_until=ends.screen_until + pause,
        test_from=ends.test_from + pause,
        ends_at=ends.ends_at + pause,
    )
    return ends.ends_at + pause - now
