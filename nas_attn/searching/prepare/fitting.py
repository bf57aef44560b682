"""What fits into a time: candidates, rounds, lengths of the target.

A short time makes fewer candidates, never shorter runs. Times are measured seconds of an epoch
times the epochs of the trainings; they hold to about a tenth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from nas_attn.answer.modelling import searched_as_target
from nas_attn.answer.progress import further_runs
from nas_attn.recipe import tasks
from nas_attn.recipe.recipe import Recipe
from nas_attn.searching.prepare.baselines import FEWEST_TRIALS

# the fewest runs that compare something: four networks on two seeds
FEWEST_RUNS = 8
# of a search's time, for what comes after its runs
LAST_SHARE = 0.08
# the fewest candidates that can be compared: the bare backbone, and one module at all sites three
# times; each of them on two seeds, since a single pair says next to nothing
FEWEST = FEWEST_RUNS // 2
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
OF_A_ROUND = 4
# runs for each candidate, where there are few validation images: in simulated studies, this found
# no less than many candidates with a run each (research/notes/trust.md)
RUNS_OF_FEW = 6
# of the time, for new candidates; more seeds come after them
SCREENING = 0.55
# seconds until the first training begins: imports, images, the plan
START_S = 12.0
# seconds for the answer and the report
END_S = 10.0
# of each length: with one, a lucky training decides
SEEDS_PER_LENGTH = 2
# of a search's training, for other rates than the usual one at most
RATE_SHARE = 0.1
# of a longer training than the target at most, as long as it is open what it brings
# (research/notes/trust.md)
MOST_SEEDS_PER_LENGTH = 8


# ------------------------------------------------------------------------ what fits into a time


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
    # in which the best candidate meets its rivals and the bare backbone, about, if no test is run
    rounds: int = 0


def fitted(
    seconds: float,
    speed: Speed,
    epochs: float,
    *,
    most: int = MOST_CANDIDATES,
    begun: bool = False,
    longer: bool = True,
) -> Fit | None:
    """Finds the richest search whose runs have so many epochs.

    Args:
        seconds: for everything.
        speed: of trainings here.
        epochs: of a run.
        most: candidates.
        begun: its workers are there already, and the seconds end with its last run.
        longer: a longer training comes beside its runs: none was tried to find the target's length.

    Returns:
        None if not even a few pairs fit.
    """
    run_s = speed.run_s(epochs)
    useful_s = seconds if begun else seconds - START_S - END_S
    if useful_s < least_s(speed, epochs) - START_S - END_S:
        return None
    trials = min(FEWEST, most)
    in_time = SCREENING * useful_s
    while trials < most and _first_runs_s(trials + 1, speed, run_s, longer=longer) <= in_time:
        trials += 1
    left_s = (1 - LAST_SHARE) * useful_s - _first_runs_s(trials, speed, run_s, longer=longer)
    return Fit(trials, max(0, int(left_s / (OF_A_ROUND * run_s))))


def _first_runs_s(trials: int, speed: Speed, run_s: float, *, longer: bool) -> float:
    """Seconds of the first runs of so many candidates, controls and latencies included."""
    more_bare = min(MOST_SEEDS, max(1, trials // OF_A_SEED)) - 1
    controls = OF_LARGER if trials >= FEWEST_TRIALS else 0.0
    if longer and trials >= WITH_LONGER:
        # on more seeds, it takes turns with the rounds
        controls += OF_LONGER
    return (trials + more_bare + controls) * run_s + trials * speed.session_s


def before_s(recipe: Recipe, guess: int | None, speed: Speed) -> float:
    """Seconds of trainings of the bare backbone before the first candidate.

    Args:
        recipe: what is searched.
        guess: usual epochs of a target whose length is to be found; None: it is known.
        speed: of trainings here.
    """
    # the usual length is compared with twice as long
    lengths_s = speed.lengths_s(3 * (guess or 0))
    training = recipe.training
    if training.start != "backbone":
        return lengths_s
    return lengths_s + training.backbones * training.backbone_epochs * speed.epoch_s / speed.workers


def whole_s(
    recipe: Recipe, guess: int | None, speed: Speed, trials: int, rounds: int | None
) -> float:
    """Seconds of all runs and latencies of a search, if nothing is pruned.

    Args:
        recipe: what is searched; the target's length is known, or guessed.
        guess: this length, if so.
        speed: of trainings here.
        trials: candidates in all.
        rounds: of further seeds, for which there is time; None: as many as a search without a limit
            has.
    """
    further = further_runs(recipe, trials)
    if rounds is not None and recipe.search.confirm_seeds:
        further = OF_A_ROUND * rounds
    run_s = speed.run_s(recipe.training.rungs[-1])
    more_runs = (recipe.training.seeds - 1) * trials + further
    first_s = before_s(recipe, guess, speed) + _first_runs_s(trials, speed, run_s, longer=True)
    return first_s + more_runs * run_s


def least_s(speed: Speed, epochs: float) -> float:
    """The shortest time in which a few pairs of runs of so many epochs fit."""
    runs_s = FEWEST_RUNS * speed.run_s(epochs) + FEWEST * speed.session_s
    return START_S + END_S + runs_s / (1 - LAST_SHARE)


def most_of_few(seconds: float, speed: Speed, epochs: float) -> int:
    """The most candidates of a search with few validation images: each of them needs many runs."""
    runs = seconds / speed.run_s(epochs)
    return min(MOST_CANDIDATES, max(FEWEST_OF_FEW, int(runs / RUNS_OF_FEW)))


# ------------------------------------------------------------------- how long the target trains


def usual_epochs(recipe: Recipe, images: float) -> int:
    """How long a network is usually trained on so many images, with which the trials begin."""
    pace = tasks.usual_pace(tasks.of(recipe), recipe.data.name, images)
    return pace.tuned if recipe.target.start == "pretrained" else pace.epochs


def control_lengths(recipe: Recipe, trials: int) -> list[int]:
    """For how many epochs the bare backbone is trained beside the search's own runs."""
    searched = recipe.training.rungs[-1]
    target = recipe.target_training.rungs[-1]
    # a user's own, which may cost anything
    if recipe.training.evaluator is not None:
        return []
    asked = recipe.search.baselines == "all" and recipe.search.confirm_seeds > 0
    if not asked or trials < WITH_LONGER:
        return []
    if searched_as_target(recipe):
        return [2 * target]
    # beside fewer candidates, that would take most of the time
    fits = SEEDS_PER_LENGTH * 3 * target <= trials * searched
    return [target, 2 * target] if trials >= WITH_BOTH_LENGTHS and fits else []


# ------------------------------------------------------------------------- what it can show

# of a pair's difference in accuracy: the standard deviation by its trainings; the variance by
# chance for one image; and the variance that an image brings into every pair
TRAINING_SD = 0.01
BY_CHANCE = 0.113
OF_AN_IMAGE = 0.017


def smallest_gain(images: float, pairs: int, pool: float) -> float:
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
