"""What simulated studies said, against what was true: figures, aims, and the page about them."""

from __future__ import annotations

import csv
import itertools
import math
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from research.trust.studies import FINE_TUNING, AnyWorld, MeasuredWorld, World

TAKEN, SURE = 0.70, 0.95
EDGES = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.001)
FEWEST, ENOUGH = 15, 100
"""Cases of a bin of said probabilities: smaller ones are joined with the next; an aim is judged by
those with enough.
"""
OFF, COVER = 0.05, (0.90, 0.98)
KINDS = [
    *(
        "kind of study",
        "studies",
        "almost surely better",
        "attention taken",
        "and +0.25 or more",
        "gain covered",
    ),
    *(
        "accuracy covered",
        "all accuracies",
        "optimism in points",
        "worth in points",
        "runs compared",
    ),
]
STATED = ["studies", "said", "true", "cases"]
CLAIMS = ("gain_covers", "value_covers", "all_value_covers")


@dataclass(frozen=True)
class Outcome:
    """What one study said, and what was true."""

    probability: float
    """That the chosen one is better than none: on all images, where the study has results per
    image, else on its own.
    """
    gain: float
    """Points, on the same images."""
    true: float
    gain_covers: bool
    value_covers: bool
    all_value_covers: float
    """Share of all placements' values that their interval on these images covers."""
    runs: int
    """Of the confirmation rounds."""
    noise: float
    """One run's noise as found, net of its seed, in points."""
    cpu_s: float
    named: bool | None = None
    """Whether the answer names it; None in lines of before 2026-11-24: then from 70 % on."""

    @property
    def taken(self) -> bool:
        """Whether the answer names it."""
        return self.probability >= TAKEN if self.named is None else self.named

    @property
    def worth(self) -> float:
        """Points that the answer truly gains; 0 where it is the bare backbone."""
        return self.true if self.taken else 0.0


Found = Sequence[tuple[AnyWorld, Sequence[Outcome]]]


def page(found: Found) -> str:
    """All tables in Markdown, aims first."""
    counts = [len(outcomes) for _, outcomes in found]
    total, cpu = sum(counts), sum(o.cpu_s for _, outcomes in found for o in outcomes)
    between = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    worst = 100 * math.sqrt(0.25 / min(counts))
    head = [
        (
            f"{time.strftime('%Y-%m-%d')}, Python {platform.python_version()}: {between} studies of"
            f" each of {len(found)} kinds, {total:,} in all, {1000 * cpu / total:.0f} ms of CPU"
            f" each. Standard error of a share: up to {worst:.1f} points a kind."
        ),
        "",
        "| aim | measured | met |",
        "|---|---|---|",
        *(f"| {aim} | {measured} | {met} |" for aim, measured, met in aims(found)),
        "",
        *table(KINDS, (row(world, outcomes) for world, outcomes in found)),
        "",
        (
            "**Almost surely better**: than the bare backbone with a probability of 95 % or more;"
            " **taken**: by the answer. **Covered**:"
        ),
        (
            "by the 95 % interval of the chosen one. **Optimism**: estimated less true gain of what"
            " was taken. **Worth**: true gain of the"
        ),
        "answer, 0 where it is the bare backbone.",
        "",
        "What was said of the chosen one, and how often it was so:",
        "",
        *table(STATED, stated(found)),
        "",
    ]
    return "\n".join(head)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def write_data(found: Found, folder: Path) -> None:
    """trust-kinds.csv and trust-stated.csv: the two long tables of the page."""
    kinds = [row(world, outcomes) for world, outcomes in found]
    for name, head, rows in (("kinds", KINDS, kinds), ("stated", STATED, list(stated(found)))):
        with (folder / f"trust-{name}.csv").open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([head, *rows])


# ------------------------------------------------------------------------------------------- rows


