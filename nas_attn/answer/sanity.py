"""Metrics and rungs that separate no candidates, and what int8 does to a gain."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from nas_attn.model import Evidence
from nas_attn.recipe import tasks
from nas_attn.recipe.recipe import Recipe, objective_name
from nas_attn.recipe.tables import IN_INT8, METRICS, is_cost

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
    lowest: float
    """Of all values, which may differ by rounding, or, where all guess, by more."""
    highest: float
    candidates: int
    """All that were scored at the last rung."""
    runs: int
    guessing: bool
    """Whether every run predicted one class for all images."""


@dataclass(frozen=True, slots=True)
class WeakRung:
    """A rung before the last one whose scores hardly separate candidates."""

    metric: str
    rung: int
    epochs: int
    reliability: float
    """Share of the variance of one run's score that comes from the placements."""
    candidates: int


@dataclass(frozen=True, slots=True)
class Int8Change:
    """What a placement changes against the bare backbone, paired by seed, in int8 and in
    float32.
    """

    metric: str
    in_int8: float
    in_float: float
    runs: int

    @property
    def is_lost(self) -> bool:
        """Whether a gain does not survive int8."""
        return self.in_float > 0 >= self.in_int8


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
            same.append(
                Constant(
                    metric=metric,
                    value=values[0],
                    lowest=min(values),
                    highest=max(values),
                    candidates=len(having),
                    runs=len(values),
                    guessing=guessing,
                )
            )
    return same


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
        if count >= LEAST_AT_RUNG and share is not None and share < WEAK_RELIABILITY:
            weak.append(WeakRung(name, rung, rungs[rung], share, count))
    return weak


# seed -> metrics of a run at the last rung
Runs = Mapping[int, Mapping[str, float]]


def int8_change(metric: str | None, placed: Runs, bare: Runs) -> Int8Change | None:
    """A placement against the bare backbone; None without scores in int8."""
    plain = (metric or "").removesuffix(IN_INT8)
    name = f"{plain}{IN_INT8}"
    seeds = [
        seed
        for seed in sorted(placed.keys() & bare.keys())
        if name in placed[seed] and name in bare[seed]
    ]
    if not seeds:
        return None
    in_float, in_int8 = (
        fmean(placed[seed][m] - bare[seed][m] for seed in seeds) for m in (plain, name)
    )
    return Int8Change(plain, in_int8, in_float, len(seeds))


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
