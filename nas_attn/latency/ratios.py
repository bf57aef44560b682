"""Latencies from sessions, as ratios to the bare backbone with 95 % intervals; and predictions for
unmeasured placements.

Sessions spaced in time are the sample. An estimate is the median over sessions of their median
log-ratio; its interval is Student's t of the spread between the candidate's own sessions, shrunk
towards the spread pooled over all candidates; below six sessions it is the pooled one. Evidence:
docs/explain/latency.md.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from nas_attn.errors import several
from nas_attn.model.assembling import MOST_FITTED, Data
from nas_attn.model.coding import Coding, Floats, Shape
from nas_attn.model.features import features, is_other
from nas_attn.model.mixtures import moments
from nas_attn.model.solution import NodeEffects, Solution, Sum
from nas_attn.space.placement import Placement
from nas_attn.storage.records import BESIDE, CandidateRow, Latency, Session

# of a candidate, dropped ones included
MAX_SESSIONS = 24
# with so many, an interval comes from the candidate's own sessions
ENOUGH_SESSIONS = 6
# a session is not dropped for an A/A log-ratio within 1 %
LEAST_CONTROL_LIMIT = math.log(1.01)
# prior of the spread between sessions (measured: 1 to 3 %); degrees of freedom
PRIOR_SPREAD = 0.02
PRIOR_WEIGHT = 2.0
LATENCY_SHAPES = (
    Shape(0.4, site=0.5, type=0.498, own=0.002),
    Shape(0.3, site=0.98, own=0.02),
    Shape(0.2, site=0.49, type=0.49, own=0.02),
    Shape(0.1, site=0.4, type=0.4, pair=0.18, own=0.02),
)
"""Latencies are nearly sums over sites: R² of .98 to 1 on the machines that were measured."""
# measured candidates that the model needs to predict others
LEAST_MEASURED = 8
# a measurement so many standard deviations from its prediction is suspicious
OUTLIER = 4.0
# least half-width that the model assumes for a ratio, as a share
LEAST_HALF = 1e-3


def dropped(sessions: Sequence[Session]) -> tuple[Session, ...]:
    """The sessions whose A/A check is off by more than 3 robust standard deviations and by at
    least 1 %.
    """
    if not sessions:
        return ()
    controls = np.abs([session.control_log_ratio for session in sessions])
    limit = max(3 * 1.4826 * float(np.median(controls)), LEAST_CONTROL_LIMIT)
    return tuple(
        session for session, control in zip(sessions, controls, strict=True) if control > limit
    )


def estimate(sessions: Sequence[Session]) -> dict[str, Latency]:
    """Key -> latency of all candidates with a session that counts, from comparable sessions.

    Measuring stops when an interval is narrow, which favours sessions that agree by chance. So an
    interval never rests on a candidate's own sessions alone.
    """
    kept = _kept(sessions)
    if not kept:
        return {}
    ratios = _log_ratios(kept)
    reference_ms = float(np.median([session.reference_ms for session in kept]))
    spread, freedom = _pooled_spread(ratios.values())
    estimates = {}
    for key, values in ratios.items():
        median = float(np.median(values))
        half = _half_interval(values, spread, freedom)
        low = median - half
        high = median + half
        estimates[key] = Latency(
            math.exp(median), math.exp(low), math.exp(high), reference_ms, len(values)
        )
    return estimates


def needs_more(latency: Latency | None, tolerance: float) -> bool:
    """Whether more sessions are needed until the 95 % interval is within ± tolerance (a share,
    0.02).
    """
    return latency is None or not latency.measured or latency.half_width > tolerance


def probability_faster(one: Latency, other: Latency | None) -> float:
    """Probability that a network is faster than another one (None: the bare backbone), from their
    estimates.
    """
    difference = math.log(one.ratio)
    variance = _log_variance(one)
    if other is not None:
        difference -= math.log(other.ratio)
        variance += _log_variance(other)
    return statistics.NormalDist(difference, math.sqrt(variance)).cdf(0.0)


def _log_variance(latency: Latency) -> float:
    return (math.log(latency.high / latency.low) / (2 * 1.96)) ** 2


def open_keys(
    sessions: Sequence[Session],
    keys: Iterable[str],
    *,
    tolerance: float,
    max_sessions: int = MAX_SESSIONS,
) -> list[str]:
    """Chooses the candidates that need more sessions, the neediest first.

    Args:
        sessions: those that there are, comparable with each other.
        keys: the candidates that count.
        tolerance: half-width of the 95 % interval that is enough, as a share of the ratio.
        max_sessions: those that had so many, dropped ones included, need no more.

    Returns:
        Keys of candidates.
    """
    latencies = estimate(sessions)
    had = Counter(sample.key for session in sessions for sample in session.samples)
    wanting = [
        key for key in keys if had[key] < max_sessions and needs_more(latencies.get(key), tolerance)
    ]
    return sorted(
        wanting, key=lambda key: -latencies[key].half_width if key in latencies else -math.inf
    )


def sessions_needed(
    sessions: Sequence[Session], keys: Iterable[str], *, tolerance: float
) -> list[int]:
    """About how many more sessions each insufficiently measured candidate needs; errors shrink with
    the square root.
    """
    latencies = estimate(sessions)
    had = Counter(sample.key for session in sessions for sample in session.samples)
    needed = []
    for key in open_keys(sessions, keys, tolerance=tolerance):
        more = ENOUGH_SESSIONS
        if latency := latencies.get(key):
            more = math.ceil(latency.sessions * ((latency.half_width / tolerance) ** 2 - 1))
        needed.append(min(MAX_SESSIONS - had[key], more))
    return needed


def session_spread(sessions: Sequence[Session]) -> float:
    """The standard deviation of log-ratios between sessions, pooled over candidates."""
    return _pooled_spread(_log_ratios(_kept(sessions)).values())[0]


def _kept(sessions: Sequence[Session]) -> list[Session]:
    worthless = set(map(id, dropped(sessions)))
    return [session for session in sessions if id(session) not in worthless]


def _log_ratios(sessions: Sequence[Session]) -> dict[str, Floats]:
    ratios: dict[str, list[float]] = {}
    for session in sessions:
        for sample in session.samples:
            ratios.setdefault(sample.key, []).append(sample.log_ratio)
    return {key: np.array(values) for key, values in ratios.items()}


def _pooled_spread(groups: Iterable[Floats]) -> tuple[float, float]:
    """(standard deviation between sessions, degrees of freedom), the prior included."""
    squares = PRIOR_WEIGHT * PRIOR_SPREAD**2
    freedom = PRIOR_WEIGHT
    for values in groups:
        if len(values) > 1:
            squares += float(np.sum((values - np.mean(values)) ** 2))
            freedom += len(values) - 1
    return math.sqrt(squares / freedom), freedom


def _shrunk_spread(values: Floats, pooled: float) -> tuple[float, float]:
    """(standard deviation between a candidate's sessions, shrunk towards the pooled one; degrees of
    freedom).
    """
    squares = PRIOR_WEIGHT * pooled**2 + float(np.sum((values - np.mean(values)) ** 2))
    freedom = PRIOR_WEIGHT + len(values) - 1
    return math.sqrt(squares / freedom), freedom


def _half_interval(values: Floats, pooled: float, freedom: float) -> float:
    """Half the 95 % interval of a candidate's log-ratio. `pooled`, `freedom`: of all sessions."""
    from scipy.special import stdtrit

    spread = pooled
    if len(values) >= ENOUGH_SESSIONS:
        spread, freedom = _shrunk_spread(values, pooled)
    return float(stdtrit(freedom, 0.975)) * spread * _median_factor(len(values))