def row(world: AnyWorld, found: Sequence[Outcome]) -> list[str]:
    p = np.array([o.probability for o in found])
    named = np.array([o.taken for o in found])
    right = named & (np.array([o.true for o in found]) >= 0.25)
    shares = [_share([getattr(o, name) for o in found]) for name in CLAIMS]
    sure, taken = _percent((p >= SURE).mean()), _percent(named.mean())
    worth, compared = np.mean([o.worth for o in found]), np.mean([o.runs for o in found])
    more = [_optimism(found), f"{worth:+.2f}", f"{compared:.1f}"]
    return [world.name, str(len(found)), sure, taken, _percent(right.mean()), *shares, *more]


def stated(found: Found) -> Iterator[list[str]]:
    for name, mine in groups(found):
        yield from ([name, said, true, str(cases)] for said, true, cases in bins(mine))


def _optimism(found: Sequence[Outcome]) -> str:
    off = np.array([o.gain - o.true for o in found if o.taken])
    if len(off) < 10:
        return "–"
    return f"{off.mean():+.2f} ± {off.std() / math.sqrt(len(off)):.2f}"


def _share(found: Sequence[float | bool | None]) -> str:
    known = [float(value) for value in found if value is not None]
    return _percent(np.mean(known)) if known else "–"


def _percent(share: float | np.floating) -> str:
    return f"{100 * share:.1f} %"


def groups(found: Found) -> Iterator[tuple[str, list[Outcome]]]:
    """(name, outcomes) of all kinds, and of the regimes of noise."""
    regimes: dict[str, list[Outcome]] = {"all": []}
    for world, outcomes in found:
        name = "measured" if isinstance(world, MeasuredWorld) else "tables"
        name = world.noise.name if isinstance(world, World) else name
        regimes["all"].extend(outcomes)
        regimes.setdefault(name, []).extend(outcomes)
    yield from regimes.items()


def bins(found: Sequence[Outcome]) -> Iterator[tuple[str, str, int]]:
    """(mean said, share that is true with its standard error, cases) of joined bins."""
    for said, true in _joined(found):
        error = math.sqrt(max(true.mean() * (1 - true.mean()), 1 / len(true)) / len(true))
        yield (
            f"{100 * said.mean():.1f} %",
            f"{100 * true.mean():.1f} ± {100 * error:.1f} %",
            len(true),
        )


def _joined(found: Sequence[Outcome]) -> list[tuple[np.ndarray, np.ndarray]]:
    said = np.array([o.probability for o in found])
    true = np.array([o.true > 1e-6 for o in found], dtype=float)
    joined: list[np.ndarray] = []
    for low, high in itertools.pairwise(EDGES):
        mine = np.flatnonzero((said >= low) & (said < high))
        if joined and len(joined[-1]) < FEWEST:
            joined[-1] = np.concatenate((joined[-1], mine))
        else:
            joined.append(mine)
    if len(joined) > 1 and len(joined[-1]) < FEWEST:
        joined[-2:] = [np.concatenate(joined[-2:])]
    return [(said[mine], true[mine]) for mine in joined if len(mine)]


# ------------------------------------------------------------------------------------------- aims


def aims(found: Found) -> Iterator[tuple[str, str, str]]:
    """(aim, measured, whether it is met)."""
    null = [(w.name, outcomes) for w, outcomes in found if w.effects == "null"]
    if null:
        yield _most(
            'nothing differs: "almost surely better" in at most 2 %',
            null,
            lambda o: o.probability >= SURE,
            0.02,
        )
        yield _most(
            "nothing differs: attention taken in at most 10 %",
            null,
            lambda o: o.taken,
            0.10,
        )
    planted = [
        (w.name, outcomes)
        for w, outcomes in found
        if isinstance(w, World) and w.effects == "planted" and w.noise == FINE_TUNING
    ]
    if planted:
        yield _least(
            "fine-tuning, one choice adds .5 points: attention taken in at least 85 %", planted
        )
    yield from _calibration(found)
    named = {
        "gain_covers": "of the gain",
        "value_covers": "of the accuracy, these images",
    }
    for claim, words in named.items():
        yield _covered(
            f"95 % intervals {words} cover {100 * COVER[0]:.0f} to {100 * COVER[1]:.0f} %",
            claim,
            found,
        )
    yield _no_optimism(found)


