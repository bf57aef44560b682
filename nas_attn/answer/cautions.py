"""Warnings against any conclusion: a backbone that has not learned, few images, and the like."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from statistics import fmean

from nas_attn.errors import several
from nas_attn.recipe import tasks, units
from nas_attn.recipe.recipe import Recipe
from nas_attn.recipe.tables import is_per_image, is_share, is_share_of_images, saturation
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


class CautionKind(Enum):
    """What speaks against a conclusion."""

    ONLY_BASELINES = auto()
    """The search has ended, and all its candidates are baselines."""
    HARDLY_LEARNED = auto()
    """The bare backbone is hardly better than guessing."""
    STILL_LEARNING = auto()
    """The bare backbone has become much better between its last two scores."""
    LEARNED_BY_HEART = auto()
    """The bare backbone's loss is much lower on its training images than on others."""
    WAITS_FOR_IMAGES = auto()
    FEW_IMAGES = auto()
    """There are so few validation images that a single one matters."""


@dataclass(frozen=True, slots=True)
class Caution:
    """A warning against any conclusion."""

    kind: CautionKind
    text: str
    """A few sentences; they begin in lower case."""


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
    text = (
        "only the baselines were tried, no placement of the search's own. Give it more time, or"
        " more trials."
    )
    return [Caution(CautionKind.ONLY_BASELINES, text)]


def _hardly_learned(recipe: Recipe, ended: Sequence[Score], classes: int | None) -> Caution | None:
    metric = tasks.of(recipe).exact_when_guessing
    value = None
    if metric is not None:
        value = _mean(metric, ended)
    if value is None or not classes or classes <= 1:
        return None
    guessing = 1 / classes
    if (value - guessing) / (1 - guessing) >= LEARNED:
        return None
    text = (
        f"the bare backbone has hardly learned ({units.SHARE_UNIT.value(value)} as the mean over"
        f" classes, where guessing gives {units.SHARE_UNIT.value(guessing)}). Train longer, or with"
        " another learning rate, before you compare."
    )
    return Caution(CautionKind.HARDLY_LEARNED, text)


def _still_learning(
    recipe: Recipe, metric: str, before: Sequence[Score], ended: Sequence[Score]
) -> Caution | None:
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
    text = (
        f"the bare backbone is still learning ({units.value(metric, earlier)}, then"
        f" {units.value(metric, value)}). What helps now may only help to learn faster. Train"
        " longer."
    )
    return Caution(CautionKind.STILL_LEARNING, text)


def _by_heart(
    recipe: Recipe, ended: Sequence[Score], bare: Sequence[Score], classes: int | None
) -> Caution | None:
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
    if not 0 < fmean(losses) < min(BY_HEART * loss, guessing):
        return None
    text = (
        f"the bare backbone has learned its training images by heart (loss {fmean(losses):.2g}"
        f" there, {loss:.2g} on validation images). More images or augmentation will help more than"
        " attention."
    )
    return Caution(CautionKind.LEARNED_BY_HEART, text)


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


def _waits(ended: Sequence[Score]) -> Caution | None:
    waited = _mean("loading_share", ended)
    if waited is None or waited <= WAITING_SHARE:
        return None
    text = (
        f"training waits for images {100 * waited:.0f} % of the time. Raise data.workers, or leave"
        " out costly transforms."
    )
    return Caution(CautionKind.WAITS_FOR_IMAGES, text)


def _few_images(metric: str, ended: Sequence[Score], paired_sd: float) -> Caution | None:
    images = max(score.examples for score in ended)
    if not is_per_image(metric) or not 0 < images < FEW_VALIDATION_IMAGES:
        return None
    chance = 1.96 * paired_sd * math.sqrt(2 / len(ended))
    # an image of a small class counts for more in metrics in which each class counts the same
    mean = "" if is_share_of_images(metric) else " on average"
    text = (
        f"with {images} validation images, one image is {100 / images:.1f} points{mean}. More of"
        " them are the cheapest improvement."
    )
    if chance:
        text += (
            f" Two networks with {several(len(ended), 'run')} each may differ by"
            f" {units.size(metric, chance)} by chance. Narrower intervals here also use what is"
            " usual in other studies."
        )
    return Caution(CautionKind.FEW_IMAGES, text)


def _mean(metric: str, scores: Iterable[Score]) -> float | None:
    values = (score.metrics.get(metric, math.nan) for score in scores)
    finite = [value for value in values if math.isfinite(value)]
    if finite:
        return fmean(finite)
    return None
