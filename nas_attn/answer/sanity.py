"""Metrics and rungs that separate no candidates."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nas_attn.errors import several
from nas_attn.model import Evidence
from nas_attn.recipe import tasks, units
from nas_attn.recipe.recipe import Recipe, objective_name
from nas_attn.recipe.tables import METRICS, is_cost, saturation

# candidates with the same value before it is reported
LEAST_ALIKE = 2
# candidates that a rung needs before it is judged
LEAST_AT_RUNG = 12
# a rung whose scores are less reliable than this is reported
WEAK_RELIABILITY = 0.1

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


@dataclass(frozen=True, slots=True)
class WeakRung:
    """A rung before the last one whose scores hardly separate candidates."""

    rung: int
    epochs: int
    reliability: float
    """Share of the variance of one run's score that comes from the placements."""
    candidates: int
    sentence: str
    """That, and what to change."""


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
        guessing = _guess(metric) == "on average" and only_guessed(
            recipe, itertools.chain.from_iterable(runs.values())
        )
        if guessing or _alike(values):
            same.append(_constant(recipe, metric, values, len(having), guessing=guessing))
    return same


def _constant(
    recipe: Recipe, metric: str, values: Sequence[float], candidates: int, *, guessing: bool
) -> Constant:
    """`guessing`: whether every run predicted one class for all images."""
    # they may differ by rounding, or, where all guess, by more
    ends = (units.value(metric, value) for value in (min(values), max(values)))
    shown = " to ".join(dict.fromkeys(ends))
    each, why = _why_constant(recipe, metric, values[0], guessing=guessing)
    sentence = (
        f"{metric} is {shown} in all {len(values)} runs of all {candidates} candidates{each}. It"
        f" separates no candidates, so nothing can be recommended by it; {why}."
    )
    return Constant(metric, values[0], candidates, len(values), sentence)


def _why_constant(recipe: Recipe, metric: str, value: float, *, guessing: bool) -> tuple[str, str]:
    """(what is said of each run, what it may come from)."""
    why = tasks.of(recipe).why_constant
    if recipe.training.evaluator is not None:
        empty = "returns a constant"
        if value == 0:
            empty = "finds nothing to score (no detection, labels that do not fit)"
        return "", (
            f"perhaps training.evaluator {empty}, or it trains too briefly for this metric to"
            " change"
        )
    if why:
        return "", why
    if value == 1 and saturation(metric) is not None:
        return (
            "",
            "perhaps the task is too easy, or validation images are among the training images",
        )
    epochs = "training.rungs"
    if recipe.training.rungs == [recipe.target.epochs]:
        epochs = "target.epochs"
    if recipe.training.start == "backbone":
        epochs = "training.backbone_epochs"
    return ", each predicting the same class for every image" if guessing else "", (
        f"perhaps training is too brief to exceed chance ({epochs}), or the labels do not match the"
        " images"
    )


def weak_rungs(
    recipe: Recipe, metric: str | None, models: Iterable[tuple[tuple[str, int], Evidence]]
) -> list[WeakRung]:
    """The rungs before the last that hardly separate candidates in a metric; none if few candidates
    were scored.
    """
    rungs = recipe.training.rungs
    weak = []
    for (name, rung), model in models:
        if name != metric or rung >= len(rungs) - 1:
            continue
        count = len(model.ran)
        share = model.noise.reliability(1)
        if count < LEAST_AT_RUNG or share is None or share >= WEAK_RELIABILITY:
            continue
        epochs = rungs[rung]
        sentence = (
            f"After {several(epochs, 'epoch')} scores hardly tell placements apart:"
            f" {100 * share:.0f} % of the variance of one run's {name} comes from the placements"
            f" ({count} candidates)."
        )
        if recipe.search.pruner != "none":
            sentence += (
                " Pruning at this rung is mostly chance. In a new study, train longer before the"
                " first score (training.rungs)."
            )
        weak.append(WeakRung(rung, epochs, share, count, sentence))
    return weak


def _values(metric: str, scores: Iterable[Metrics]) -> list[float]:
    return [score[metric] for score in scores if math.isfinite(score.get(metric, math.nan))]


def _alike(values: Sequence[float]) -> bool:
    return all(math.isclose(value, values[0], rel_tol=1e-9) for value in values)


def _guess(metric: str) -> str:
    if metric in METRICS:
        return METRICS[metric].guess
    return ""


def only_guessed(recipe: Recipe, runs: Iterable[Metrics]) -> bool:
    """Whether every run predicted one class for all images. The class may differ between runs."""
    exact = tasks.of(recipe).exact_when_guessing or ""
    values = _values(exact, runs)
    return bool(values) and 0 < values[0] <= 0.5 and _alike([*values, 1 / round(1 / values[0])])
