"""Estimates from latency sessions: ratio to the bare backbone with its 95 % interval; predictions; what stands behind them.

A session's calls say little about its error (an interval from one session covers 56-72 %): sessions spaced in time are
the sample. An estimate is the median over sessions of their median log-ratio; its interval comes from resampling
sessions, below six sessions from the spread between sessions, pooled over all candidates. Evidence: docs/latency.md.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nas_attn.model.latencies import with_predictions
from nas_attn.records import BESIDE, CandidateRow, Latency, Session

Floats = npt.NDArray[np.float64]

ENOUGH_SESSIONS = 6
"""From here on an interval comes from resampling the candidate's own sessions."""
RESAMPLES = 2000
LEAST_CONTROL_LIMIT = math.log(1.01)
"""A session is not dropped for an A/A log-ratio within 1 %."""
PRIOR_SPREAD = 0.02
"""Between-session spread of a log-ratio that is assumed until sessions have shown theirs (measured: 1 to 3 %)."""
PRIOR_WEIGHT = 2.0
"""Degrees of freedom that the assumption counts for."""

CERTAIN = 0.975
"""Probability from which one candidate is called faster than another."""


def dropped(sessions: Sequence[Session]) -> tuple[Session, ...]:
    """Sessions whose A/A control is off by more than three robust standard deviations, and by at least 1 %.

    The deviation is 1.4826 times the median absolute control log-ratio of all sessions given: give a study's sessions,
    not one candidate's.
    """
    if not sessions:
        return ()
    controls = np.abs([session.control_log_ratio for session in sessions])
    limit = max(3 * 1.4826 * float(np.median(controls)), LEAST_CONTROL_LIMIT)
    return tuple(session for session, control in zip(sessions, controls, strict=True) if control > limit)


def estimate(sessions: Sequence[Session], *, seed: int = 0) -> dict[str, Latency]:
    """Key -> latency of every candidate with a session that counts.

    Args:
        sessions: all of a study's sessions, from one fingerprint and under one set of conditions.
        seed: of the resampling; equal sessions give equal intervals.
    """
    kept = _kept(sessions)
    if not kept:
        return {}
    ratios = _log_ratios(kept)
    reference_ms = float(np.median([session.reference_ms for session in kept]))
    spread, freedom = _pooled_spread(ratios.values())
    rng, quantile = np.random.default_rng(seed), _t_quantile(0.975, freedom)
    estimates = {}
    for key, values in ratios.items():
        median = float(np.median(values)) if len(values) > 1 else float(values[0])
        if len(values) >= ENOUGH_SESSIONS:
            low, high = _resampled(values, rng)
        else:
            half = quantile * spread * _median_factor(len(values))
            low, high = median - half, median + half
        middle = math.exp(median)
        estimates[key] = Latency(middle, math.exp(low), math.exp(high), reference_ms, len(values))
    return estimates


def needs_more(latency: Latency | None, tolerance: float) -> bool:
    """Whether more sessions are needed until the 95 % interval is within ± tolerance (a share, 0.02)."""
    if latency is None or not latency.measured:
        return True
    return half_width(latency) > tolerance


def half_width(latency: Latency) -> float:
    """Half the 95 % interval as a share of the ratio: 0.02 for ±2 %."""
    return math.sqrt(latency.high / latency.low) - 1


class Order:
    """What sessions say of which candidate is faster. What all pairs have in common is worked out once.

    Attributes:
        spread: standard deviation of a candidate's log-ratio from session to session, pooled over the candidates.
    """

    def __init__(self, sessions: Sequence[Session]) -> None:
        """Args:
        sessions: all of a study's.
        """
        kept = _kept(sessions)
        self._ratios = _log_ratios(kept)
        self._by_session: dict[str, dict[int, float]] = {}
        for number, session in enumerate(kept):
            for sample in session.samples:
                self._by_session.setdefault(sample.key, {})[number] = sample.log_ratio
        self.spread, self._freedom = _pooled_spread(self._ratios.values())

    @property
    def measured(self) -> Collection[str]:
        """Candidates with a session that counts."""
        return self._ratios.keys()

    def probability_faster(self, a: str, b: str | None) -> float:
        """Probability that candidate `a` is faster than `b` (None: the bare backbone).

        From the sessions that timed both, in pairs: Student's t of the mean difference of their log-ratios, its spread
        shrunk towards the spread pooled over all candidates. Where no session timed both, from their separate estimates.

        Raises:
            KeyError: a candidate has no session that counts.
        """
        for key in (a, b):
            if key is not None and key not in self._ratios:
                raise KeyError(key)
        spread, differences = self.spread, self._paired(a, b)
        if differences.size == 0:
            assert b is not None  # every session times the bare backbone
            mine, theirs = self._ratios[a], self._ratios[b]
            error = spread * math.hypot(_median_factor(len(mine)), _median_factor(len(theirs)))
            return _t_below((float(np.median(theirs)) - float(np.median(mine))) / error, self._freedom)
        own = differences.size - 1
        pooled = spread * (1 if b is None else math.sqrt(2))
        variance = (PRIOR_WEIGHT * pooled**2 + own * float(np.var(differences, ddof=1) if own else 0)) / (
            PRIOR_WEIGHT + own
        )
        error = math.sqrt(variance / differences.size)
        return _t_below(-float(np.mean(differences)) / error, PRIOR_WEIGHT + own)

    def told_apart(self, a: str, b: str | None) -> bool:
        """Whether one of two candidates (None: the bare backbone) is faster with a probability of at least 97.5 %."""
        probability = self.probability_faster(a, b)
        return max(probability, 1 - probability) >= CERTAIN

    def _paired(self, a: str, b: str | None) -> Floats:
        """log(a's time / b's) in every session that timed both."""
        mine = self._by_session[a]
        if b is None:
            return np.array(list(mine.values()))
        theirs = self._by_session[b]
        return np.array([ratio - theirs[number] for number, ratio in mine.items() if number in theirs])


