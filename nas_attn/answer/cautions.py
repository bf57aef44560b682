"""Warnings: what speaks against any conclusion, and what separates no candidates."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from statistics import fmean

from nas_attn.errors import several, shorten
from nas_attn.model import Evidence
from nas_attn.recipe import tasks, units
from nas_attn.recipe.recipe import Recipe, objective_name
from nas_attn.recipe.tables import (
    METRICS,
    is_cost,
    is_per_image,
    is_share,
    is_share_of_images,
)
from nas_attn.storage.records import CandidateRow, Score

# a network below this share of the way from guessing to perfect has hardly learned
LEARNED = 0.15
# a network is still learning if a doubling of the epochs adds this much
RISING = 0.05
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
    FEW_IMAGES = auto()
    """There are so few validation images that a single one matters."""
    TRAINED_LESS = auto()
    """The search trains more briefly than the target."""
    TWO_VALUES = auto()
    """Runs end near one of two values, those of one placement at both."""
    FAILED = auto()
    """Candidates failed."""


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
) -> list[Caution]:
    """What speaks against any conclusion, the gravest first.

    Args:
        metric: the primary one.
        start: trainings of the backbone before the search.
        bare: its runs in the search.
    """
    last = recipe.training.last_rung
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
        _few_images(metric, ended),
    ]
    return [caution for caution in possible if caution is not None]


def trained_less(recipe: Recipe) -> list[Caution]:
    """A warning if runs that start as the target does are shorter."""
    searched = recipe.training.rungs[-1]
    target = recipe.target_training.rungs[-1]
    if recipe.training.start != recipe.target.start or searched >= target:
        return []
    text = (
        f"the search trained for {several(searched, 'epoch')}, the target for {target}. What helps"
        " now may only help to learn faster. A test trains as the target does."
    )
    return [Caution(CautionKind.TRAINED_LESS, text)]


def untried(rows: Sequence[CandidateRow], planned: int) -> list[Caution]:
    """A warning if all candidates of an ended search are baselines."""
    if not rows or len(rows) < planned or not all(row.baseline for row in rows):
        return []
    text = (
        "only the baselines were tried, no placement of the search's own. Give it more time, or"
        " more candidates."
    )
    return [Caution(CautionKind.ONLY_BASELINES, text)]


def failures(rows: Sequence[CandidateRow]) -> list[Caution]:
    """A warning if candidates failed, with the reason of the first."""
    failed = [row for row in rows if row.state == "failed"]
    if not failed:
        return []
    text = (
        f"{len(failed)} of {several(len(rows), 'candidate')} failed, first {failed[0].placement}:"
        f" {shorten(failed[0].reason)}. To the search, they count as the worst."
    )
    return [Caution(CautionKind.FAILED, text)]


def at_two_values(model: Evidence | None) -> list[Caution]:
    """A warning if runs end near one of two values; `model`: of the primary metric."""
    if model is None or model.two_values is None:
        return []
    worse, better = (units.value(model.metric, value) for value in model.two_values)
    text = (
        f"runs end near one of two values, {model.metric} {worse} or {better}, and runs of the same"
        " placement end at both. A few runs say little about how often it reaches the better one."
    )
    return [Caution(CautionKind.TWO_VALUES, text)]


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


def _few_images(metric: str, ended: Sequence[Score]) -> Caution | None:
    images = max(score.examples for score in ended)
    if not is_per_image(metric) or not 0 < images < FEW_VALIDATION_IMAGES:
        return None
    # an image of a small class counts for more in metrics in which each class counts the same
    mean = "" if is_share_of_images(metric) else " on average"
    text = (
        f"with {images} validation images, one image is {100 / images:.1f} points{mean}. Narrower"
        " intervals here also use what is usual in other studies. More images are the cheapest"
        " improvement."
    )
    return Caution(CautionKind.FEW_IMAGES, text)


def _mean(metric: str, scores: Iterable[Score]) -> float | None:
    values = (score.metrics.get(metric, math.nan) for score in scores)
    finite = [value for value in values if math.isfinite(value)]
    if finite:
        return fmean(finite)
    return None


# candidates with the same value before it is reported
LEAST_ALIKE = 2

Metrics = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Constant:
    """A metric with the same value for all candidates."""

    metric: str
    value: float
    candidates: int
    """All that were scored at the last rung."""
    runs: int
    sentence: str
    """What is the same, and what it may mean."""


def constants(
    recipe: Recipe, primary: str | None, runs: Mapping[str, Sequence[Metrics]]
) -> list[Constant]:
    """The metrics among the objectives, and the primary one, that are the same in all `runs` (key
    -> metrics at the last rung).
    """
    trained = [
        objective_name(objective) for objective in recipe.objectives if not is_cost(objective)
    ]
    same = []
    for metric in dict.fromkeys([*trained, *([primary] if primary else [])]):
        having = {
            key: scored for key, scores in runs.items() if (scored := _values(metric, scores))
        }
        values = [value for scored in having.values() for value in scored]
        if len(having) < LEAST_ALIKE:
            continue
        guess = METRICS[metric].guess if metric in METRICS else ""
        every_run = itertools.chain.from_iterable(runs.values())
        if _alike(values) or (guess == "on average" and only_guessed(recipe, every_run)):
            same.append(_constant(metric, values, len(having)))
    return same


def _constant(metric: str, values: Sequence[float], candidates: int) -> Constant:
    # they may differ by rounding, or, where all guess, by more
    ends = (units.value(metric, value) for value in (min(values), max(values)))
    sentence = (
        f"{metric} is {' to '.join(dict.fromkeys(ends))} in all {len(values)} runs of all"
        f" {candidates} candidates. It separates no candidates, so nothing can be recommended by"
        " it: perhaps training is too brief, the task too easy, or labels or evaluator are wrong."
    )
    return Constant(metric, values[0], candidates, len(values), sentence)


def _values(metric: str, scores: Iterable[Metrics]) -> list[float]:
    return [score[metric] for score in scores if math.isfinite(score.get(metric, math.nan))]


def _alike(values: Sequence[float]) -> bool:
    return all(math.isclose(value, values[0], rel_tol=1e-9) for value in values)


def only_guessed(recipe: Recipe, runs: Iterable[Metrics]) -> bool:
    """Whether every run predicted one class for all images. The class may differ between runs."""
    exact = tasks.of(recipe).exact_when_guessing or ""
    values = _values(exact, runs)
    return bool(values) and 0 < values[0] <= 0.5 and _alike([*values, 1 / round(1 / values[0])])
