"""How long the bare backbone needs: full trainings of n, 2n, 4n … epochs, compared.

A learning rate that falls to zero makes a network look finished at any length, so one training
cannot be stopped early to find out. Each length is therefore a training of its own, with its own
schedule, on the same seeds. The length that is needed is the first whose double is not clearly
better.

Few images cannot show what a longer training brings. So what a study sees of twice the epochs is
combined with what these have brought elsewhere, `doublings.json` (research/length).
"""

from __future__ import annotations

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_attn.answer.contributions import contributions_of
from nas_attn.answer.fronts import sign_of
from nas_attn.model import Gain
from nas_attn.recipe import tasks
from nas_attn.recipe.recipe import Recipe
from nas_attn.recipe.tables import is_share
from nas_attn.storage.labels import ValidationLabels
from nas_attn.storage.records import Score, StoredScore

# a clearly better length takes so much of what is left to gain: of the smaller of p and 1 - p for a
# share p (an accuracy), else of the value, since nobody knows the best one; there the loss decides
CLEAR = 0.05
# of an accuracy or the like: what twice as many epochs brought on small folders of photographs
LARGE_GAIN = 0.02
# what twice the epochs have brought elsewhere
DOUBLINGS_FILE = Path(__file__).with_name("doublings.json")
# of the tasks that this is known of
DOUBLED_TASK = "classification"


@dataclass(frozen=True, slots=True)
class LengthScore:
    """The bare backbone's scores after so many epochs, the means over its seeds."""

    epochs: int
    seeds: int
    # of the study's metric
    value: float
    # mean log-loss of an image; None where none is known
    loss: float | None


@dataclass(frozen=True, slots=True)
class MetricKind:
    """What the rule has to know of a metric."""

    # from 0 to 1, higher is better
    share: bool
    lower_is_better: bool


def length_scores(
    metrics: Mapping[int, Iterable[Mapping[str, float]]], metric: str
) -> list[LengthScore]:
    """The scores by length, from each run's metrics by its epochs; the shortest first."""
    scores = []
    for epochs, runs in sorted(metrics.items()):
        scored = [run for run in runs if metric in run]
        if not scored:
            continue
        losses = [run["loss"] for run in scored if "loss" in run]
        value = statistics.fmean(run[metric] for run in scored)
        loss = None
        if losses:
            loss = statistics.fmean(losses)
        scores.append(LengthScore(epochs, len(scored), value, loss))
    return scores


def clearly_better(longer: LengthScore, shorter: LengthScore, kind: MetricKind) -> bool:
    """Whether a longer training has a clearly better metric or a clearly lower loss."""
    if (
        longer.loss is not None
        and shorter.loss is not None
        and shorter.loss - longer.loss > CLEAR * abs(shorter.loss)
    ):
        return True
    gain = longer.value - shorter.value
    if kind.lower_is_better:
        gain = -gain
    left_to_gain = abs(shorter.value)
    if kind.share:
        left_to_gain = min(shorter.value, 1 - shorter.value)
    return gain > CLEAR * left_to_gain


def needed_length(scores: Sequence[LengthScore], kind: MetricKind) -> int | None:
    """The first length whose double is known and is not clearly better; None without one."""
    by_epochs = {score.epochs: score for score in scores}
    for score in scores:
        double = by_epochs.get(2 * score.epochs)
        if double is not None and not clearly_better(double, score, kind):
            return score.epochs
    return None


@dataclass(frozen=True, slots=True)
class LengthGain:
    """What the bare backbone gains by a longer training, on the seeds that ran at both lengths."""

    # epochs
    shorter: int
    longer: int
    seeds: int
    gain: Gain
    seen: Gain | None = None
    """Of these trainings alone, where `gain` also holds what twice the epochs usually bring."""

    @property
    def of_trainings(self) -> Gain:
        """What these trainings alone say."""
        return self.gain if self.seen is None else self.seen