def _rates(
    found: Sequence[tuple[str, Sequence[Outcome]]], of: Callable[[Outcome], bool]
) -> dict[str, float]:
    return {name: float(np.mean([of(o) for o in outcomes])) for name, outcomes in found}


def _most(
    aim: str,
    found: Sequence[tuple[str, Sequence[Outcome]]],
    of: Callable[[Outcome], bool],
    limit: float,
) -> tuple[str, str, str]:
    rates = _rates(found, of)
    return aim, _told(found, rates, of), _verdict([rate <= limit for rate in rates.values()])


def _least(aim: str, found: Sequence[tuple[str, Sequence[Outcome]]]) -> tuple[str, str, str]:
    def taken(o: Outcome) -> bool:
        return o.taken

    rates = _rates(found, taken)
    return aim, _told(found, rates, taken), _verdict([rate >= 0.85 for rate in rates.values()])


def _told(
    found: Sequence[tuple[str, Sequence[Outcome]]],
    rates: dict[str, float],
    of: Callable[[Outcome], bool],
) -> str:
    pooled = [of(o) for _, outcomes in found for o in outcomes]
    low, high = min(rates, key=rates.__getitem__), max(rates, key=rates.__getitem__)
    return (
        f"{_percent(np.mean(pooled))} of {len(pooled)}; by kind {_percent(rates[low])} ({low}) to"
        f" {_percent(rates[high])} ({high})"
    )


def _calibration(found: Found) -> Iterator[tuple[str, str, str]]:
    for name, mine in groups(found):
        off = {
            f"{100 * s.mean():.0f} → {100 * t.mean():.0f}": abs(s.mean() - t.mean())
            for s, t in _joined(mine)
            if len(t) >= ENOUGH
        }
        if off:
            worst = max(off, key=off.__getitem__)
            met = [value <= OFF for value in off.values()]
            yield (
                f"said → true within {100 * OFF:.0f} points ({name})",
                f"{len(off)} bins, the worst {worst} %",
                _verdict(met),
            )


def _covered(aim: str, claim: str, found: Found) -> tuple[str, str, str]:
    shares = {}
    for world, outcomes in found:
        known = [getattr(o, claim) for o in outcomes if getattr(o, claim) is not None]
        if known:
            shares[world.name] = float(np.mean(known))
    if not shares:
        return aim, "–", "–"
    pooled = [
        float(v) for _, outcomes in found for o in outcomes if (v := getattr(o, claim)) is not None
    ]
    low, high = min(shares, key=shares.__getitem__), max(shares, key=shares.__getitem__)
    told = (
        f"{_percent(np.mean(pooled))}; by kind {_percent(shares[low])} ({low}) to"
        f" {_percent(shares[high])} ({high})"
    )
    return aim, told, _verdict([COVER[0] <= share <= COVER[1] for share in shares.values()])


def _no_optimism(found: Found) -> tuple[str, str, str]:
    off = {
        world.name: float(np.mean(mine))
        for world, outcomes in found
        if len(mine := [o.gain - o.true for o in outcomes if o.taken]) >= 30
    }
    every = [o.gain - o.true for _, outcomes in found for o in outcomes if o.taken]
    aim = "optimism of the gain taken within ± .05 points"
    if not off:
        return aim, "–", "–"
    low, high = min(off, key=off.__getitem__), max(off, key=off.__getitem__)
    told = f"{np.mean(every):+.3f}; by kind {off[low]:+.2f} ({low}) to {off[high]:+.2f} ({high})"
    return aim, told, _verdict([abs(value) <= 0.05 for value in off.values()])


def _verdict(met: Sequence[bool]) -> str:
    if all(met):
        return "yes"
    return "no" if not any(met) else f"in {sum(met)} of {len(met)}"
