"""How far a cheap training ranks placements as a long one does: Kendall's tau beside its noise floor. numpy only.

A spread of placements is trained long with several seeds (the reference) and in cheap settings with seeds of its own. What
a setting is held against is the mean of all reference seeds but one, averaged over which one is left out; the noise floor
is the run left out against the mean of the others, so both are compared with equally good targets. Intervals resample
placements and seeds. Evidence for the need: agreement of a setting with itself is not fidelity, and single long runs may
rank placements no better than chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas_attn.analysis.fidelity_statistics import (
    Array,
    Draws,
    all_but_one,
    chance_of,
    choices_of,
    components,
    fronts,
    interval,
    means_over,
    orders,
    pull_of_own,
    pull_of_reference,
    recovered,
    recovered_by_chance,
    reliability,
    seed_counts,
    spearman_brown,
)
from nas_attn.tasks import SHARES

LEVEL = 0.05
"""Error rate of the test whether any setting ranks better than chance."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A way to score a candidate."""

    start: str
    subset: float
    """Share of the training images."""
    rungs: tuple[int, ...]
    """Epochs at which it was scored; the last one is its length."""
    seeds: int
    """Runs averaged."""
    metric: str

    @property
    def epochs(self) -> int:
        return self.rungs[-1]

    def __str__(self) -> str:
        data = "all images" if self.subset == 1 else f"{100 * self.subset:.3g} % of the images"
        return (
            f"start {self.start}, {data}, {_count(self.epochs, 'epoch')}, {_count(self.seeds, 'seed')}, {self.metric}"
        )


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs of all placements under one setting, each with every seed."""

    start: str
    subset: float
    rungs: tuple[int, ...]
    metric: str
    values: Array
    """(placements, seeds), turned so that higher is better."""
    device_s: float
    """Mean device seconds of one run."""

    def setting(self, seeds: int) -> Setting:
        return Setting(self.start, self.subset, self.rungs, seeds, self.metric)


@dataclass(frozen=True, slots=True)
class Measure:
    """What one setting is worth."""

    setting: Setting
    tau: float
    """Kendall's tau-b against the mean of the other seeds' references, averaged over choices of seeds."""
    low: float
    high: float
    """95 % bootstrap interval over placements and seeds."""
    reliability_one: float
    """Share of the variance of one run that is difference between placements, 0 to 1."""
    reliability: float
    """The same of the mean over the setting's seeds (Spearman-Brown)."""
    front: float
    """Share of the reference's front that is on this setting's front."""
    device_s: float
    """Device seconds per candidate: all of its seeds."""


@dataclass(frozen=True, slots=True)
class Advice:
    """The setting to take, and what that rests on."""

    setting: Setting | None
    """None where no setting was shown to rank better than chance."""
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fidelity:
    """All that was found."""

    placements: tuple[str, ...]
    cost: str
    """The second axis of the front: `latency` or `macs`."""
    reference_seeds: int
    reference_reliability: float
    """Of the mean over all reference seeds."""
    spread_sd: float
    """Spread of the placements' true reference values; 0 where it drowns in the noise."""
    noise_sd: float
    """Spread of one reference run over seeds, what all placements of a seed share left out."""
    floor: Measure
    """Noise floor: one reference run against the mean of the others."""
    rows: tuple[Measure, ...]
    """By start, subset, epochs, metric and seeds."""
    chance_front: float
    """Share of the front that a random ranking recovers."""
    chance: float
    """Probability that settings none of which ranks better than chance would show a tau as high as the highest here."""
    advice: Advice


