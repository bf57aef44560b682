"""How well the pooled evidence predicts comparisons that it has not seen.

    python -m benchmarks.evidence [--each]      # some seconds
    python -m benchmarks.evidence --random 60   # a minute

Leaves out, in turn, every group (source, data set and network), every source, and every setting
(task, place, start and form), fits the rest, and predicts what was left out. Beside it, two
simpler predictions: the mean of all other rows, and no effect, both with the other rows' spread.
The log score is the mean logarithm of the predicted density (per point) at what was seen; more is
better. Every group left out counts the same.

`--random N` leaves out, N times each, a random fifth of the networks and a random half of the
sources: divisions that the choice of the model has not seen.
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
    fit,
    pooled,
)

DIVISIONS: dict[str, Callable[[PublishedComparison], object]] = {
    "network": lambda row: row.group,
    "source": lambda row: row.source,
    "setting": lambda row: row.situation.setting,
}
"""What is left out at a time -> what a row belongs to."""
RANDOM_SHARES = {"network": 0.2, "source": 0.5}
"""Division -> the share of its groups that a random division leaves out."""
RANDOM_SEED = 5


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


def left_out_at_random(
    rows: Sequence[PublishedComparison], division: str, times: int
) -> list[Judged]:
    """Random shares of a division's groups, each predicted from the others."""
    key = DIVISIONS[division]
    groups = sorted({key(row) for row in rows}, key=str)
    size = round(RANDOM_SHARES[division] * len(groups))
    rng = np.random.default_rng(RANDOM_SEED)
    results: list[Judged] = []
    for number in range(times):
        chosen = rng.choice(len(groups), size, replace=False)
        away = {groups[index] for index in chosen}
        held = [row for row in rows if key(row) in away]
        rest = [row for row in rows if key(row) not in away]
        results.append(judged(f"{division}s, division {number}", held, rest))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--each", action="store_true", help="also show every group left out")
    parser.add_argument(
        "--random", type=int, default=0, metavar="N", help="N random divisions of each kind"
    )
    asked = parser.parse_args()
    rows = pooled().rows
    print(f"{len(rows)} pairs of trainings; intervals are meant to hold {COVERAGE:.0%}")
    print("| left out | groups | intervals hold | log score | mean of all | no effect |")
    print("|---|---|---|---|---|---|")
    for division in DIVISIONS:
        _show(division, left_out(rows, division), each=asked.each)
    if asked.random:
        for division, share in RANDOM_SHARES.items():
            results = left_out_at_random(rows, division, asked.random)
            _show(f"{share:.0%} of all {division}s", results, each=asked.each)


def _show(name: str, results: Sequence[Judged], *, each: bool) -> None:
    """Prints the row of a division, and with `each` a row for everything left out."""
    covered = np.mean([group.covered for group in results])
    scores = [
        np.mean([group.pooled for group in results]),
        np.mean([group.mean for group in results]),
        np.mean([group.nothing for group in results]),
    ]
    cells = " | ".join(f"{score:.2f}" for score in scores)
    print(f"| {name} | {len(results)} | {covered:.0%} | {cells} |")
    if not each:
        return
    for group in results:
        print(
            f"|   {group.name[:90]} | {group.rows} | {group.covered:.0%} | {group.pooled:.2f}"
            f" | {group.mean:.2f} | {group.nothing:.2f} |"
        )


if __name__ == "__main__":
    main()
