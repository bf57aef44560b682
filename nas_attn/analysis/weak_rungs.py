"""Rungs whose scores hardly tell placements apart, so that pruning there is chance: noticed while a search goes on.

With `search.rungs = "auto"` nobody is pruned at such a rung, nor at one of which it is not known yet (`study.telling_rungs`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nas_attn.analysis.evidence import Evidence
from nas_attn.recipe import Recipe

FEWEST = 12
"""Candidates scored at a rung from which on it is judged."""
REPEATED = 8
"""Of these, that run twice there in a search which prunes by what is found (`study.telling_rungs`). From scratch, where the images say
little of the noise, 12 to 48 single runs leave a rung that tells nothing and one that tells nearly all at the same reliability (.2)."""
WEAK = 0.1
"""Share of the variance of one run's score that is difference between placements, below which it says next to nothing."""

TELLING = 0.25
"""The same from which on a rung is worth pruning at, where the search decides: below, halving gained nothing (docs/benchmarks/search.md),
and of rungs that tell nothing one in four was taken for better than WEAK after 12 candidates."""


@dataclass(frozen=True, slots=True)
class Judged:
    """How far the scores of a rung tell placements apart."""

    candidates: int
    """That had been scored there."""
    reliability: float | None
    """Share of the variance of one run's score that is difference between placements; None where all scores are one."""

    @property
    def tells(self) -> bool:
        """Whether who is pruned there is more than chance."""
        return self.reliability is not None and self.reliability >= TELLING


def judged(model: Evidence) -> Judged | None:
    """What a rung's own model says of it; None where fewer than FEWEST candidates have been scored there."""
    count = sum(estimate.seeds > 0 for estimate in model.estimates.values())
    return Judged(count, model.noise.reliability(1)) if count >= FEWEST else None


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
    """The rungs before the last that say next to nothing of a metric; none where too few have been scored there.

    Args:
        models: ((metric, rung), evidence).
    """
    rungs, found = recipe.training.rungs, []
    for (name, rung), model in models:
        if name != metric or rung >= len(rungs) - 1:
            continue
        known = judged(model)
        if known is None or known.reliability is None:
            continue
        share, count = known.reliability, known.candidates
        if share < (TELLING if recipe.search.rungs == "auto" else WEAK):
            found.append(WeakRung(rung, rungs[rung], share, count, _sentence(recipe, rung, name, share, count)))
    return found


def _sentence(recipe: Recipe, rung: int, metric: str, share: float, count: int) -> str:
    epochs = recipe.training.rungs[rung]
    after = f"After {epochs} epoch{'s' if epochs > 1 else ''}"
    held = f"{100 * share:.0f} % of what one run's {metric} varies by is difference between placements ({count} candidates)"
    if recipe.search.pruner == "none":
        return f"{after} scores hardly tell placements apart: {held}."
    if recipe.search.rungs == "auto":
        return (
            f"{after} scores hardly tell placements apart: {held}, so nothing is pruned there (search.rungs = 'auto')."
        )
    return (
        f"{after} scores hardly tell placements apart: {held}, so who is pruned there is mostly chance; in a new study prune only "
        "where they do (search.rungs = 'auto'), or train longer before the first score (training.rungs)."
    )