@dataclass(frozen=True, slots=True)
class Doubling:
    """What twice as many epochs bring the next problem, by all that is known. It is normal, in
    log-odds of the share of images that is right.
    """

    start: str
    """`scratch` or `pretrained`."""
    steps: tuple[int, int] | None
    """From and below so many of the shorter training; None: whichever."""
    mean: float
    sd: float
    problems: int
    """That it is known from."""

    def fits(self, start: str, steps: int | None) -> bool:
        """Whether it is about such a training; of `steps`, None: not known."""
        if self.start != start or self.steps is None:
            return self.start == start
        return steps is not None and self.steps[0] <= steps < self.steps[1]

    def gain(self, level: float) -> tuple[float, float]:
        """The mean and its standard deviation as shares, for a network with this share right."""
        p = min(max(level, 0.02), 0.98)
        return self.mean * p * (1 - p), self.sd * p * (1 - p)


@cache
def doublings() -> tuple[Doubling, ...]:
    """What is known, by kind of start and steps; the first that fits counts."""
    rows = json.loads(DOUBLINGS_FILE.read_text(encoding="utf-8"))
    return tuple(Doubling(**{**row, "steps": row["steps"] and tuple(row["steps"])}) for row in rows)


def with_usual(seen: Gain, mean: float, sd: float) -> Gain:
    """A gain that was seen, together with what was expected before: both normal.

    Args:
        seen: of a study's own trainings.
        mean: what was expected.
        sd: its standard deviation.
    """
    of_seen = 1 / max(seen.sd, 1e-12) ** 2
    precision = of_seen + 1 / sd**2
    return Gain.normal((of_seen * seen.mean + mean / sd**2) / precision, precision**-0.5)


def may_bring_much(longer: LengthGain | None, metric: str) -> bool:
    """Whether a longer training may still bring much, by what was seen of it: of an accuracy or the
    like, if the interval holds zero and a large gain. One without zero tells what there is.
    """
    if longer is None or not is_share(metric):
        return False
    return longer.of_trainings.low <= 0 and longer.of_trainings.high >= LARGE_GAIN


# epochs -> seed -> score of the bare backbone
Runs = Mapping[int, Mapping[int, Score]]


def bare_runs(
    recipe: Recipe,
    lengths: Iterable[StoredScore],
    searched: Iterable[StoredScore],
    target: Iterable[StoredScore],
) -> Runs:
    """The bare backbone's trainings that start as the target does, by epochs and seed.

    Args:
        lengths: those that were made to compare lengths.
        searched: its runs of the search.
        target: its runs as the target says.
    """
    runs: dict[int, dict[int, Score]] = defaultdict(dict)
    alike = recipe.training.start == recipe.target.start and len(recipe.training.rungs) == 1
    for stored in (*lengths, *(searched if alike else ()), *target):
        runs[stored.score.epochs][stored.score.seed] = stored.score
    return runs


def length_gain(
    recipe: Recipe,
    runs: Runs,
    epochs: tuple[int, int],
    metric: str,
    labels: ValidationLabels,
    run_sd: float | None = None,
) -> LengthGain | None:
    """Compares two lengths of the bare backbone's training.

    The standard error is that of the images' mean differences where it is known what each
    contributes, else that of the seeds; but at least that of runs' noise, which moves all images of
    a run alike.

    Args:
        recipe: of the study.
        runs: epochs -> seed -> score of the bare backbone.
        epochs: (shorter, longer).
        metric: that is compared.
        labels: of the validation images.
        run_sd: what a run's noise adds to the difference of two, as in `model.Noise`; None: not
            known.

    Returns:
        The gain by the longer one; None without a seed at both.
    """
    shorter, longer = epochs
    before = runs.get(shorter, {})
    after = runs.get(longer, {})
    paired = paired_gain(recipe, before, after, metric, labels, run_sd)
    return None if paired is None else LengthGain(shorter, longer, *paired)


