"""The last runs of a search: who is compared with the bare backbone again, and when enough is known.

Each round has a seed and a backbone that had no part in choosing, and is decided by all that is known by then: the bare
backbone, the one that would be recommended, the one with a larger likely gain that it was preferred to for its latency, the
best uniform baseline, and others that may turn out to be the best. The model of all evidence reads these runs with all others,
so that having chosen the best-looking of many is paid for.
"""

from __future__ import annotations

import numpy as np

from nas_attn.analysis.snapshot import CandidateView, Snapshot

ENOUGH = 0.995
"""Probability of being better than the bare backbone from which no further round is needed."""
RIVALS = 2
"""That run besides the best-looking one and the bare backbone."""
DRAWS = 8
"""Draws of the truth; the best in one of them may be the best."""


def next_round(now: Snapshot, rng: np.random.Generator) -> list[CandidateView]:
    """Who runs in the next round, the bare backbone first; empty if nothing is recommended, or there is nothing to compare."""
    model, best = now.evidence.get(now.primary or ""), now.recommendation
    if best is None or model is None:
        return []
    bare = [view for view in now.baselines if view.baseline == "none" and view.state == "scored"]
    able = {view.key: view for view in _able(now) if view not in bare}
    chosen = able.get(best.key)
    if chosen is None and bare and able:
        worth = {key: gain.worth if (gain := model.gain(key, bare[0].key)) else 0.0 for key in able}
        chosen = able[max(worth, key=lambda key: (worth[key], key))]
    if chosen is None:
        return []
    sign = -1.0 if model.lower_is_better else 1.0
    known = np.array([key in able for key in model.keys])
    drawn = np.where(known, sign * model.draw(rng, DRAWS), -np.inf).argmax(axis=1)
    preferred_to = [best.more_accurate.key] if best.more_accurate is not None else []
    uniform = [view.key for view in now.ordered(now.baselines) if view.key in able and view.baseline != "none"][:1]
    rivals = dict.fromkeys([*preferred_to, *uniform, *(model.keys[i] for i in drawn)])
    return [*bare, chosen, *[able[key] for key in rivals if key in able and key != chosen.key][:RIVALS]]


def decided(now: Snapshot) -> bool:
    """Whether the recommended one is known to be better than the bare backbone."""
    against = now.recommendation.against_none if now.recommendation is not None else None
    return against is not None and against.gain is not None and against.gain.probability > ENOUGH


def _able(now: Snapshot) -> list[CandidateView]:
    """Candidates that may be recommended: scored to the end, within the limit on latency."""
    limit, last = now.recipe.limits.max_latency_ratio, len(now.recipe.training.rungs) - 1
    return [
        view
        for view in now.candidates
        if view.state == "scored" and view.rung == last and now.primary in view.estimates and not view.control
        if limit is None or (view.latency is not None and view.latency.ratio <= limit)
    ]