def assess(
    placements: Sequence[str], costs: Array, cost: str, reference: Runs, cheap: Sequence[Runs], *, seed: int = 0
) -> Fidelity:
    """Holds cheap settings against the reference.

    Args:
        placements: P of them, in notation.
        costs: (P,), lower is better: the second axis of the front, named by `cost`.
        reference: long runs, at least two seeds.
        cheap: each with at least two seeds, none of them one of the reference's.
        seed: of the resampling; equal runs give equal results.
    """
    held = _Held(reference, costs, seed)
    taken = [held.against(runs, k) for runs in cheap for k in seed_counts(runs.values.shape[1])]
    rows = [row for row, _, _ in taken]
    mine = [i for i, row in enumerate(rows) if row.setting.metric == reference.metric]
    chance = chance_of(np.array([taken[i][1] for i in mine]), held.target, held.rng)
    between, noise = components(reference.values)
    floor = held.floor()
    chance_front = recovered_by_chance(held.others, costs, held.rng)
    return Fidelity(
        placements=tuple(placements),
        cost=cost,
        reference_seeds=reference.values.shape[1],
        reference_reliability=spearman_brown(floor.reliability_one, reference.values.shape[1]),
        spread_sd=float(np.sqrt(between)),
        noise_sd=float(np.sqrt(noise)),
        floor=floor,
        rows=tuple(rows),
        chance_front=chance_front,
        chance=chance,
        advice=_advise(reference, floor, rows, np.array([star for _, _, star in taken]), mine, chance, chance_front),
    )


