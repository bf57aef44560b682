"""Warnings against any conclusion: a backbone that has not learned, few images, and the like."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from nas_attn.recipe import tasks
from nas_attn.recipe.recipe import Recipe
from nas_attn.recipe.tables import is_per_image, is_share, saturation
from nas_attn.storage.records import CandidateRow, Score

# a network below this share of the way from guessing to perfect has hardly learned
LEARNED = 0.15
# a network is still learning if a doubling of the epochs adds this much
RISING = 0.05
# images are learned by heart if the training loss is below this share of the validation loss
BY_HEART = 0.2
# waiting for images is reported above this share of the time
WAITING_SHARE = 0.3
# below so many validation images, the weight of one image is reported
FEW_VALIDATION_IMAGES = 250


@dataclass(frozen=True, slots=True)
class OnlyBaselines:
    """The search has ended, and all its candidates are baselines."""


@dataclass(frozen=True, slots=True)
class HardlyLearned:
    """The bare backbone is hardly better than guessing."""

    value: float
    """Its accuracy as the mean over classes."""
    guessing: float


@dataclass(frozen=True, slots=True)
class StillLearning:
    """The bare backbone has become much better between its last two scores."""

    metric: str
    earlier: float
    value: float


@dataclass(frozen=True, slots=True)
class LearnedByHeart:
    """The bare backbone's loss is much lower on its training images than on others."""

    training_loss: float
    validation_loss: float


@dataclass(frozen=True, slots=True)
class WaitsForImages:
    """Training waits for images for this share of its time."""

    share: float


@dataclass(frozen=True, slots=True)
class FewImages:
    """So few validation images that a single one matters."""

    images: int
    runs: int
    """Of the bare backbone."""
    chance: float
    """By so much two networks with as many runs may differ by chance, in the metric's unit; 0: the
    noise is not known.
    """
    metric: str


Caution = (
    OnlyBaselines | HardlyLearned | StillLearning | LearnedByHeart | WaitsForImages | FewImages
)


def cautions(
    recipe: Recipe,
    metric: str | None,
    start: Sequence[Score],
    bare: Sequence[Score],
    classes: int | None,
    paired_sd: float | None = None,
) -> list[Caution]:
    """What speaks against any conclusion, the gravest first.

    Args:
        metric: the primary one.
        start: trainings of the backbone before the search.
        bare: its runs in the search.
        paired_sd: what a run's noise adds to the difference of two, as in `model.Noise`.
    """
    last = len(recipe.training.rungs) - 1
    ended = [score for score in bare if score.rung == last]
    if metric is None or not ended:
        return []
    before = [score for score in bare if score.rung == last - 1]
    # at the first rungs, the restart lowers its scores
    if recipe.training.start == "backbone":
        before = [score for score in start if score.epochs == max(other.epochs for other in start)]
    possible = [
        _hardly_learned(recipe, ended, classes),
        _still_learning(recipe, metric, before, ended),
        _by_heart(recipe, ended, bare, classes),
        _waits(ended),
        _few_images(metric, ended, paired_sd or 0.0),
    ]
    return [caution for caution in possible if caution is not None]


def untried(rows: Sequence[CandidateRow], planned: int) -> list[Caution]:
    """A warning if all candidates of an ended search are baselines."""
    if not rows or len(rows) < planned or not all(row.baseline for row in rows):
        return []
    return [OnlyBaselines()]


def _hardly_learned(
    recipe: Recipe, ended: Sequence[Score], classes: int | None
) -> HardlyLearned | None:
    metric = tasks.of(recipe).exact_when_guessing
    value = None
    if metric is not None:
        value = _mean(metric, ended)
    if value is None or not classes or classes <= 1:
        return None
    guessing = 1 / classes
    if (value - guessing) / (1 - guessing) >= LEARNED:
        return None
    return HardlyLearned(value, guessing)


def _still_learning(
    recipe: Recipe, metric: str, before: Sequence[Score], ended: Sequence[Score]
) -> StillLearning | None:
    value = _mean(metric, ended)
    earlier = _mean(metric, before)
    if value is None or earlier is None or not is_share(metric):
        return None
    trained = 0
    if recipe.training.start == "backbone":
        trained = recipe.training.backbone_epochs
    doublings = math.log2((ended[0].epochs + trained) / before[0].epochs)
    if (value - earlier) / max(doublings, 1.0) <= RISING:
        return None
    return StillLearning(metric, earlier, value)


def _by_heart(
    recipe: Recipe, ended: Sequence[Score], bare: Sequence[Score], classes: int | None
) -> LearnedByHeart | None:
    """Compares the mean training loss since the rung before with the loss of guessing and that of
    validation images.
    """
    if recipe.training.loss is not None or tasks.MIXING & recipe.augmentations:
        # the losses of training and validation are not comparable
        return None
    losses = _training_losses(ended, bare)
    loss = _mean("loss", ended)
    metric = tasks.of(recipe).metric
    value = _mean(metric, ended)
    saturates = saturation(metric)
    if not losses or loss is None or value is None or saturates is None or value >= saturates:
        return None
    guessing = math.inf
    if classes:
        guessing = math.log(classes)
    # a network that diverged has a high loss on all images
    if 0 < fmean(losses) < min(BY_HEART * loss, guessing):
        return LearnedByHeart(fmean(losses), loss)
    return None


def _training_losses(ended: Sequence[Score], bare: Sequence[Score]) -> list[float]:
    """The mean training loss of each run since the rung before."""
    sums = {
        (score.seed, score.rung): (score.metrics.get("train_loss_sum"), score.epochs)
        for score in bare
    }
    losses = []
    for score in ended:
        total, epochs = sums[score.seed, score.rung]
        earlier, begun = sums.get((score.seed, score.rung - 1), (0.0, 0))
        if total is not None and earlier is not None and epochs > begun:
            losses.append((total - earlier) / (epochs - begun))
    return losses


def _waits(ended: Sequence[Score]) -> WaitsForImages | None:
    waited = _mean("loading_share", ended)
    if waited is not None and waited > WAITING_SHARE:
        return WaitsForImages(waited)
    return None


def _few_images(metric: str, ended: Sequence[Score], paired_sd: float) -> FewImages | None:
    images = max(score.examples for score in ended)
    if not is_per_image(metric) or not 0 < images < FEW_VALIDATION_IMAGES:
        return None
    chance = 1.96 * paired_sd * math.sqrt(2 / len(ended))
    return FewImages(images, len(ended), chance, metric)


def _mean(metric: str, scores: Iterable[Score]) -> float | None:
    values = (score.metrics.get(metric, math.nan) for score in scores)
    finite = [value for value in values if math.isfinite(value)]
    if finite:
        return fmean(finite)
    return None
