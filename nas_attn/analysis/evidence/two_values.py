"""Runs that lie at two values: a network either finds what its task needs or does not, from one seed or backbone to the next.

Then a low run is no broken one: cut as such, what was cut off would be its placement's own for certain, although the next run may find it.
How much better the answers are for it, and what was tried besides: docs/benchmarks/trust.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from nas_attn.analysis.evidence.facts import Run

Floats = NDArray[np.float64]

FEWEST, SHARE = 3, 0.1
"""Runs, and share of all runs, that lie at each of the values at least: else they are exceptions."""
APART = 4.0
"""The gap between them, over the standard deviation around them."""


def two_values(runs: Sequence[Run], values: Floats, block: NDArray[np.intp]) -> tuple[float, float] | None:
    """The values at which runs lie, the lower one first, where those of one block lie at both, and those of one placement too.

    Args:
        runs: of one rung.
        values: (runs,) theirs.
        block: (runs,) their blocks, whose levels may differ.
    """
    least = max(FEWEST, int(np.ceil(SHARE * len(values))))
    ordered = np.sort(values)
    gaps = np.diff(ordered)[least - 1 : len(values) - least]
    if not len(gaps):
        return None
    at = least + int(gaps.argmax())
    low, high = ordered[:at], ordered[at:]
    around = np.sqrt((low.var() * len(low) + high.var() * len(high)) / len(values))
    if gaps.max() <= APART * around:
        return None
    upper = values >= high[0]
    both = _at_both([run.key for run in runs], upper, 1) and _at_both(block.tolist(), upper, 2)
    return (float(low.mean()), float(high.mean())) if both else None


def _at_both(names: Sequence[Hashable], upper: NDArray[np.bool_], least: int) -> bool:
    """Whether so many runs of one name are at each of the values."""
    found: defaultdict[Hashable, list[int]] = defaultdict(lambda: [0, 0])
    for name, at in zip(names, upper.tolist(), strict=True):
        found[name][at] += 1
    return any(min(counts) >= least for counts in found.values())
