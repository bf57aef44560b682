"""What published comparisons of networks with and without attention say of the next one: the
predictions that `research/evidence` makes from all of them and writes as a table.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TABLE_FILE = Path(__file__).with_suffix(".json")
# Share of the next comparisons that an interval is to hold.
COVERAGE = 0.8


@dataclass(frozen=True, slots=True)
class ExpectedGain:
    """What the next comparison would show, points."""

    mean: float
    low: float
    """With `high`, the interval that holds a share of `COVERAGE`."""
    high: float
    probability: float
    """That the gain is above zero."""
    pairs: int
    """Of trainings that were compared."""
    networks: int
    """On data sets, among them."""
    sources: Sequence[str]


@cache
def published_gains() -> dict[tuple[str, ...], ExpectedGain]:
    """(task, place, start, form, module) -> gain; without a module, of modules as the comparisons
    of this setting have them.
    """
    rows = json.loads(TABLE_FILE.read_text(encoding="utf-8"))
    return {tuple(row["of"]): ExpectedGain(**row["gain"]) for row in rows}
