"""Paired latency rounds: in each, every network has one turn, in random order."""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

Call = Callable[[], object]
# (milliseconds a call on the study's clock, milliseconds a call on the wall clock)
Times = tuple[float, float]
# does one untimed call, then times so many
Turn = Callable[[int], Times]

MIN_ROUNDS = 5
# A turn repeats a short call until it takes about this long, so that overhead does not matter
TURN_MS = 10.0
MAX_CALLS = 32
MAX_CANDIDATES = 8


def host_turn(call: Call, calls: int, *, own_time: bool) -> Times:
    """One turn on the clock of this thread's CPU time, or on the wall clock."""
    call()
    wall = time.perf_counter_ns()
    own = time.thread_time_ns()
    for _ in range(calls):
        call()
    own = time.thread_time_ns() - own
    wall = time.perf_counter_ns() - wall
    return (own if own_time else wall) / calls / 1e6, wall / calls / 1e6


def time_rounds(
    turns: Sequence[Turn],
    rng: random.Random,
    *,
    seconds: float,
    fewest: int = MIN_ROUNDS,
    calls: int | None = None,
) -> tuple[list[list[Times]], int]:
    """Times networks in rounds, in each of which every network has one turn, in random order.

    Args:
        turns: of the reference, its control, and the others.
        rng: gives the order.
        seconds: how long it goes on.
        fewest: the least number of rounds.
        calls: timed calls a turn; None: as many as take about TURN_MS.

    Returns:
        Of each network its times by round, and the timed calls a turn.
    """
    # runs all networks, so that all start equally warm
    if calls is None:
        reference, control, *_ = [turn(1)[0] for turn in turns]
        calls = max(1, min(MAX_CALLS, round(TURN_MS / max(min(reference, control), 1e-3))))
    times: list[list[Times]] = [[] for _ in turns]
    order = list(range(len(turns)))
    end = time.perf_counter() + seconds
    while len(times[0]) < fewest or time.perf_counter() < end:
        rng.shuffle(order)
        for index in order:
            times[index].append(turns[index](calls))
    return times, calls


def summary(times: Sequence[Sequence[Times]], keys: Sequence[str], calls: int) -> dict[str, Any]:
    """The results of rounds: `reference_ms`, `control_log_ratio` and `samples`, in the fields of
    `records.Session`.
    """
    reference, control, *candidates = times
    copies = (reference, control)
    samples = []
    for key, mine in zip(keys, candidates, strict=True):
        sample = {
            "key": key,
            "log_ratio": _log_ratio(mine, copies, 0),
            "candidate_ms": statistics.median(own for own, _ in mine),
            "wall_log_ratio": _log_ratio(mine, copies, 1),
            "wall_ms": statistics.median(wall for _, wall in mine),
            "calls": calls * len(mine),
        }
        samples.append(sample)
    return {
        "reference_ms": statistics.median(own for own, _ in (*reference, *control)),
        "control_log_ratio": _log_ratio(control, (reference,), 0),
        "samples": samples,
    }


def _log_ratio(times: Sequence[Times], copies: Sequence[Sequence[Times]], clock: int) -> float:
    """Median over rounds of log(time / geometric mean of the copies' times in the same round)."""
    log_ratios = []
    for mine, *round_copies in zip(times, *copies, strict=True):
        copied = statistics.fmean(math.log(theirs[clock]) for theirs in round_copies)
        log_ratios.append(math.log(mine[clock]) - copied)
    return statistics.median(log_ratios)
