"""What a search would cost and show, what it does with its time, and what an extension changes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from nas_attn.recipe.recipe import Recipe

# candidates of a good search
ENOUGH_CANDIDATES = 16
# where there are few validation images, and each candidate needs many runs
ENOUGH_OF_FEW = 10
# spread of one placement's accuracy over seeds on a small task
TYPICAL_SEED_SD = 0.009
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


@dataclass(frozen=True, slots=True)
class Timetable:
    """What a recipe's search does with its time."""

    seconds: float
    workers: int
    epoch_s: float
    """Of the bare network with one worker, while the others work, too."""
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


class FolderLook(NamedTuple):
    """What a folder of images holds."""

    classes: int
    images: int
    unreadable: int


@dataclass(frozen=True, slots=True)
class LongerTarget:
    """A length that networks often need, where the usual one is a guess."""

    epochs: int
    seconds: float
    """The shortest time of a search that finds it and trains so long."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What the search of a folder of images does with its time."""

    recipe: Recipe
    seconds: float
    workers: int
    look: FolderLook
    epoch_s: float
    """Of the bare backbone with one worker, while the others work, too."""
    blocks: int
    """Of the test at the end; 0: there is no time for it."""
    images: int
    """For validation, about."""
    no_weights: str = ""
    """Why published weights are not used; empty: they are, or the user says how it starts."""
    known: int = 0
    """Candidates that the study has already."""
    usual: int = 0
    """Epochs of a usual target, where the study must find its own."""
    enough_s: float | None = None
    """The time in which runs as the target says would fit, where this one is too short for them."""
    longer: LongerTarget | None = None
    """What it takes if the study finds a longer target; None: that is not to be expected."""
    pairs: int = 1
    """Of the best placement and the bare network, about."""
    pool: int | None = None
    """Images that each seed divides anew, where there are few; else None."""

    @property
    def smallest_difference(self) -> float:
        """A gain in accuracy of about this size is shown."""
        return smallest_gain(self.images, self.pairs, self.pool or self.images)

    @property
    def merits(self) -> int:
        """How many of these it has: enough candidates, a test."""
        enough = ENOUGH_CANDIDATES if self.pool is None else ENOUGH_OF_FEW
        return (self.recipe.search.trials >= enough) + (self.blocks > 0)


@dataclass(frozen=True, slots=True)
class Extension:
    """What an extension of a study's search space changes."""

    study: str
    space: str
    """Name of the new search space."""
    placements: tuple[int, int]
    """That the search space holds, before and after."""
    added: Mapping[str, tuple[str, ...]]
    """Site -> values that are new there."""
    removed: Mapping[str, tuple[str, ...]]
    """Site -> values that are gone."""
    inside: int
    """Candidates that the new space holds."""
    outside: int
    """Candidates that it does not: kept, but samplers do not learn from them."""
    runs: int
    """Finished runs, all of which are kept."""
    baselines: tuple[str, ...]
    """New baselines, which come first."""
    trials: tuple[int, int]
    """Candidates in all, before and after."""
