"""A metric that came out the same for every candidate: said plainly, because every comparison by it is empty."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nas_attn import tasks
from nas_attn.analysis import units
from nas_attn.costs import is_cost
from nas_attn.recipe import Recipe, objective_name

FEWEST = 2
"""Candidates with the same value from which on it is worth saying."""


@dataclass(frozen=True, slots=True)
class Constant:
    """A metric that has not told two candidates apart."""

    metric: str
    value: float
    candidates: int
    """All that were scored at the last rung."""
    runs: int
    sentence: str
    """What it may mean, for a person."""


def constants(recipe: Recipe, primary: str | None, runs: Mapping[str, Sequence[Mapping[str, float]]]) -> list[Constant]:
    """The metrics among the objectives, and the primary one, that are the same in all runs of all candidates.

    Args:
        runs: key -> metrics of each of its runs at the last rung.
    """
    trained = [objective_name(objective) for objective in recipe.objectives if not is_cost(objective)]
    found = []
    for metric in dict.fromkeys([*trained, *([primary] if primary else [])]):
        having = {key: known for key, scores in runs.items() if (known := _values(metric, scores))}
        values = [value for known in having.values() for value in known]
        if len(having) < FEWEST:
            continue
        guessing = metric == "accuracy" and _guessing(runs)
        if guessing or _alike(values):
            said = _sentence(recipe, metric, values, len(having), guessing)
            found.append(Constant(metric, values[0], len(having), len(values), said))
    return found


def _alike(values: Sequence[float]) -> bool:
    return all(math.isclose(value, values[0], rel_tol=1e-9) for value in values)


def _guessing(runs: Mapping[str, Sequence[Mapping[str, float]]]) -> bool:
    """Whether every run named one class for all images: all of one class right, none of the others; which, may differ."""
    values = [value for scores in runs.values() for value in _values("balanced_accuracy", scores)]
    return bool(values) and 0 < values[0] <= 0.5 and _alike([*values, 1 / round(1 / values[0])])


def _values(metric: str, scores: Iterable[Mapping[str, float]]) -> list[float]:
    return [score[metric] for score in scores if math.isfinite(score.get(metric, math.nan))]


def _sentence(recipe: Recipe, metric: str, values: Sequence[float], candidates: int, guessing: bool) -> str:
    value = values[0]
    shown = list(dict.fromkeys(units.value(metric, value) for value in (min(values), max(values))))
    what = f"{metric} is {' to '.join(shown)} in all {len(values)} runs of all {candidates} candidates"
    task = tasks.of(recipe)
    if recipe.training.evaluator is not None:
        nothing = (
            "finds nothing to score (no detection, labels that do not fit)" if value == 0 else "returns a constant"
        )
        why = f"perhaps training.evaluator {nothing}, or it trains too briefly for this metric to change"
    elif task.why_constant:
        why = task.why_constant
    elif metric == "accuracy" and value == 1:
        why = "perhaps the task is too easy, or validation images are among the training images"
    else:
        why = (
            f"perhaps training is too brief to exceed chance ({_epochs(recipe)}), or the labels do not match the images"
        )
        what += ", each predicting the same class for every image" if guessing else ""
    return f"{what}: it separates no candidates, so nothing can be recommended by it; {why}."


def _epochs(recipe: Recipe) -> str:
    return "training.backbone_epochs" if recipe.training.start == "backbone" else "training.rungs"
