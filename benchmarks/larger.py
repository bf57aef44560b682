"""Attention, or just more network? Does a search know which of the two gains more?

    python -m benchmarks.larger --studies 60 --seed 50000
    python -m benchmarks.larger --imagenet accel_nasbench.npz     # what larger networks gain on
    ImageNet

Searches from scratch with the measured effects and the noise of real trainings, as in
`replayed.py`, beside a larger bare network within the latency limit. Its true gain is drawn
(normal, `--mean` and `--spread`, in points), and its runs vary as those of the bare backbone.
`once`: it runs once, after the candidates. `rounds`: it gets further seeds, and takes part in a
round unless it is less than 5 % likely to be better than what is recommended. Both have the same
number of trainings.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass
from multiprocessing import Pool

import numpy as np
from torchvision import models

from benchmarks.replayed import CANDIDATES, CONFIRM_SEEDS, Within
from benchmarks.simulated_studies import MEASURED, known
from benchmarks.trust import CONFIRMED, RIVALS, confirmed, look, rivals, search
from nas_attn.analysis.capacity import Controls, with_capacity
from nas_attn.analysis.recommendation import Contender, Recommendation
from nas_attn.analysis.recommending import recommend
from nas_attn.analysis.rounds import SETTLED
from nas_attn.backbones.larger import larger
from nas_attn.dominance import non_dominated
from nas_attn.model import Beforehand, Evidence, ScoredRun, assembling, fit
from nas_attn.notation import parse
from nas_attn.recipe import BackboneSection

LARGER, RATIO, LIMIT = "backbone=resnet8(width=10)", 1.24, 1.3


class Beside(Within):
    """The placements within the limit, and a larger network."""

    def __init__(self, problem: str, rng: np.random.Generator, mean: float, spread: float) -> None:
        super().__init__(problem, rng, null=False)
        self._truth[LARGER] = self._truth["none"] + mean + spread * rng.standard_normal()

    def runs(self, key: str, seed: int, rungs: int | None = None) -> list[ScoredRun]:
        """The larger network shares no seed's luck with the others: so it is in the judges' blocks
        of CIFAR-10.
        """
        return super().runs(key, 10_000 + seed if key == LARGER else seed, rungs)


@dataclass(frozen=True)
class Answer:
    """What a search says after so many runs."""

    evidence: Evidence
    recommended: Recommendation
    interval: tuple[float, float]
    """95 %, of the larger network's gain over the bare backbone, in points."""

    @property
    def taken(self) -> str:
        return self.recommended.instead or self.recommended.key


def answer(study: Beside, runs: list[ScoredRun]) -> Answer:
    """As a study's snapshot: the larger network has models of its own."""
    evidence = look(study, [run for run in runs if run.key != LARGER])
    able = [key for key in study.placements if evidence.estimates[key].seeds]
    latencies = {key: study.latency(key) for key in able}
    front = non_dominated(
        np.array([[-evidence.estimates[key].mean, latencies[key].ratio] for key in able])
    )
    contenders = [
        Contender(
            key,
            parse(study.placements[key]),
            key if key == "none" else None,
            evidence.estimates[key],
            latencies[key],
            bool(best),
        )
        for key, best in zip(able, front, strict=True)
    ]
    found = recommend(contenders, evidence, max_latency_ratio=LIMIT)
    assert found is not None
    names = {key: parse(key) for key in ("none", LARGER)}
    alone = fit(
        [run for run in runs if run.key in names],
        names,
        metric="accuracy",
        beforehand=Beforehand(unlike=True, larger=[LARGER]),
    )
    assert alone is not None
    gain = alone.gain(LARGER, "none")
    assert gain is not None
    control = Contender(
        LARGER, parse(LARGER), "control", alone.estimates[LARGER], known(RATIO), False
    )
    said = with_capacity(
        found,
        contenders,
        Controls([control], {LARGER: gain}),
        evidence,
        max_latency_ratio=LIMIT,
    )
    assert said is not None
    return Answer(evidence, said, (100 * gain.low, 100 * gain.high))


def met(study: Beside, now: Answer, joins: bool) -> list[str]:
    """The networks of the next round, as in `rounds.next_round`."""
    best, gains = now.recommended, now.evidence.gains("none")
    chosen = (
        best.key
        if best.key != "none"
        else max(gains, key=lambda key: gains[key].worth if key != "none" else -1)
    )
    other = best.more_accurate or best.cheaper
    others = rivals(study, now.evidence, chosen, [other.key] if other else [])
    capacity = best.capacity.gain if best.capacity else None
    joining = [LARGER] if joins and capacity and capacity.worse > SETTLED else []
    return ["none", chosen, *others[: RIVALS - len(joining)], *joining]


