"""Sanity checks before any conclusion: a backbone that has not learned, few images, metrics and
rungs that separate no candidates.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from nas_attn import tasks
from nas_attn.analysis import units
from nas_attn.errors import several
from nas_attn.model import Evidence
from nas_attn.recipe import Recipe, objective_name
from nas_attn.records import CandidateRow, Score
from nas_attn.tables import IN_INT8, is_cost
from nas_attn.tasks import SHARES

LEAST_ALIKE = 2  # candidates with the same value before it is reported
LEAST_AT_RUNG = 12  # candidates that a rung needs before it is judged
WEAK = 0.1  # a rung whose scores are less reliable than this is reported

LEARNED = 0.15  # a network below this share of the way from guessing to perfect has hardly learned
RISING = 0.05  # a network is still learning if a doubling of the epochs adds this much
# images are learned by heart if the training loss is below this share of the validation loss
BY_HEART = 0.2
WAITED = 0.3  # waiting for images is reported above this share of the time
GOOD = 0.9  # at this accuracy that does not matter
FEW_IMAGES = 250  # below so many validation images, the weight of one image is reported

Metrics = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Constant:
    """A metric with the same value for all candidates."""

    metric: str
    value: float
    candidates: int  # all that were scored at the last rung
    runs: int
    sentence: str  # what it may mean, for a person


@dataclass(frozen=True, slots=True)
class WeakRung:
    """A rung before the last one whose scores hardly separate candidates."""

    rung: int
    epochs: int
    reliability: float  # share of the variance of one run's score that comes from the placements
    candidates: int
    sentence: str  # what it means, and what to change, for a person


def cautions(
    recipe: Recipe,
    metric: str | None,
    start: Sequence[Score],
    bare: Sequence[Score],
    classes: int | None,
    paired_sd: float | None = None,
) -> list[str]:
    """Warnings against any conclusion, the gravest first, in a few sentences each.

    `metric`: the primary one; `start`: trainings of the backbone before the search; `bare`: its
        runs in the search; `paired_sd`: what
    a run's noise adds to the difference of two, as in `model.Noise`.
    """
    last = len(recipe.training.rungs) - 1
    ended = [score for score in bare if score.rung == last]
    before = [score for score in bare if score.rung == last - 1]
    if recipe.training.start == "backbone":  # at the first rungs, the restart lowers its scores
        before = [score for score in start if score.epochs == max(other.epochs for other in start)]
    if metric is None or not ended:
        return []
    value, earlier, balanced = (
        _mean(metric, ended),
        _mean(metric, before),
        _mean("balanced_accuracy", ended),
    )
    found = []
    if (
        balanced is not None
        and classes
        and classes > 1
        and (balanced - 1 / classes) / (1 - 1 / classes) < LEARNED
    ):
        found.append(
            f"the bare backbone has hardly learned ({units.value('accuracy', balanced)} as the mean"
            f" over classes, where guessing gives {units.value('accuracy', 1 / classes)}). Train"
            " longer, or with another learning rate, before you compare."
        )
    if value is not None and earlier is not None and metric in SHARES:
        trained = recipe.training.backbone_epochs if recipe.training.start == "backbone" else 0
        doublings = math.log2((ended[0].epochs + trained) / before[0].epochs)
        if (value - earlier) / max(doublings, 1.0) > RISING:
            found.append(
                f"the bare backbone is still learning ({units.value(metric, earlier)}, then"
                f" {units.value(metric, value)}). What helps now may only help to learn faster."
                " Train longer."
            )
    # Else the losses of training and validation are not comparable.
    if recipe.training.loss is None and not tasks.MIXING & recipe.augmentations:
        found += _by_heart(ended, bare, math.log(classes) if classes else math.inf)
    waited = _mean("loading_share", ended)
    if waited is not None and waited > WAITED:
        found.append(
            f"training waits for images {100 * waited:.0f} % of the time. Raise data.workers, or"
            " leave out costly transforms."
        )
    images = max(score.examples for score in ended)
    if metric == "accuracy" and 0 < images < FEW_IMAGES:
        chance = 1.96 * (paired_sd or 0.0) * math.sqrt(2 / len(ended))
        runs = (
            f"{several(len(ended), 'run')} each may differ by {units.size(metric, chance)} by"
            " chance"
        )
        found.append(
            f"with {images} validation images, one image is {100 / images:.1f} points. More of them"
            " are the cheapest improvement."
            + (
                f" Two networks with {runs}: narrower intervals rest on what is usual elsewhere."
                if chance
                else ""
            )
        )
    return found


def untried(rows: Sequence[CandidateRow], planned: int) -> list[str]:
    """A warning if all candidates of an ended search are baselines."""
    if not rows or len(rows) < planned or not all(row.baseline for row in rows):
        return []
    return [
        (
            "only the baselines were tried, no placement of the search's own. Give it more time, or"
            " more trials."
        )
    ]


def _mean(metric: str, scores: Iterable[Score]) -> float | None:
    values = _values(metric, (score.metrics for score in scores))
    return fmean(values) if values else None


def _by_heart(ended: Sequence[Score], bare: Sequence[Score], guessing: float) -> Iterator[str]:
    """Compares the mean training loss since the rung before with the loss of `guessing` and that of
    validation images.
    """
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
    loss, accuracy = _mean("loss", ended), _mean("accuracy", ended)
    if not losses or loss is None or accuracy is None or accuracy >= GOOD:
        return
    if (
        0 < fmean(losses) < min(BY_HEART * loss, guessing)
    ):  # a network that diverged has a high loss on all images
        yield (
            f"the bare backbone has learned its training images by heart (loss {fmean(losses):.2g}"
            f" there, {loss:.2g} on validation images). More images or augmentation will help more"
            " than attention."
        )


def constants(
    recipe: Recipe, primary: str | None, runs: Mapping[str, Sequence[Metrics]]
) -> list[Constant]:
    """The metrics among the objectives, and the primary one, that are the same in all `runs` (key
    -> metrics at the last rung).
    """
    found, trained = (
        [],
        [objective_name(objective) for objective in recipe.objectives if not is_cost(objective)],
    )
    for metric in dict.fromkeys([*trained, *([primary] if primary else [])]):
        having = {key: known for key, scores in runs.items() if (known := _values(metric, scores))}
        values = [value for known in having.values() for value in known]
        if len(having) < LEAST_ALIKE:
            continue
        guessing = metric == "accuracy" and _guessing(runs)
        if guessing or _alike(values):
            said = _what_constant(recipe, metric, values, len(having), guessing)
            found.append(Constant(metric, values[0], len(having), len(values), said))
    return found


def _values(metric: str, scores: Iterable[Metrics]) -> list[float]:
    return [score[metric] for score in scores if math.isfinite(score.get(metric, math.nan))]


def _alike(values: Sequence[float]) -> bool:
    return all(math.isclose(value, values[0], rel_tol=1e-9) for value in values)


def _guessing(runs: Mapping[str, Sequence[Metrics]]) -> bool:
    """Whether every run predicted one class for all images. The class may differ between runs."""
    values = [value for scores in runs.values() for value in _values("balanced_accuracy", scores)]
    return bool(values) and 0 < values[0] <= 0.5 and _alike([*values, 1 / round(1 / values[0])])


def _what_constant(
    recipe: Recipe, metric: str, values: Sequence[float], candidates: int, guessing: bool
) -> str:
    value = values[0]
    shown = list(dict.fromkeys(units.value(metric, value) for value in (min(values), max(values))))
    what = (
        f"{metric} is {' to '.join(shown)} in all {len(values)} runs of all {candidates} candidates"
    )
    task = tasks.of(recipe)
    if recipe.training.evaluator is not None:
        empty = (
            "finds nothing to score (no detection, labels that do not fit)"
            if value == 0
            else "returns a constant"
        )
        why = (
            f"perhaps training.evaluator {empty}, or it trains too briefly for this metric to"
            " change"
        )
    elif task.why_constant:
        why = task.why_constant
    elif metric == "accuracy" and value == 1:
        why = "perhaps the task is too easy, or validation images are among the training images"
    else:
        epochs = (
            "target.epochs" if recipe.training.rungs == [recipe.target.epochs] else "training.rungs"
        )
        if recipe.training.start == "backbone":
            epochs = "training.backbone_epochs"
        why = (
            f"perhaps training is too brief to exceed chance ({epochs}), or the labels do not match"
            " the images"
        )
        what += ", each predicting the same class for every image" if guessing else ""
    return f"{what}. It separates no candidates, so nothing can be recommended by it; {why}."


def two_values(model: Evidence) -> list[str]:
    """A warning if runs end near one of two values; else nothing."""
    if model.two_values is None:
        return []
    worse, better = (units.value(model.metric, value) for value in model.two_values)
    return [
        (
            f"Runs end near one of two values, {model.metric} {worse} or {better}, and runs of the"
            " same placement end at both. What counts is how often a placement reaches the better"
            " value, and a few runs say little about that."
        )
    ]


def weak_rungs(
    recipe: Recipe, metric: str | None, models: Iterable[tuple[tuple[str, int], Evidence]]
) -> list[WeakRung]:
    """The rungs before the last that hardly separate candidates in a metric; none if few candidates
    were scored.
    """
    rungs, found = recipe.training.rungs, []
    for (name, rung), model in models:
        if name != metric or rung >= len(rungs) - 1:
            continue
        count = len(model.ran)
        share = model.noise.reliability(1)
        if count >= LEAST_AT_RUNG and share is not None and share < WEAK:
            epochs = rungs[rung]
            said = (
                f"After {several(epochs, 'epoch')} scores hardly tell placements apart:"
                f" {100 * share:.0f} % of the variance of one run's {name} comes from the"
                f" placements ({count} candidates)."
            )
            if recipe.search.pruner != "none":
                said += (
                    " Pruning at this rung is mostly chance. In a new study, train longer before"
                    " the first score (training.rungs)."
                )
            found.append(WeakRung(rung, epochs, share, count, said))
    return found


Runs = Mapping[int, Mapping[str, float]]  # seed -> metrics of a run at the last rung


def in_int8(
    mode: str, metric: str | None, placed: Runs, bare: Runs, who: str = "the recommended placement"
) -> str:
    """One sentence on a placement against the bare backbone, paired by seed; empty without scores
    in int8.
    """
    metric = (metric or "").removesuffix(IN_INT8)
    name = f"{metric}{IN_INT8}"
    seeds = [
        seed
        for seed in sorted(placed.keys() & bare.keys())
        if name in placed[seed] and name in bare[seed]
    ]
    if not seeds:
        return ""
    in_float, gain = (
        fmean(placed[seed][m] - bare[seed][m] for seed in seeds) for m in (metric, name)
    )
    lost = ". The gain does not survive int8" if in_float > 0 >= gain else ""
    return (
        f"In {mode}, {who} changes {metric} by {units.difference(metric, gain)}, in float32 by"
        f" {units.difference(metric, in_float)} (against the bare backbone,"
        f" {several(len(seeds), 'run')}){lost}."
    )