def open_keys(
    sessions: Sequence[Session], keys: Iterable[str], *, tolerance: float, max_sessions: int, seed: int = 0
) -> list[str]:
    """Those of `keys` that need more sessions, the neediest first: unmeasured ones, then by the interval's width.

    A candidate that has had `max_sessions` (dropped ones included) is no longer open, however wide its interval is.
    """
    known = estimate(sessions, seed=seed)
    had = Counter(sample.key for session in sessions for sample in session.samples)
    wanting = [key for key in keys if had[key] < max_sessions and needs_more(known.get(key), tolerance)]
    return sorted(wanting, key=lambda key: -half_width(known[key]) if key in known else -math.inf)


@dataclass(frozen=True, slots=True)
class LatencyRecord:
    """What stands behind the study's latencies."""

    machine: str
    details: Mapping[str, str]
    conditions: Mapping[str, Any]
    sessions: int
    duration_s: float
    reference_ms: float
    """Median time of the bare backbone."""
    dropped: int
    """Sessions that do not count, because two copies of the bare backbone came out too far apart (A/A control)."""
    control_spread: float
    """Median distance from 1 of the ratio of those two copies, over all sessions."""
    beside: tuple[str, ...] = ()
    """Of each session that had not the device alone, what went on beside it."""


def latencies(rows: Iterable[CandidateRow], sessions: Sequence[Session]) -> dict[str, Latency]:
    """Estimates of the measured, predictions of the others; the bare backbone is 1 by definition."""
    found = estimate(sessions)
    for row in rows:
        if sessions and all(part.rpartition("=")[2] == "none" for part in row.placement.split()):
            found[row.key] = Latency(1.0, 1.0, 1.0, _reference_ms(sessions), len(sessions))
    return with_predictions(found, {row.key: row.placement for row in rows})


def _reference_ms(sessions: Sequence[Session]) -> float:
    return statistics.median(session.reference_ms for session in sessions)


def latency_record(sessions: Sequence[Session], more: Mapping[str, str] | None = None) -> LatencyRecord | None:
    """What stands behind the latencies; None before the first session.

    Args:
        more: what the task adds to the conditions.
    """
    if not sessions:
        return None
    newest = sessions[-1]
    return LatencyRecord(
        machine=newest.fingerprint.name,
        details=dict(newest.fingerprint.details),
        conditions={**newest.conditions, **(more or {})},
        sessions=len(sessions),
        duration_s=sum(session.duration_s for session in sessions),
        reference_ms=_reference_ms(sessions),
        dropped=len(dropped(sessions)),
        control_spread=statistics.median(abs(math.expm1(session.control_log_ratio)) for session in sessions),
        beside=tuple(session.notes[BESIDE] for session in sessions if BESIDE in session.notes),
    )


# ------------------------------------------------------------------------------------------- inside


def _kept(sessions: Sequence[Session]) -> list[Session]:
    worthless = set(map(id, dropped(sessions)))
    return [session for session in sessions if id(session) not in worthless]


def _log_ratios(sessions: Sequence[Session]) -> dict[str, Floats]:
    found: dict[str, list[float]] = {}
    for session in sessions:
        for sample in session.samples:
            found.setdefault(sample.key, []).append(sample.log_ratio)
    return {key: np.array(values) for key, values in found.items()}


def _pooled_spread(groups: Iterable[Floats]) -> tuple[float, float]:
    """(standard deviation between sessions, degrees of freedom), the prior assumption counted in."""
    squares, freedom = PRIOR_WEIGHT * PRIOR_SPREAD**2, PRIOR_WEIGHT
    for values in groups:
        if len(values) > 1:
            squares += float(np.sum((values - np.mean(values)) ** 2))
            freedom += len(values) - 1
    return math.sqrt(squares / freedom), freedom


def _median_factor(count: int) -> float:
    """Standard error of the median of `count` normal values, in standard deviations of one."""
    return math.sqrt((math.pi / 2 if count > 2 else 1.0) / count)


def _resampled(values: Floats, rng: np.random.Generator) -> tuple[float, float]:
    """2.5 % and 97.5 % quantiles of the median over resampled sessions."""
    drawn = rng.integers(len(values), size=(RESAMPLES, len(values)))
    medians = np.median(values[drawn], axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    return float(low), float(high)


def _t_below(value: float, freedom: float) -> float:
    """Probability below a value of Student's t distribution."""
    from scipy.special import stdtr

    return float(stdtr(freedom, value))


def _t_quantile(probability: float, freedom: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))