class _Held:
    """The reference that settings are held against."""

    def __init__(self, reference: Runs, costs: Array, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self._reference, self._costs = reference, costs
        self._draws = Draws(self.rng, len(reference.values))
        self.others = all_but_one(reference.values)
        """(S, P)."""
        self._targets = orders(self.others)
        self.target = self._targets.mean(axis=0)
        """(P, P)."""
        self._fronts = fronts(self.others, costs)

    def against(self, runs: Runs, k: int) -> tuple[Measure, Array, Array]:
        """A setting with k seeds: its measure, its mean order (P, P) and its resampled taus."""
        choices = choices_of(runs.values.shape[1], k, self.rng)
        means = means_over(runs.values, choices)
        order = orders(means).mean(axis=0)
        tau = float((order * self.target).sum())
        star = self._draws.taus(
            order * self.target,
            cheap=pull_of_own(runs.values, choices, self.target),
            reference=pull_of_reference(order, self._targets),
        )
        low, high = interval(tau, star)
        one = reliability(runs.values)
        front = float(recovered(self._fronts, fronts(means, self._costs)).mean())
        row = (tau, low, high, one, spearman_brown(one, k), front, k * runs.device_s)
        return Measure(runs.setting(k), *row), order, star

    def floor(self) -> Measure:
        """One reference run against the mean of the others."""
        runs = self._reference.values.T
        products = orders(runs) * self._targets
        taus = products.sum((1, 2))
        low, high = interval(float(taus.mean()), self._draws.taus(products.mean(axis=0), reference=taus))
        front = float(np.diag(recovered(self._fronts, fronts(runs, self._costs))).mean())
        one = reliability(self._reference.values)
        device_s = self._reference.device_s
        return Measure(self._reference.setting(1), float(taus.mean()), low, high, one, one, front, device_s)


# ------------------------------------------------------------------------------------------- advice


def _advise(
    reference: Runs,
    floor: Measure,
    rows: Sequence[Measure],
    stars: Array,
    mine: Sequence[int],
    chance: float,
    chance_front: float,
) -> Advice:
    """The cheapest setting that ranks better than chance and cannot be told apart from the best; the reference's metric."""
    seeds, placements = reference.values.shape[1], reference.values.shape[0]
    basis = _about_reference(reference, floor)
    sure = [i for i in mine if rows[i].low > 0]
    if chance > LEVEL or not sure:
        best = max((rows[i] for i in mine), key=lambda row: row.tau)
        return Advice(
            None,
            (
                f"No cheap setting was shown to rank these {placements} placements better than chance: the highest tau, "
                f"{_tau(best)} ({best.setting}), or a higher one would come up with probability {chance:.2g} if none did.",
                *basis,
                f"More seeds or placements would tell more: the same command with --seeds {2 * seeds} goes on from the runs "
                "that are there.",
            ),
        )
    best_row = max(sure, key=lambda i: rows[i].tau)
    level = [i for i in mine if not _worse(rows, stars, i, best_row)]
    chosen = min((i for i in sure if i in level), key=lambda i: (rows[i].device_s, -rows[i].tau))
    return Advice(
        rows[chosen].setting,
        (
            *_about_choice(rows[chosen], floor, reference),
            *_about_front(rows[chosen], floor, chance_front),
            *_about_others(rows, len(mine), len(level), chosen, best_row),
            *basis,
            *_about_metrics(rows, stars, chosen),
        ),
    )


def _worse(rows: Sequence[Measure], stars: Array, one: int, other: int) -> bool:
    """Whether one setting's tau is below another's beyond the noise: 95 % interval of the paired difference."""
    return one != other and interval(rows[one].tau - rows[other].tau, stars[one] - stars[other])[1] < 0


def _about_choice(row: Measure, floor: Measure, reference: Runs) -> list[str]:
    placements, seeds = reference.values.shape
    long = f"{_count(reference.rungs[-1], 'epoch')} from start {reference.start}"
    times = floor.device_s / row.device_s if row.device_s > 0 else float("inf")
    cost = f"{times:.3g} times less than" if times >= 1.05 else f"{1 / times:.3g} times as much as"
    cost = "as much as" if 0.95 < times < 1.05 else cost
    k = row.setting.seeds
    mean = f", the mean of {k} {100 * row.reliability:.0f} %" if k > 1 else ""
    return [
        f"Recommended: {row.setting}.",
        f"It ranks {placements} placements with tau {_tau(row)} against {long} (means over {seeds - 1} of {seeds} seeds); "
        f"one such long run by itself does so with {_tau(floor)}, the noise floor.",
        f"It takes {row.device_s:.3g} device seconds per candidate, {cost} one long run; one run tells "
        f"{100 * row.reliability_one:.0f} % signal{mean}.",
    ]


def _about_front(row: Measure, floor: Measure, chance: float) -> list[str]:
    """Where the order does not help to find the front: the cheap runs' order is then right elsewhere."""
    if row.front > chance:
        return []
    return [
        f"But it finds {100 * row.front:.0f} % of the reference's front, no more than a random ranking ({100 * chance:.0f} %; one "
        f"long run: {100 * floor.front:.0f} %): it tells bad placements from good ones, not the best from the good. More placements "
        "on the front would tell more."
    ]


def _about_others(rows: Sequence[Measure], total: int, level: int, chosen: int, best: int) -> list[str]:
    if chosen == best:
        said = "It has the highest tau of all"
    else:
        said = f"The highest tau is {_tau(rows[best])} ({rows[best].setting})"
    if level == 1:
        return [f"{said}, beyond the noise."]
    return [
        f"{said}, but {level} of the {total} settings cannot be told apart from the best: among those that rank better than "
        "chance the cheapest was taken, by cost and not by proof."
    ]


def _about_reference(reference: Runs, floor: Measure) -> list[str]:
    between, noise = (np.sqrt(part) for part in components(reference.values))
    seeds = reference.values.shape[1]
    points = reference.metric in SHARES
    size = [f"{100 * x:.2f} points" if points else f"{x:.3g}" for x in (between, noise)]
    mean = spearman_brown(floor.reliability_one, seeds)
    said = f"In the reference the placements differ by {size[0]} (standard deviation), one run by {size[1]} from seed to seed: "
    said += f"the mean of its {seeds} seeds has reliability {mean:.2f}."
    if mean < 0.5:
        said += " So it is itself mostly noise, and every tau here is lower than it would be against the truth."
    stands = f"The reference stands for the network that will be used, trained for {_count(reference.rungs[-1], 'epoch')} with "
    stands += f"start {reference.start}; for another one (--reference-epochs, --reference-start) the answer may differ."
    return [said, stands]


def _about_metrics(rows: Sequence[Measure], stars: Array, chosen: int) -> list[str]:
    """Whether the same runs rank better by another metric."""
    mine = rows[chosen].setting
    same = (mine.start, mine.subset, mine.rungs, mine.seeds)
    lines = []
    for i, row in enumerate(rows):
        s = row.setting
        if i == chosen or (s.start, s.subset, s.rungs, s.seeds) != same:
            continue
        if _worse(rows, stars, chosen, i):
            lines.append(f"The same runs rank better by {s.metric}: {_tau(row)}.")
        elif _worse(rows, stars, i, chosen):
            lines.append(f"By {s.metric} the same runs rank worse: {_tau(row)}.")
        else:
            lines.append(f"By {s.metric} ({_tau(row)}) the same runs rank neither better nor worse beyond the noise.")
    return lines


def _tau(row: Measure) -> str:
    return f"{row.tau:+.2f} ({row.low:+.2f} to {row.high:+.2f})"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
