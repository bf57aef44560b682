"""How far gains at the target can be believed, where the search trains otherwise: simulated studies
whose truth is known.

    python -m benchmarks.trust_target --studies 40       # of each kind, from --seed 0 on

A study tries 30 placements in its search, the first eight three times. Then some train as the
target does: three networks eight times, as a validation does, or twelve twice. The effects at the
target correlate with those of the search by `slope`, or there are none. Printed: how often 95 %
intervals of gains over the bare backbone hold the truth, and how wide they are, in points.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas_attn.model import TARGET_RUNG, Evidence, ScoredRun, fit
from nas_attn.notation import parse

TYPES = ("none", "se", "eca", "ela", "simam")
SITES, CANDIDATES, REPEATED = 3, 30, 8
SPREAD, NOISE, LEVEL = 0.006, 0.003, 0.004
SLOPES = {"1": 1.0, "0.5": 0.5, "0": 0.0, "no effects": None}
BLOCKS = {3: 8, 12: 2}
"""Networks at the target -> runs of each."""


@dataclass(frozen=True)
class Outcome:
    """One study: shares that are covered, widths in points."""

    chosen: bool
    """Whether the interval of the most promising one holds the truth."""
    sure_and_wrong: bool
    ran: float
    """Of the others that ran at the target."""
    never: float
    """Of those that did not."""
    ran_width: float
    never_width: float
    search_width: float
    """Of the latter, by the search alone."""
    correlation: float


def effects(rng: np.random.Generator, choices: Sequence[Sequence[str]]) -> np.ndarray:
    """(placements,) of which half of the variance is a sum over sites."""
    table, own = rng.standard_normal((SITES, len(TYPES))), rng.standard_normal(len(choices))
    additive = [
        sum(table[s, TYPES.index(kind)] for s, kind in enumerate(choice)) for choice in choices
    ]
    return np.asarray(SPREAD * (np.array(additive) / math.sqrt(SITES) + own) / math.sqrt(2))


def simulate(seed: int, slope: float | None, networks: int) -> Outcome:
    """One study."""
    rng = np.random.default_rng([seed, networks, *str(slope).encode()])
    choices: list[tuple[str, ...]] = [(kind,) * SITES for kind in TYPES]
    while len(choices) < CANDIDATES:
        choice = tuple(rng.choice(TYPES, SITES).tolist())
        choices += [choice] if choice not in choices else []
    keys = [f"k{i:02}" for i in range(CANDIDATES)]
    texts = {
        key: parse(
            " ".join(f"stage{i + 1}={kind}" for i, kind in enumerate(choice) if kind != "none")
        )
        for key, choice in zip(keys, choices, strict=True)
    }
    searched, other = effects(rng, choices), effects(rng, choices)
    there = 0 * other if slope is None else slope * searched + math.sqrt(1 - slope**2) * other

    def runs(
        some: Sequence[str], seed: int, rung: int, base: float, effect: np.ndarray
    ) -> list[ScoredRun]:
        level = base + LEVEL * rng.standard_normal()
        noise = NOISE * rng.standard_normal(len(some))
        return [
            ScoredRun(key, seed, rung, level + effect[keys.index(key)] + e)
            for key, e in zip(some, noise, strict=True)
        ]

    found = runs(keys, 0, 0, 0.7, searched) + [
        r for s in (1, 2) for r in runs(keys[:REPEATED], s, 0, 0.7, searched)
    ]
    search = fit(found, texts, metric="accuracy")
    assert search is not None
    best = sorted(keys[1:], key=lambda key: -search.gains(keys[0])[key].worth)
    some = (
        [keys[0], *best[: networks - 1]]
        if networks == 3
        else [keys[0], *best[:3], *rng.permutation(best[3:])[:8]]
    )
    found += [
        run
        for b in range(BLOCKS[networks])
        for run in runs(some, 1000 + b, TARGET_RUNG, 0.8, there)
    ]
    both = fit(found, texts, metric="accuracy")
    assert both is not None
    return judged(
        search, both, {key: float(there[i] - there[0]) for i, key in enumerate(keys)}, some
    )


def judged(
    search: Evidence, both: Evidence, truth: dict[str, float], ran: Sequence[str]
) -> Outcome:
    bare, *some = ran
    never = [key for key in truth if key not in ran]
    gains, before = both.gains(bare), search.gains(bare)
    covered = {key: gains[key].low <= true <= gains[key].high for key, true in truth.items()}
    chosen = max((key for key in truth if key != bare), key=lambda key: gains[key].worth)
    return Outcome(
        chosen=covered[chosen],
        sure_and_wrong=gains[chosen].probability > 0.95 and truth[chosen] <= 1e-9,
        ran=float(np.mean([covered[key] for key in some])),
        never=float(np.mean([covered[key] for key in never])),
        ran_width=100 * float(np.mean([gains[key].high - gains[key].low for key in some])),
        never_width=100 * float(np.mean([gains[key].high - gains[key].low for key in never])),
        search_width=100 * float(np.mean([before[key].high - before[key].low for key in never])),
        correlation=both.noise.correlation or 0.0,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=int, default=40, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    names = list(Outcome.__dataclass_fields__)
    print("slope,networks,studies," + ",".join(names))
    for slope, size in SLOPES.items():
        for networks in BLOCKS:
            seeds = range(options.seed, options.seed + options.studies)
            outcomes = [simulate(seed, size, networks) for seed in seeds]
            means = [
                f"{np.mean([getattr(outcome, name) for outcome in outcomes]):.3f}" for name in names
            ]
            print(f"{slope},{networks},{options.studies},{','.join(means)}", flush=True)


if __name__ == "__main__":
    main()
