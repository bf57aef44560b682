"""What twice as many epochs bring a bare backbone: pools the rows of `known.csv`, judges the pool
on problems that it has not seen, and writes what the package ships.

    python -m research.length.usual           # the pool, and how it judges
    python -m research.length.usual --write   # also writes nas_attn/answer/doublings.json

Gains are counted in log-odds of the share of images that is right, so that those of a network at
50 and at 90 % can be compared. Those of more than twice the epochs are divided by the doublings.
Problems differ by a normal spread around a mean, and each row has its own error.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from nas_attn.answer.length import DOUBLINGS_FILE, Doubling, with_usual
from nas_attn.model import Gain

KNOWN = Path(__file__).with_name("known.csv")
STATED = Path(__file__).with_name("stated.csv")
# from scratch, the first so many steps are another matter
BRIEF_STEPS = 1000
# half a 95 % interval, in standard errors
HALF = 1.96
# no pool is surer of a gain than 90 %: its problems are few, and alike
MOST_SURE = 1.282


@dataclass(frozen=True)
class Known:
    """One doubling of one problem's epochs."""

    problem: str
    start: str
    steps: int
    """Of the shorter training."""
    gain: float
    """Log-odds."""
    error: float
    """Its standard error."""


def logit(share: float) -> float:
    """The log-odds of a share."""
    return math.log(share / (1 - share))


def known() -> list[Known]:
    """All rows of the table."""
    rows = []
    with KNOWN.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            before, after = (float(row[name]) / 100 for name in ("before", "after"))
            doublings = math.log2(float(row["longer"]) / float(row["epochs"]))
            middle = (before + after) / 2
            rows.append(
                Known(
                    row["problem"],
                    row["start"],
                    int(row["steps"]),
                    (logit(after) - logit(before)) / doublings,
                    float(row["error"]) / 100 / (middle * (1 - middle)) / doublings,
                )
            )
    return rows


def pooled(rows: Sequence[Known], start: str, steps: tuple[int, int] | None) -> Doubling:
    """What these rows say of the next problem: the likeliest mean and spread of a normal one.

    Args:
        rows: of the table.
        start: of the rows that count.
        steps: from and below so many; None: whichever.
    """
    mine = [row for row in rows if row.start == start]
    if steps is not None:
        mine = [row for row in mine if steps[0] <= row.steps < steps[1]]
    gains = np.array([row.gain for row in mine])
    errors = np.array([row.error for row in mine])
    best = (-math.inf, 0.0, 0.0)
    for spread in np.linspace(0.005, 0.5, 200):
        precision = 1 / (spread**2 + errors**2)
        mean = float(precision @ gains / precision.sum())
        # the mean integrated out
        likely = 0.5 * (
            np.log(precision).sum()
            - precision @ (gains - mean) ** 2
            - math.log(float(precision.sum()))
        )
        best = max(best, (float(likely), mean, math.hypot(spread, precision.sum() ** -0.5)))
    _, mean, spread = best
    problems = len({row.problem for row in mine})
    sd = max(spread, mean / MOST_SURE)
    return Doubling(start, steps, round(mean, 3), round(sd, 3), problems)


def pools(rows: Sequence[Known]) -> list[Doubling]:
    """By kind of start and steps; the last of a start, where the steps are not known."""
    return [
        pooled(rows, "scratch", (0, BRIEF_STEPS)),
        pooled(rows, "scratch", (BRIEF_STEPS, 10**9)),
        pooled(rows, "scratch", None),
        pooled(rows, "pretrained", None),
    ]


def held(rows: Sequence[Known]) -> dict[str, tuple[int, int]]:
    """Kind of start -> how many rows lie within the 95 % interval of the pool without their
    problem, and of how many.
    """
    counts: dict[str, tuple[int, int]] = {}
    for row in rows:
        others = pools([one for one in rows if one.problem != row.problem])
        usual = next(one for one in others if one.fits(row.start, row.steps))
        inside = abs(row.gain - usual.mean) < HALF * math.hypot(usual.sd, row.error)
        name = f"{row.start} {usual.steps or ''}"
        within, all_ = counts.get(name, (0, 0))
        counts[name] = (within + inside, all_ + 1)
    return counts


def stated(rows: Sequence[Known]) -> None:
    """Prints what searches said of twice the epochs, without and with the pool of the other
    problems, beside what full trainings said later.
    """
    with STATED.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            level, mean, low, high, true = (
                float(row[name]) / 100 for name in ("level", "mean", "low", "high", "true")
            )
            seen = Gain.normal(mean, (high - low) / 2 / HALF)
            others = pools([one for one in rows if one.problem != row["problem"]])
            usual = next(one for one in others if one.fits(row["start"], int(row["steps"])))
            both = with_usual(seen, *usual.gain(level))
            said = [
                f"{100 * one.mean:+.1f} ({100 * one.low:+.1f} to {100 * one.high:+.1f}),"
                f" {100 * one.probability:.1f} %"
                for one in (seen, both)
            ]
            print(f"{row['problem']}: {' | '.join(said)} | truly {100 * true:+.1f}")


def few_images(usual: Doubling, error: float, true: Sequence[float]) -> tuple[float, float]:
    """How often a longer training is taken (99.5 %) and named (70 %) where a study sees its gain
    with this error, for these true gains; all as shares, at a level of 70 %.
    """
    rng = np.random.default_rng(0)
    mean, sd = usual.gain(0.7)
    seen = rng.choice(np.array(true), 100_000) + error * rng.standard_normal(100_000)
    precision = 1 / error**2 + 1 / sd**2
    chances = (seen / error**2 + mean / sd**2) / math.sqrt(precision)
    return float((chances > 2.576).mean()), float((chances > 0.524).mean())


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="also write the package's file")
    given = parser.parse_args()
    rows = known()
    found = pools(rows)
    for one in found:
        mean, sd = (100 * value for value in one.gain(0.7))
        print(f"{one}: {mean:.1f} ± {sd:.1f} points at 70 %")
    print(held(rows))
    stated(rows)
    long = found[1]
    gains = [row.gain * 0.21 for row in rows if long.fits(row.start, row.steps)]
    for error in (0.01, 0.025):
        for name, usual in (("before", replace(long, mean=0.0, sd=9.0)), ("after", long)):
            nothing, real = (few_images(usual, error, true) for true in ([0.0], gains))
            print(f"error {100 * error} points, {name}: taken and named {nothing} | {real}")
    if given.write:
        lines = ",\n".join(json.dumps(asdict(one)) for one in found)
        DOUBLINGS_FILE.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
