"""Rungs whose scores hardly tell placements apart, so that pruning there is mostly chance."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nas_attn.model import Evidence
from nas_attn.recipe import Recipe

FEWEST = 12
"""Candidates that a rung needs before it is judged."""
WEAK = 0.1
"""Share of the variance of one run's score that is difference between placements; below it a rung says next to nothing."""


@dataclass(frozen=True, slots=True)
class WeakRung:
    """A rung before the last whose scores say next to nothing."""

    rung: int
    epochs: int
    reliability: float
    """Share of the variance of one run's score that is difference between placements."""
    candidates: int
    sentence: str
    """What it means, and what to change, for a person."""


def weak_rungs(
    recipe: Recipe, metric: str | None, models: Iterable[tuple[tuple[str, int], Evidence]]
) -> list[WeakRung]:
    """The rungs before the last that say next to nothing of a metric; none where fewer than FEWEST have been scored there.

    Args:
        models: ((metric, rung), evidence).
    """
    rungs, found = recipe.training.rungs, []
    for (name, rung), model in models:
        if name != metric or rung >= len(rungs) - 1:
            continue
        count = sum(estimate.seeds > 0 for estimate in model.estimates.values())
        share = model.noise.reliability(1)
        if count >= FEWEST and share is not None and share < WEAK:
            said = _sentence(recipe, rungs[rung], name, share, count)
            found.append(WeakRung(rung, rungs[rung], share, count, said))
    return found


def _sentence(recipe: Recipe, epochs: int, metric: str, share: float, count: int) -> str:
    said = (
        f"After {epochs} epoch{'s' if epochs > 1 else ''} scores hardly tell placements apart: {100 * share:.0f} % of the variance "
        f"of one run's {metric} is difference between placements ({count} candidates)."
    )
    if recipe.search.pruner == "none":
        return said
    return f"{said} Pruning at this rung is mostly chance. In a new study, train longer before the first score (training.rungs)."
