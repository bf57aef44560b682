"""A study's latencies, and what stands behind them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nas_attn.analysis.latency import dropped
from nas_attn.analysis.latency import estimate as estimate_latency
from nas_attn.model.latencies import with_predictions
from nas_attn.records import BESIDE, CandidateRow, Latency, Session


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
    found = dict(estimate_latency(sessions)) if sessions else {}
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