def replay(job: tuple[str, str, int, int, float, float]) -> dict[str, float]:
    method, problem, trainings, seed, mean, spread = job
    study = Beside(
        problem, np.random.default_rng([seed, trainings, *problem.encode()]), mean, spread
    )
    best = max(study.true_gain(key, "none") for key in study.placements)
    every = study.placements
    study.placements = {
        key: every[key] for key in list(every)[: min(CANDIDATES, trainings * 3 // 4)]
    }
    runs = (
        [run for number in (1, 2) for run in study.runs("none", number)]
        + search(study)
        + study.runs(LARGER, 0)
    )
    further = confirmed(study, look(study, [run for run in runs if run.key != LARGER]))
    if method == "rounds":
        further = [*further[: CONFIRMED - 1], LARGER]
    runs += [
        r
        for number, key in itertools.product(range(50, 50 + CONFIRM_SEEDS), further)
        for r in study.runs(key, number)
    ]
    number = 100
    while len(runs) + 2 + RIVALS <= trainings:
        for key in met(study, answer(study, runs), method == "rounds"):
            runs += study.runs(key, number)
        number += 1
    now, true = answer(study, runs), study.true_gain(LARGER, "none")
    low, high = now.interval
    lead = now.recommended.capacity.gain if now.recommended.capacity else None
    return {
        "gain": study.true_gain(now.taken, "none"),
        "possible": max(best, true, 0.0),
        "larger": now.taken == LARGER,
        "wrong": now.taken != "none" and study.true_gain(now.taken, "none") <= 0,
        "covers": low <= true <= high,
        "width": (high - low) / 2,
        "ahead": lead.worse if lead else np.nan,
        "is_ahead": true > study.true_gain(now.recommended.key, "none"),
        "runs": sum(run.key == LARGER for run in runs),
    }


def row(problem: str, trainings: int, method: str, found: list[dict[str, float]]) -> str:
    at = {key: np.array([one[key] for one in found], dtype=float) for key in found[0]}
    sure = at["ahead"] >= 0.7
    told = (
        f"{100 * at['is_ahead'][sure].mean():.0f} % of {int(sure.sum())} (stated"
        f" {100 * at['ahead'][sure].mean():.0f})"
    )
    named, half = at["gain"] != 0, at["possible"] >= 0.5
    nothing = f"{100 * (1 - named[half].mean()):.0f} % of {int(half.sum())}"
    return (
        f"| {problem} | {trainings} | {method} | {at['runs'].mean():.1f} | {at['gain'].mean():+.2f}"
        f" ± {at['gain'].std(ddof=1) / len(found) ** 0.5:.2f} of {at['possible'].mean():.2f} |"
        f" {100 * at['larger'].mean():.0f} % | {int(at['wrong'].sum())} of {int(named.sum())} |"
        f" {100 * at['covers'].mean():.0f} %, ± {at['width'].mean():.2f} | {told} | {nothing} |"
    )


def published(file: str) -> str:
    """How often the larger of two ImageNet networks of Accel-NASBench is better: it has no smaller
    stage, SE at the same stages, and 5 to 30 % more multiplications.
    """
    with np.load(file) as table:
        sizes = np.hstack([table["expansion"], table["kernel"], table["layers"]]).astype(int)
        se, accuracy, macs = table["se"], table["top1"], table["macs_m"]
    gains = list[float]()
    for i, mine in enumerate(sizes):
        more = (
            (sizes >= mine).all(1)
            & (se == se[i]).all(1)
            & (macs > 1.05 * macs[i])
            & (macs < 1.3 * macs[i])
        )
        gains += (accuracy[more] - accuracy[i]).tolist()
    return (
        f"{sum(gain > 0 for gain in gains)} of {len(gains)} larger networks are better, by"
        f" {np.mean(gains):.1f} points"
    )


def next_sizes() -> str:
    """How often the next size of a family has the better published weights of the same name in
    torchvision.
    """
    gains = list[float]()
    for name in models.list_models(models):
        for other in larger(BackboneSection(name=f"torchvision:{name}"))[:1]:
            mine, more = (
                {
                    one.name: one.meta["_metrics"]["ImageNet-1K"]["acc@1"]
                    for one in models.get_model_weights(of)
                }
                for of in (name, other.type.removeprefix("torchvision:"))
            )
            gains += [more[key] - mine[key] for key in mine.keys() & more.keys()]
    return (
        f"{sum(gain > 0 for gain in gains)} of {len(gains)} next sizes in torchvision are better,"
        f" by {np.mean(gains):.1f} points"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=int, default=60, help="of each kind")
    parser.add_argument(
        "--trainings", type=int, nargs="+", default=[72, 180], help="of each search"
    )
    parser.add_argument("--problems", nargs="+", choices=MEASURED, default=list(MEASURED))
    parser.add_argument("--seed", type=int, default=0, help="of the first study")
    parser.add_argument(
        "--mean", type=float, default=0.5, help="of the larger network's true gain, in points"
    )
    parser.add_argument("--spread", type=float, default=1.0, help="its standard deviation")
    parser.add_argument(
        "--expected",
        type=float,
        default=assembling.LARGER_GAIN,
        help="what the model expects of it; until 2026-11-26: 0",
    )
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument(
        "--imagenet",
        metavar="FILE",
        help="accel_nasbench.npz: what larger networks gain there, alone",
    )
    asked = parser.parse_args()
    if asked.imagenet:
        print(published(asked.imagenet), next_sizes(), sep="\n")
        return
    assembling.LARGER_GAIN = asked.expected
    columns = (
        "problem",
        "trainings",
        "the larger network runs",
        "runs of it",
        "true gain of what is taken, of what is there",
        "it is taken",
        "not better",
        "its gain's interval holds",
        '"it is better than attention", 70 % or more: true',
        "nothing taken, where half a point is to be had",
    )
    print(f"| {' | '.join(columns)} |")
    print("|---" * len(columns) + "|")
    with Pool(asked.workers) as pool:
        for problem, trainings, method in itertools.product(
            asked.problems, asked.trainings, ("once", "rounds")
        ):
            seeds = range(asked.seed, asked.seed + asked.studies)
            jobs = [(method, problem, trainings, seed, asked.mean, asked.spread) for seed in seeds]
            print(row(problem, trainings, method, pool.map(replay, jobs, chunksize=1)), flush=True)


if __name__ == "__main__":
    main()
