"""Placements that nobody has tried and that look worth a try: what was seen at single sites, put together anew.

Every choice at a site of a placement on the front is exchanged for every other choice that was seen there; the model of all
evidence says what to expect of each. One is suggested where it is more likely than not to be better than the best that is
known at its latency. These are predictions, of placements that never ran.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nas_attn.analysis.features import Feature, features, notation
from nas_attn.analysis.snapshot import CandidateView, Snapshot
from nas_attn.model import Estimate, Evidence
from nas_attn.model.latencies import LEAST_MEASURED, latency_model, predicted_latencies
from nas_attn.records import Latency

MOST = 300
"""Placements that are looked at."""
SHOWN = 3
LIKELY = 0.5
"""Probability of being better from which one is suggested."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """An untried placement, and what is expected of it."""

    placement: str
    metric: str
    estimate: Estimate
    """Predicted: it has no runs."""
    latency: Latency | None
    """Predicted; None where too little was measured."""
    rival: str
    """Placement of the best that is known at no more latency."""
    gain: float
    """Expected, over that, in the metric's unit; positive is better."""
    probability: float
    """That it is better."""


def suggest(now: Snapshot) -> tuple[Suggestion, ...]:
    """At most three, the largest likely gain first; empty where nothing untried looks better than what is known."""
    model = now.evidence.get(now.primary or "")
    constant = any(same.metric == now.primary for same in now.constants)
    if model is None or constant:
        return ()
    scored = [view for view in now.candidates if view.state == "scored" and view.key in model.estimates]
    if len(scored) < LEAST_MEASURED:
        return ()
    untried = _recombined(now, [view for view in scored if view.on_front])
    latencies = _latencies(now, untried)
    limit = now.recipe.limits.max_latency_ratio
    if limit is not None:
        untried = [text for text in untried if text in latencies and latencies[text].ratio <= limit]
    return _likely(untried, latencies, scored, model) if untried else ()


def _likely(
    untried: Iterable[str], latencies: Mapping[str, Latency], scored: Iterable[CandidateView], model: Evidence
) -> tuple[Suggestion, ...]:
    """Those that are likely better than the best that is known at no more latency."""
    sign, against = -1.0 if model.lower_is_better else 1.0, defaultdict[str, list[str]](list)
    best_first = sorted(scored, key=lambda view: -sign * model.estimates[view.key].mean)
    for text in untried:
        at = latencies.get(text)
        as_fast = (v for v in best_first if at is None or (v.latency is not None and v.latency.ratio <= at.ratio))
        rival = next(as_fast, None)
        if rival is not None:
            against[rival.key].append(text)
    placements = {view.key: view.placement for view in best_first}
    wider, found = model.including({text: text for text in untried}), []
    for key, texts in against.items():
        for text, gain in wider.gains(key, texts).items():
            if gain.probability >= LIKELY and gain.mean > 0:
                estimate, at, rival_text = wider.estimates[text], latencies.get(text), placements[key]
                found.append(Suggestion(text, model.metric, estimate, at, rival_text, gain.mean, gain.probability))
    return tuple(sorted(found, key=lambda one: (-one.gain * one.probability, one.placement))[:SHOWN])


def _recombined(now: Snapshot, front: Sequence[CandidateView]) -> list[str]:
    """Untried placements that differ from one of the front at a single site, by what was seen there."""
    tried = {frozenset(features(view.placement)) for view in now.candidates}
    seen: dict[str, set[Feature]] = {}
    for feature in set().union(*tried):
        seen.setdefault(feature.place, set()).add(feature)
    found: dict[frozenset[Feature], None] = {}
    for view in front:
        mine = {feature.place: feature for feature in features(view.placement)}
        for place in sorted(seen):
            for other in [None, *sorted(seen[place])]:
                one = frozenset(f for f in {**mine, place: other}.values() if f is not None)
                if one not in tried and len(found) < MOST:
                    found[one] = None
    return [notation(one) for one in found]


def _latencies(now: Snapshot, texts: Sequence[str]) -> Mapping[str, Latency]:
    """Predicted by the additive model; empty where it has too little to go by."""
    known = {view.key: view.latency for view in now.candidates if view.latency is not None}
    model = latency_model(known, {view.key: view.placement for view in now.candidates})
    if now.latency is None or model is None:
        return {}
    return dict(zip(texts, predicted_latencies(model, texts, now.latency.reference_ms), strict=True))
