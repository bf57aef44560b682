"""The last runs of a search: who meets no attention again, and when enough is known.

Round after round, each on a seed and a backbone that had no part in choosing, and each decided by all that is known by then:
no attention, the one that would be recommended, the one with a larger likely gain that it was preferred to for its latency, the
best uniform baseline, and others that may turn out to be the best. The model of all evidence reads these runs with all others,
so that having chosen the best-looking of many is paid for.
"""

from __future__ import annotations

import numpy as np

from nas_attn.analysis.snapshot import CandidateView, Snapshot

ENOUGH = 0.995
"""Probability of being better than no attention from which no further round is needed."""
RIVALS = 2
"""That meet the best-looking one, besides no attention."""
DRAWS = 8
"""Draws of the truth; the best in one of them may be the best."""


def duelists(now: Snapshot, rng: np.random.Generator) -> list[CandidateView]:
    """Who runs in the next round, no attention first; empty where nothing is recommended, or nobody is there to meet."""
    model = now.evidence.get(now.primary or "")
    if now.recommendation is None or model is None:
        return []
    bare = [view for view in now.baselines if view.baseline == "none" and view.state == "scored"]
    able = {view.key: view for view in _able(now) if view not in bare}
    chosen = able.get(now.recommendation.key)
    if chosen is None and bare:
        worth = {key: gain.worth if (gain := model.gain(key, bare[0].key)) else 0.0 for key in able}
        chosen = able[max(worth, key=lambda key: (worth[key], key))] if able else None
    if chosen is None:
        return []
    uniform = [view for view in now.ordered(now.baselines) if view.key in able and view.baseline != "none"][:1]
    sign = -1.0 if model.lower_is_better else 1.0
    known = np.array([key in able for key in model.keys])
    drawn = np.where(known, sign * model.draw(rng, DRAWS), -np.inf).argmax(axis=1)
    better = now.recommendation.more_accurate
    preferred_to = [able[better.key]] if better is not None and better.key in able else []
    rivals = {
        view.key: view
        for view in [*preferred_to, *uniform, *(able[model.keys[i]] for i in drawn)]
        if view is not chosen
    }
    return [*bare, chosen, *list(rivals.values())[:RIVALS]]


def decided(now: Snapshot) -> bool:
    """Whether the recommended one is known to be better than no attention."""
    best = now.recommendation
    against = best.against_none if best is not None else None
    return against is not None and against.probability is not None and against.probability > ENOUGH


def _able(now: Snapshot) -> list[CandidateView]:
    """Candidates that may be recommended: scored to the end, within the limit on latency."""
    limit, last = now.recipe.limits.max_latency_ratio, len(now.recipe.training.rungs) - 1
    return [
        view
        for view in now.candidates
        if view.state == "scored" and view.rung == last and now.primary in view.estimates
        if limit is None or (view.latency is not None and view.latency.ratio <= limit)
    ]