def _median_factor(count: int) -> float:
    """Standard error of the median of `count` normal values, in standard deviations of one."""
    return math.sqrt((math.pi / 2 if count > 2 else 1.0) / count)


@dataclass(frozen=True, slots=True)
class LatencyRecord:
    """Conditions and quality of the study's latency measurements."""

    machine: str
    details: Mapping[str, str]
    conditions: Mapping[str, Any]
    sessions: int
    duration_s: float
    # median time of the bare backbone
    reference_ms: float
    # sessions that do not count: two copies of the bare backbone differed too much (A/A check)
    dropped: int
    # median of |ratio of those two copies - 1| over all sessions
    control_spread: float
    # what else ran, for each session that did not have the device alone
    beside: tuple[str, ...] = ()


def latencies(rows: Iterable[CandidateRow], sessions: Sequence[Session]) -> dict[str, Latency]:
    """Estimates for measured candidates, predictions for the others; the bare backbone is 1 by
    definition.
    """
    measured = estimate(sessions)
    for row in rows:
        if sessions and not is_other(row.placement) and not features(row.placement):
            measured[row.key] = Latency(1.0, 1.0, 1.0, _reference_ms(sessions), len(sessions))
    return with_predictions(measured, {row.key: row.placement for row in rows})


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Measurements on a device other than the study's."""

    machine: str
    mode: str
    # what else makes it another device: software, threads, clocks
    details: Mapping[str, str]
    # key -> estimate
    latencies: Mapping[str, Latency]


