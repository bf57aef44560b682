"""What each choice does at each site: the additive model over sites, for latency and for trained metrics."""

from __future__ import annotations

from collections.abc import Sequence

from nas_attn.analysis.additive import LEAST_MEASURED, AdditiveModel, Observation, features, fit, latency_observations
from nas_attn.analysis.snapshot import CandidateView, Snapshot


def fit_effects(taken: Snapshot, what: str) -> AdditiveModel | None:
    """The additive model of `latency` (a share of the bare backbone's time) or of a metric (in its own unit).

    None with fewer than eight candidates that were measured, or scored at the last rung.
    """
    found = _latencies(taken) if what == "latency" else _scores(taken, what)
    return fit(found) if len(found) >= LEAST_MEASURED else None


def _latencies(taken: Snapshot) -> Sequence[Observation]:
    latencies = {view.key: view.latency for view in taken.candidates if view.latency is not None}
    return latency_observations(latencies, {view.key: view.placement for view in taken.candidates})


def _scores(taken: Snapshot, metric: str) -> Sequence[Observation]:
    last = len(taken.recipe.training.rungs) - 1
    floor = taken.noise.get(metric)
    if floor is None or not floor.seed_sd:
        return []
    found = []
    for view in taken.candidates:
        values = _at(view, metric, last)
        if values:
            found.append((features(view.placement), sum(values) / len(values), len(values) / floor.seed_sd**2))
    return found


def _at(view: CandidateView, metric: str, rung: int) -> list[float]:
    return [point.metrics[metric] for point in view.scores if point.rung == rung and metric in point.metrics]
