"""Which candidates may be recommended, and small questions about them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nas_attn.answer.snapshot import CandidateView, Snapshot
from nas_attn.recipe.recipe import Recipe, objective_name


def best_uniform(now: Snapshot) -> CandidateView | None:
    """The best of the uniform placements that may be recommended."""
    return next(
        (
            view
            for view in now.ordered(able_to_win(now))
            if view.baseline is not None and not view.is_bare
        ),
        None,
    )


def able_to_win(now: Snapshot) -> list[CandidateView]:
    """Those that may be recommended."""
    limit = now.recipe.limits.max_latency_ratio
    return [view for view in finished(now) if limit is None or latency_ratio(view) <= limit]


def finished(now: Snapshot) -> list[CandidateView]:
    """Candidates with attention or bare that were scored to the end."""
    last = len(now.recipe.training.rungs) - 1
    pool = [
        view
        for view in now.candidates
        if view.state == "scored" and view.rung == last and not view.control
    ]
    return [view for view in pool if now.primary is None or now.primary in view.estimates]


def unmeasured(
    recipe: Recipe, views: Sequence[CandidateView], *, measured: bool
) -> list[CandidateView]:
    """Candidates that are trained to the end and wait for the machine that measures latencies.

    Args:
        recipe: the study's; nothing waits if it needs no latency.
        views: all candidates.
        measured: whether the study's machine has measured anything; if not, scored ones wait, too.
    """
    needed = {objective_name(objective) for objective in recipe.objectives}
    if "latency" not in needed and recipe.limits.max_latency_ratio is None:
        return []
    states = ("running",) if measured else ("running", "scored")
    last = len(recipe.training.rungs) - 1
    return [
        view
        for view in views
        if view.state in states and view.rung == last and view.latency is None and not view.is_bare
    ]


def latency_ratio(view: CandidateView) -> float:
    if view.latency is None:
        return math.inf
    return view.latency.ratio
