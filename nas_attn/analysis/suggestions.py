"""Placements that nobody has tried and that look worth a try: what was seen at single sites, put together anew.

Every choice at a site of a placement on the front is exchanged for every other choice that was seen there; the model of all
evidence says what to expect of each. One is suggested where it is more likely than not to be better than the best that is
known at its latency. These are predictions, of placements that never ran.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nas_attn.analysis.features import Feature, features
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
    scored = [view for view in now.candidates if view.state == "scored" and view.key in (model.keys if model else ())]
    constant = any(same.metric == now.primary for same in now.constants)
    if model is None or constant or len(scored) < LEAST_MEASURED:
        return ()
    untried = _recombined(now, [view for view in scored if view.on_front])
    latencies = _latencies(now, untried)
    limit = now.recipe.limits.max_latency_ratio
    if limit is not None:
        untried = [text for text in untried if text in latencies and latencies[text].ratio <= limit]
    if not untried:
        return ()
    found = _compared(untried, latencies, scored, model.including({text: text for text in untried}))
    likely = [one for one in found if one.probability >= LIKELY and one.gain > 0]
    return tuple(sorted(likely, key=lambda one: (-one.gain * one.probability, one.placement))[:SHOWN])


def _compared(
    untried: Iterable[str], latencies: Mapping[str, Latency], scored: Sequence[CandidateView], model: Evidence
) -> list[Suggestion]:
    """Each placement held against the best that is known at no more latency; without those that nothing is as fast as."""
    best = _best_by_latency(scored, model)
    against: dict[str, list[str]] = {}
    rivals: dict[str, CandidateView] = {}
    for text in untried:
        latency = latencies.get(text)
        rival = _rival(best, scored, model, latency)
        if rival is not None:
            against.setdefault(rival.key, []).append(text)
            rivals[text] = rival
    found = []
    for key, texts in against.items():
        for text, gain in model.gains(key, texts).items():
            told, latency = model.estimates[text], latencies.get(text)
            placement = rivals[text].placement
            found.append(Suggestion(text, model.metric, told, latency, placement, gain.mean, gain.probability))
    return found


def _best_by_latency(scored: Iterable[CandidateView], model: Evidence) -> list[tuple[float, CandidateView]]:
    """(latency, best candidate up to there) wherever a better one comes, by latency; the first of equal ones."""
    sign = -1.0 if model.lower_is_better else 1.0
    found: list[tuple[float, CandidateView]] = []
    best = -math.inf
    known = [(view.latency.ratio, view) for view in scored if view.latency is not None]
    for ratio, view in sorted(known, key=lambda pair: pair[0]):
        value = sign * model.estimates[view.key].mean
        if value > best:
            best = value
            found.append((ratio, view))
    return found


def _rival(
    best: Sequence[tuple[float, CandidateView]],
    scored: Iterable[CandidateView],
    model: Evidence,
    latency: Latency | None,
) -> CandidateView | None:
    if latency is not None:
        place = bisect_right(best, latency.ratio, key=lambda pair: pair[0])
        return best[place - 1][1] if place else None
    sign = -1.0 if model.lower_is_better else 1.0
    return max(scored, key=lambda view: sign * model.estimates[view.key].mean, default=None)


def _recombined(now: Snapshot, front: Sequence[CandidateView]) -> list[str]:
    """Untried placements that differ from one of the front at a single site, by what was seen there."""
    tried = {frozenset(features(view.placement)) for view in now.candidates}
    seen: dict[str, set[Feature]] = {}
    for placement in tried:
        for feature in placement:
            seen.setdefault(_place(feature), set()).add(feature)
    found: dict[frozenset[Feature], None] = {}
    for view in front:
        mine = {_place(feature): feature for feature in features(view.placement)}
        for place in sorted(seen):
            for other in [None, *sorted(seen[place])]:
                changed = {**mine, place: other}
                one = frozenset(feature for feature in changed.values() if feature is not None)
                if one not in tried and len(found) < MOST:
                    found[one] = None
    return [_text(one) for one in found]


def _place(feature: Feature) -> str:
    return feature.site.partition("@")[0]


def _text(placement: Iterable[Feature]) -> str:
    return " ".join(feature.text for feature in sorted(placement)) or "none"


def _latencies(now: Snapshot, texts: Iterable[str]) -> Mapping[str, Latency]:
    """Predicted by the additive model; empty where it has too little to go by."""
    known = {view.key: view.latency for view in now.candidates if view.latency is not None}
    model = latency_model(known, {view.key: view.placement for view in now.candidates})
    if now.latency is None or model is None:
        return {}
    wanted = list(texts)
    return dict(zip(wanted, predicted_latencies(model, wanted, now.latency.reference_ms), strict=True))