def by_device(sessions: Iterable[Session]) -> list[Elsewhere]:
    """Sessions of several devices, device by device; each software and mode is a device of its
    own.
    """
    groups: dict[str, list[Session]] = {}
    for session in sessions:
        groups.setdefault(session.fingerprint.id, []).append(session)
    return [
        Elsewhere(
            machine=group[0].fingerprint.name,
            mode=str(group[0].conditions.get("mode")),
            details=dict(group[0].fingerprint.details),
            latencies=estimate(group),
        )
        for group in groups.values()
    ]


def _reference_ms(sessions: Sequence[Session]) -> float:
    return statistics.median(session.reference_ms for session in sessions)


def latency_record(sessions: Sequence[Session], more: Mapping[str, str]) -> LatencyRecord | None:
    """The record of the latencies; None before the first session. `more`: the task's further
    conditions.
    """
    if not sessions:
        return None
    newest = sessions[-1]
    return LatencyRecord(
        machine=newest.fingerprint.name,
        details=dict(newest.fingerprint.details),
        conditions={**newest.conditions, **more},
        sessions=len(sessions),
        duration_s=sum(session.duration_s for session in sessions),
        reference_ms=_reference_ms(sessions),
        dropped=len(dropped(sessions)),
        control_spread=statistics.median(
            abs(math.expm1(session.control_log_ratio)) for session in sessions
        ),
        beside=tuple(session.notes[BESIDE] for session in sessions if BESIDE in session.notes),
    )


# (explicit, ratio to the bare backbone, half of its 95 % interval)
Measured = tuple[Placement, float, float]


