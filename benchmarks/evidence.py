"""How well the pooled evidence predicts comparisons that it has not seen.

    python -m benchmarks.evidence [--each]     # some seconds

Leaves out, in turn, every group (source, data set and network), every source, and every setting
(task, place, start and form), fits the rest, and predicts what was left out. Beside it, two
simpler predictions: the mean of all other rows, and no effect, both with the other rows' spread.
The log score is the mean logarithm of the predicted density (per point) at what was seen; more is
better. Every group left out counts the same.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from nas_attn.evidence import (
    COVERAGE,
    PooledFit,
    PublishedComparison,
    comparisons,
    fit,
    trained_pairs,
)

DIVISIONS: dict[str, Callable[[PublishedComparison], object]] = {
    "network": lambda row: row.group,
    "source": lambda row: row.source,
    "setting": lambda row: row.situation.setting,
}
"""What is left out at a time -> what a row belongs to."""


@dataclass(frozen=True)
class Judged:
    """One group that was left out."""

    name: str
    rows: int
    covered: float
    """Share of its rows within their interval."""
    pooled: float
    """Mean log score of the fit."""
    mean: float
    """That of the mean of all other rows."""
    nothing: float
    """That of no effect."""


def judged(
    name: str, held: Sequence[PublishedComparison], rest: Sequence[PublishedComparison]
) -> Judged:
    """Predicts the held rows from the rest."""
    model = fit(rest)
    gains = np.array([row.gain for row in rest])
    held_gains = np.array([row.gain for row in held])
    spread = float(gains.std(ddof=1))
    size = math.sqrt(float(np.mean(gains**2)))
    return Judged(
        name=name,
        rows=len(held),
        covered=float(np.mean([_covers(model, row) for row in held])),
        pooled=float(np.mean([_log_score(model, row) for row in held])),
        mean=float(stats.norm.logpdf(held_gains, gains.mean(), spread).mean()),
        nothing=float(stats.norm.logpdf(held_gains, 0.0, size).mean()),
    )


def _covers(model: PooledFit, row: PublishedComparison) -> bool:
    gain = model.gain(row.situation)
    return gain.low <= row.gain <= gain.high


def _log_score(model: PooledFit, row: PublishedComparison) -> float:
    gain = model.gain(row.situation)
    return float(stats.t.logpdf(row.gain, model.degrees, gain.mean, gain.sd))


def left_out(rows: Sequence[PublishedComparison], division: str) -> list[Judged]:
    """Every group of a division, predicted from the others."""
    key = DIVISIONS[division]
    groups: dict[object, list[PublishedComparison]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return [
        judged(str(name), held, [row for row in rows if key(row) != name])
        for name, held in groups.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--each", action="store_true", help="also show every group left out")
    asked = parser.parse_args()
    rows = trained_pairs(comparisons())
    print(f"{len(rows)} pairs of trainings; intervals are meant to hold {COVERAGE:.0%}")
    print("| left out | groups | intervals hold | log score | mean of all | no effect |")
    print("|---|---|---|---|---|---|")
    for division in DIVISIONS:
        results = left_out(rows, division)
        scores = [
            float(np.mean([getattr(one, name) for one in results]))
            for name in ("covered", "pooled", "mean", "nothing")
        ]
        cells = " | ".join(f"{score:.2f}" for score in scores[1:])
        print(f"| {division} | {len(results)} | {scores[0]:.0%} | {cells} |")
        if asked.each:
            for one in results:
                print(
                    f"|   {one.name[:90]} | {one.rows} | {one.covered:.0%} | {one.pooled:.2f}"
                    f" | {one.mean:.2f} | {one.nothing:.2f} |"
                )


if __name__ == "__main__":
    main()