def paired_gain(
    recipe: Recipe,
    before: Mapping[int, Score],
    after: Mapping[int, Score],
    metric: str,
    labels: ValidationLabels,
    run_sd: float | None = None,
) -> tuple[int, Gain] | None:
    """What one training of the bare backbone gains over another, as in `length_gain`.

    Args:
        recipe: of the study.
        before: seed -> score of the one training.
        after: of the other one.
        metric: that is compared.
        labels: of the validation images.
        run_sd: as in `length_gain`.

    Returns:
        The number of seeds, and the gain; None without a seed at both.
    """
    pairs = [(before[seed], after[seed]) for seed in before if seed in after]
    pairs = [pair for pair in pairs if all(metric in score.metrics for score in pair)]
    if not pairs:
        return None
    sign = sign_of(recipe, metric)
    gains = [sign * (later.metrics[metric] - score.metrics[metric]) for score, later in pairs]
    mean = statistics.fmean(gains)
    error = _error_over_images(metric, pairs, labels)
    if error is None and len(gains) > 1:
        error = statistics.stdev(gains) / math.sqrt(len(gains))
    if run_sd is not None:
        error = max(error or 0.0, run_sd * math.sqrt(2 / len(gains)))
    if error is None:
        return None
    return len(pairs), Gain.normal(mean, error)


def _error_over_images(
    metric: str, pairs: Sequence[tuple[Score, Score]], labels: ValidationLabels
) -> float | None:
    """Standard error of the mean difference, from each image's mean over the seeds; None if it is
    not known what each image contributes.
    """
    differences = []
    for one, other in pairs:
        before = contributions_of(metric, one, labels.of(one.seed))
        after = contributions_of(metric, other, labels.of(one.seed))
        if before is None or after is None or one.examples != other.examples:
            return None
        differences.append(after().astype(float) - before())
    drawn = [labels.divisions.get(one.seed) for one, _ in pairs]
    if any(drawn):
        return _error_over_divisions(differences, max(of.divided for of in drawn if of))
    by_image = np.mean(differences, axis=0)
    if len(by_image) > 1:
        return float(by_image.std(ddof=1) / math.sqrt(len(by_image)))
    return None


def _error_over_divisions(
    differences: Sequence[NDArray[np.floating[Any]]], divided: int
) -> float | None:
    """Standard error of the mean difference where each seed has images of its own, of so many in
    all. The same images come back: the variance of one seed counts 1 / seeds + m / (n - m) times,
    for m of n images in a division (Nadeau and Bengio 2003).
    """
    if min(map(len, differences)) < 2:
        return None
    variance = float(np.mean([of.var(ddof=1) / len(of) for of in differences]))
    validated = float(np.mean([len(of) for of in differences]))
    shared = validated / max(divided - validated, 1.0)
    return math.sqrt(variance * (1 / len(differences) + shared))


def metric_kind(recipe: Recipe, metric: str) -> MetricKind:
    """What the rule has to know of a study's metric."""
    return MetricKind(is_share(metric), sign_of(recipe, metric) < 0)


def longer_of(
    recipe: Recipe,
    runs: Runs,
    metric: str,
    labels: ValidationLabels,
    run_sd: float | None = None,
    *,
    images: int | None = None,
) -> LengthGain | None:
    """Says what twice the target's epochs bring the bare backbone.

    Args:
        recipe: of the study.
        runs: epochs -> seed -> score of the bare backbone.
        metric: that is compared.
        labels: of the validation images.
        run_sd: as in `length_gain`.
        images: that are trained on, about; None: not known.

    Returns:
        The gain, with what is usual where that is known; None where twice the epochs were not
        tried.
    """
    target = recipe.target_training.rungs[-1]
    found = length_gain(recipe, runs, (target, 2 * target), metric, labels, run_sd)
    if found is None or tasks.of(recipe).name != DOUBLED_TASK or not is_share(metric):
        return found
    steps = None
    if images is not None:
        steps = target * math.ceil(images / recipe.target_training.step_size)
    usual = next(one for one in doublings() if one.fits(recipe.target.start, steps))
    shorter = [score.metrics for score in runs[target].values() if metric in score.metrics]
    gain = with_usual(found.gain, *usual.gain(statistics.fmean(of[metric] for of in shorter)))
    return replace(found, gain=gain, seen=found.gain)