class LatencyModel:
    """The latency ratio as a sum of effects of sites and types, pairs, and each placement's rest;
    made by `latency_model`.
    """

    def __init__(self, measured: Sequence[Measured]) -> None:
        self._placements = [placement for placement, _, _ in measured]
        ratios = np.array([ratio for _, ratio, _ in measured])
        noise = np.array([max(half, LEAST_HALF * ratio) ** 2 for _, ratio, half in measured])
        weight = np.clip(noise / np.median(noise), 0.01, 100.0)
        data = Data.simple(
            *Coding.of(self._placements, len(measured)), np.arange(len(measured)), ratios, weight
        )
        self._solution = Solution(data, self._placements, LATENCY_SHAPES)

    def predict(self, placements: Sequence[Placement]) -> list[tuple[float, float]]:
        """(ratio, standard error) of placements, measured or not, each one's own rest included."""
        at = {placement: i for i, placement in enumerate(self._placements)}
        place = np.array([at.get(placement, -1) for placement in placements], dtype=np.intp)
        means, variances, _ = NodeEffects(self._solution, placements, place).marginals()
        return self._moments(means, variances)

    def sums(self, sums: Sequence[Sum]) -> list[tuple[float, float]]:
        """(ratio, standard error) of weighted sums of placements' additions to the bare
        backbone.
        """
        return self._moments(*self._solution.sums(sums))

    @property
    def outliers(self) -> set[Placement]:
        errors, sds = self._left_out
        return {
            placement
            for placement, z in zip(self._placements, np.abs(errors / sds), strict=True)
            if z > OUTLIER
        }

    @property
    def cv_error(self) -> float:
        return math.sqrt(float(np.mean(self._left_out[0] ** 2)))

    @cached_property
    def _left_out(self) -> tuple[Floats, Floats]:
        """(errors, their standard deviations) of leave-one-out predictions, at the median noise."""
        nodes = self._solution.nodes
        node = int(np.argsort(nodes.noise)[len(nodes.noise) // 2])
        solved = self._solution.solved[node]
        inverse = np.linalg.solve(solved.root, np.eye(len(solved.root)))
        down = np.linalg.solve(solved.inner, solved.means.T @ inverse)
        precision = inverse.T @ inverse - down.T @ down
        diagonal = np.diag(precision)
        return precision @ self._solution.data.value / diagonal, nodes.noise[node] / np.sqrt(
            diagonal
        )

    def _moments(self, means: Floats, variances: Floats) -> list[tuple[float, float]]:
        mean, sd = moments(self._solution.nodes.weight, means, variances)
        return list(zip(mean.tolist(), sd.tolist(), strict=True))


# a report uses the same model in several places
_model = lru_cache(maxsize=2)(LatencyModel)


def latency_model(
    latencies: Mapping[str, Latency], placements: Mapping[str, Placement]
) -> LatencyModel | None:
    """The model of measured latencies (by key); None if too few were measured."""
    measured = []
    for key, latency in latencies.items():
        if latency.measured and key in placements and not is_other(placements[key]):
            measured.append((placements[key], latency.ratio, (latency.high - latency.low) / 2))
    if len(measured) < LEAST_MEASURED:
        return None
    if len(measured) > MOST_FITTED:
        measured = [measured[i] for i in np.linspace(0, len(measured) - 1, MOST_FITTED).astype(int)]
    return _model(tuple(measured))


def with_predictions(
    latencies: Mapping[str, Latency], placements: Mapping[str, Placement]
) -> dict[str, Latency]:
    """Measured latencies, the bare one's included, with predictions for other `placements`; no
    predictions if too few were measured.
    """
    missing = sorted(
        key for key in placements.keys() - latencies.keys() if not is_other(placements[key])
    )
    model = None
    if missing:
        model = latency_model(latencies, placements)
    if model is None:
        return dict(latencies)
    reference_ms = next(iter(latencies.values())).reference_ms
    complete = dict(latencies)
    for key, (ratio, error) in zip(
        missing, model.predict([placements[key] for key in missing]), strict=True
    ):
        low = max(ratio - 1.96 * error, 1e-3)
        high = max(ratio + 1.96 * error, low)
        complete[key] = Latency(
            max(ratio, low), low, high, reference_ms, sessions=0, measured=False
        )
    return complete


def suspicious(latencies: Mapping[str, Latency], placements: Mapping[str, Placement]) -> list[str]:
    """Keys whose measured latency is far from its prediction by all others: measure them again.
    Empty if too few were measured.
    """
    model = latency_model(latencies, placements)
    outliers = model.outliers if model else set()
    return [
        key
        for key, latency in latencies.items()
        if latency.measured and placements.get(key) in outliers
    ]


def not_alone(notes: Sequence[str]) -> str:
    """A sentence about latency sessions that did not have the device alone, from a note of each;
    empty without any.
    """
    if not notes:
        return ""
    others = "; ".join(dict.fromkeys(notes))
    return (
        f"{several(len(notes), 'latency session')} did not have the device alone: next to {others}."
    )
