"""What a search would cost and show, what it does with its time, and what an extension changes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from nas_attn.analysis.rounds import ROUNDS_PER_SEED
from nas_attn.recipe import Recipe

# candidates of a good search
ENOUGH_CANDIDATES = 16
# where there are few validation images, and each candidate needs many runs
ENOUGH_OF_FEW = 10
# spread of one placement's accuracy over seeds on a small task
TYPICAL_SEED_SD = 0.009


def smallest_difference(images: int, runs: int) -> float:
    """Accuracy difference between two candidates that so many runs of each, on these validation
    images, show at 95 %.
    """
    return 1.96 * math.hypot(TYPICAL_SEED_SD, 0.4 / math.sqrt(images)) * math.sqrt(2 / runs)


def smallest_gain(images: int, pairs: int) -> float:
    """Gain in accuracy that so many pairs of runs, each on so many validation images of its own,
    show at 95 %. Of a pair, training gives a standard deviation of a point; and its networks
    differ on 13 % of the images (two folders of 900 photographs).
    """
    return 1.96 * math.hypot(0.01, math.sqrt(0.13 / images)) / math.sqrt(pairs)


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


class FolderLook(NamedTuple):
    """What a folder of images holds."""

    classes: int
    images: int
    unreadable: int


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
    note: str = ""
    """Why published weights are not used."""
    known: int = 0
    """Candidates that the study has already."""
    usual: int = 0
    """Epochs of a usual target, where the study must find its own."""
    enough_s: float | None = None
    """The time in which runs as the target says would fit, where this one is too short for them."""
    pairs: int | None = None
    """Of the best placement and the bare network, about, where there are few validation images."""

    @property
    def smallest_difference(self) -> float:
        """A gain in accuracy of about this size is shown."""
        if self.pairs is not None:
            return smallest_gain(self.images, self.pairs)
        search = self.recipe.search
        training = self.recipe.training
        runs = training.seeds + search.confirm_seeds * (1 + ROUNDS_PER_SEED)
        return smallest_difference(self.images, runs)

    @property
    def merits(self) -> int:
        """How many of these it has: enough candidates, a test."""
        enough = ENOUGH_CANDIDATES if self.pairs is None else ENOUGH_OF_FEW
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
