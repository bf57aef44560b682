"""How well the pooled evidence predicts comparisons that it has not seen.

    python -m research.evidence.leave_out [--each]      # a minute
    python -m research.evidence.leave_out --random 60   # three minutes

Leaves out, in turn, every group (source, data set and network), every source, and every setting
(task, place, start and form), fits the rest, and predicts what was left out. Beside it, two
simpler predictions of the same family (Student's t with as many degrees of freedom, the scale of
greatest likelihood): the centre of all other rows, and no effect. The log score is the mean
logarithm of the predicted density (per point) at what was seen; more is better. The Brier score is
that of the probability of a gain; a coin has 0.25. Every group left out counts the same.

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

from research.evidence.comparisons import PublishedComparison, comparisons
from research.evidence.fitted import COVERAGE, PooledFit
from research.evidence.pooling import fit, fitted_pairs

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
    centre: float
    """That of the centre of all other rows."""
    nothing: float
    """That of no effect."""
    brier: float
    """Of the probability of a gain."""


def judged(
    name: str, held: Sequence[PublishedComparison], rest: Sequence[PublishedComparison]
) -> Judged:
    """Predicts the held rows from the rest."""
    model = fit(rest)
    gains = [row.gain for row in rest]
    held_gains = [row.gain for row in held]
    centre = stats.t.fit(gains, fdf=model.degrees)
    nothing = stats.t.fit(gains, fdf=model.degrees, floc=0.0)
    return Judged(
        name=name,
        rows=len(held),
        covered=float(np.mean([_covers(model, row) for row in held])),
        pooled=float(np.mean([_log_score(model, row) for row in held])),
        centre=float(stats.t.logpdf(held_gains, *centre).mean()),
        nothing=float(stats.t.logpdf(held_gains, *nothing).mean()),
        brier=float(np.mean([_brier(model, row) for row in held])),
    )


def _covers(model: PooledFit, row: PublishedComparison) -> bool:
    gain = model.gain(row.situation)
    return gain.low <= row.gain <= gain.high


def _log_score(model: PooledFit, row: PublishedComparison) -> float:
    gain = model.gain(row.situation)
    return float(stats.t.logpdf(row.gain, model.degrees, gain.mean, gain.sd))


def _brier(model: PooledFit, row: PublishedComparison) -> float:
    return (model.gain(row.situation).probability - float(row.gain > 0)) ** 2


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
    rows = fitted_pairs(comparisons())
    print(f"{len(rows)} pairs of trainings; intervals are meant to hold {COVERAGE:.0%}")
    print(
        "| left out | groups | intervals hold | log score | centre of all | no effect |"
        " minus no effect | better in | Brier score |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
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
        np.mean([group.centre for group in results]),
        np.mean([group.nothing for group in results]),
    ]
    cells = " | ".join(f"{score:.2f}" for score in scores)
    more = np.array([group.pooled - group.nothing for group in results])
    error = more.std(ddof=1) / math.sqrt(len(more))
    brier = np.mean([group.brier for group in results])
    print(
        f"| {name} | {len(results)} | {covered:.0%} | {cells} | {more.mean():+.2f} ± {error:.2f}"
        f" | {(more > 0).sum()} | {brier:.3f} |"
    )
    if not each:
        return
    for group in results:
        print(
            f"|   {group.name[:90]} | {group.rows} | {group.covered:.0%} | {group.pooled:.2f}"
            f" | {group.centre:.2f} | {group.nothing:.2f} | {group.pooled - group.nothing:+.2f} | |"
            f" {group.brier:.3f} |"
        )


if __name__ == "__main__":
    main()
