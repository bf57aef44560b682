"""Times between what ends in a study, without the pauses in which nobody searched."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

# a pause: longer than so many usual gaps, and than so many seconds
PAUSE = 10.0
LEAST_PAUSE_S = 60.0
# and than so many runs: workers that end together leave gaps of a whole run, which are no pauses
PAUSE_RUNS = 3.0


def without_pauses(gaps: Sequence[float], run_s: Callable[[], float]) -> list[float]:
    """The gaps that are no pauses between calls.
    `run_s`: gives the seconds of a run; called only if there may be a pause.
    """
    # of two, one may be a pause
    longest = max(PAUSE * statistics.median_low(gaps), LEAST_PAUSE_S)
    if max(gaps) > longest:
        longest = max(longest, PAUSE_RUNS * run_s())
    return [gap for gap in gaps if gap <= longest]
