"""At which rate the bare backbone learns best: short trainings at a third, one and three times the
usual rate, on the same seeds.

Another rate than the usual one is taken if it is clearly better: on each seed, with a 95 % interval
over the validation images above zero, and by as much as decides between two lengths.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nas_attn.answer.fronts import sign_of
from nas_attn.answer.length import clearly_better, length_scores, metric_kind, paired_gain
from nas_attn.model import Gain
from nas_attn.recipe.recipe import Recipe
from nas_attn.storage.labels import ValidationLabels
from nas_attn.storage.records import Score

RATES = (1 / 3, 1.0, 3.0)
"""Times the usual rate."""
# times the usual rate -> seed -> score of the bare backbone, all after as many epochs
RateRuns = Mapping[float, Mapping[int, Score]]


@dataclass(frozen=True, slots=True)
class RateGain:
    """What the bare backbone gains by the rate that its study has found."""

    rate: float
    """The peak that was found."""
    usual: float
    """The usual one."""
    epochs: int
    """Of the trainings that were compared."""
    seeds: int
    gain: Gain | None
    """None: at the usual rate, it could not be trained."""


def better_rate(recipe: Recipe, runs: RateRuns, metric: str, labels: ValidationLabels) -> float:
    """The rate with which the bare backbone is clearly better; else the usual one.

    Args:
        recipe: of the study.
        runs: at each rate.
        metric: that is compared.
        labels: of the validation images.

    Returns:
        Times the usual rate.
    """
    usual = runs.get(1.0, {})
    most = max(map(len, runs.values()), default=0)
    # at a rate that fails on one seed, others may fail, too
    others = {rate: of for rate, of in runs.items() if rate != 1 and len(of) == most > 0}
    sign = sign_of(recipe, metric)
    values = {
        rate: sum(sign * score.metrics[metric] for score in of.values()) / most
        for rate, of in others.items()
        if all(metric in score.metrics for score in of.values())
    }
    clear = {
        rate: value
        for rate, value in values.items()
        if not usual or _is_clear(recipe, usual, others[rate], metric, labels)
    }
    return max(clear, key=lambda rate: clear[rate], default=1.0)


def _is_clear(
    recipe: Recipe,
    usual: Mapping[int, Score],
    other: Mapping[int, Score],
    metric: str,
    labels: ValidationLabels,
) -> bool:
    paired = paired_gain(recipe, usual, other, metric, labels)
    if paired is None or paired[1].low <= 0:
        return False
    sign = sign_of(recipe, metric)
    for seed in usual.keys() & other.keys():
        if sign * (other[seed].metrics[metric] - usual[seed].metrics[metric]) <= 0:
            return False
    (before,) = length_scores({1: [score.metrics for score in usual.values()]}, metric)
    (after,) = length_scores({1: [score.metrics for score in other.values()]}, metric)
    return clearly_better(after, before, metric_kind(recipe, metric))


def rate_gain(
    recipe: Recipe, runs: RateRuns, metric: str, labels: ValidationLabels
) -> RateGain | None:
    """Says what the rate that a study has found brings the bare backbone.

    Args:
        recipe: of the study.
        runs: at each rate.
        metric: that is compared.
        labels: of the validation images.

    Returns:
        The gain; None where the study trains at the usual rate.
    """
    training = recipe.training
    found = next((of for rate, of in runs.items() if rate == training.rate_factor), {})
    if training.rate_factor == 1 or not found:
        return None
    rate = training.peak_rate
    paired = paired_gain(recipe, runs.get(1.0, {}), found, metric, labels)
    seeds = len(found) if paired is None else paired[0]
    epochs = max(score.epochs for score in found.values())
    gain = None if paired is None else paired[1]
    return RateGain(rate, rate / training.rate_factor, epochs, seeds, gain)
