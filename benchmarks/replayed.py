"""Who names the better placement at an equal number of trainings? Searches replayed with the
effects and noise of real trainings.

    python -m benchmarks.replayed --studies 100 --trainings 24 72 180
    # "none" where a uniform placement helps
    python -m benchmarks.replayed --methods ours --uniform 0.5 --trainings 72 180 320

`whole.py` trains for real, so an hour of CPU gives one search. Here a training is drawn from what
the target's runs of `protocols.py` leave (`simulated_studies.MeasuredStudy`): nine effects of SE,
ECA and ELA-T in a narrow ResNet-8 from random weights, on Fashion-MNIST and on CIFAR-10, the levels
of seeds, and the tails of single runs. ELA-T is left out: it is over the limit of 1.3 times the
latency in `whole.py`. Every training is as long as the target's; all methods get the same studies.

- `ours`: a search much as `nas-attn search` runs it: candidates (by lot) once, further seeds for
  six networks, then rounds.
- `bet`: the same, and where it recommends the bare backbone, its best bet all the same: a script
  always takes one.
- `single`: a script: each training another placement, all 27 by turns; it takes the best mean.
- `uniform`: each module everywhere and the bare backbone, with equal seeds; it takes the best mean.
- `se`: SE everywhere, without a search.
- `any`: a placement by lot: what a script gains whose brief trainings say nothing about the target.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing import Pool

import numpy as np

from benchmarks.simulated_studies import MEASURED, MeasuredStudy, MeasuredWorld
from benchmarks.trust import CONFIRMED, RIVALS, choose, confirmed, look, rivals, search
from nas_attn.model import ScoredRun

CONFIRM_SEEDS, CANDIDATES = 3, 24
FEW = 40  # with fewer trainings there are no further seeds before the rounds


class Within(MeasuredStudy):
    """The 27 placements within the limit. `null`: no placement differs from another."""

    def __init__(self, problem: str, rng: np.random.Generator, *, null: bool) -> None:
        super().__init__(
            MeasuredWorld(problem, candidates=64, effects="null" if null else "measured"), rng
        )
        self.placements = {key: text for key, text in self.placements.items() if "ela" not in text}


def ours(study: Within, trainings: int, *, bet: bool = False) -> str:
    """What a search with so many trainings recommends; `bet`: or its best bet."""
    every, first = study.placements, list(study.placements)[: min(CANDIDATES, trainings * 3 // 4)]
    study.placements = {key: every[key] for key in first}
    runs = [run for seed in (1, 2) for run in study.runs("none", seed)] + search(study)
    if trainings > FEW:
        keys = confirmed(study, look(study, runs))
        for seed, key in itertools.product(range(50, 50 + CONFIRM_SEEDS), keys):
            runs += study.runs(key, seed)
    number = 100
    while True:
        evidence = look(study, runs)
        chosen, other, named = choose(study, evidence)
        if len(runs) + 2 + RIVALS > trainings:
            return chosen if named or bet else "none"
        for key in ("none", chosen, *rivals(study, evidence, chosen, other)):
            runs += study.runs(key, number)
        number += 1


def best_of(study: Within, keys: Sequence[str], trainings: int, each_seed: int) -> str:
    """The best mean of so many trainings, the placements by turns."""
    found: dict[str, list[ScoredRun]] = {}
    for number, key in zip(range(trainings), itertools.cycle(keys), strict=False):
        found.setdefault(key, []).extend(study.runs(key, number // each_seed))
    return max(found, key=lambda key: statistics.fmean(run.value for run in found[key]))


def single(study: Within, trainings: int) -> str:
    keys = study.rng.permutation(list(study.placements)).tolist()
    return best_of(study, keys, trainings, each_seed=1)


def uniform(study: Within, trainings: int) -> str:
    keys = [key for key in study.placements if key == "none" or key.startswith("uniform")]
    return best_of(study, keys, trainings, each_seed=len(keys))


METHODS: dict[str, Callable[[Within, int], str]] = {
    "ours": ours,
    "bet": partial(ours, bet=True),
    "single": single,
    "uniform": uniform,
    "se": lambda study, trainings: "uniform-se",
    "any": lambda study, trainings: str(study.rng.choice(list(study.placements))),
}
Job = tuple[str, str, int, bool, int]


def made(problem: str, trainings: int, seed: int, *, null: bool) -> Within:
    return Within(problem, np.random.default_rng([seed, trainings, *problem.encode()]), null=null)


def seeds(problem: str, trainings: int, first: int, count: int, least: float | None) -> list[int]:
    """So many seeds from the first on; with `least`, of studies in which a uniform placement truly
    gains so many points.
    """

    def gains(study: Within) -> bool:
        return least is None or least <= max(
            study.true_gain(k, "none") for k in study.placements if "uniform" in k
        )

    fitting = (n for n in itertools.count(first) if gains(made(problem, trainings, n, null=False)))
    return list(itertools.islice(fitting, count))


def replay(job: Job) -> tuple[bool, float, float]:
    """(whether attention is named, its true gain in points, the largest true gain that was to be
    had).
    """
    method, problem, trainings, null, seed = job
    study = made(problem, trainings, seed, null=null)
    best = max(study.true_gain(key, "none") for key in study.placements)
    named = METHODS[method](study, trainings)
    return named != "none", study.true_gain(named, "none"), best


def row(jobs: Sequence[Job], found: Sequence[tuple[bool, float, float]]) -> str:
    """A line of the table."""
    method, problem, trainings, null, _ = jobs[0]
    named, gain, best = np.array(found, dtype=float).T
    worthwhile = best >= 0.5
    none = f"{100 * (1 - named[worthwhile].mean()):.0f} %" if worthwhile.any() else "–"
    wrong = int((named * (gain <= 1e-9)).sum())
    return (
        f"| {problem}{', nothing differs' if null else ''} | {trainings} | {method} |"
        f" {100 * named.mean():.0f} % | {none} | {wrong} of {int(named.sum())} | {gain.mean():+.2f}"
        f" ± {gain.std(ddof=1) / len(gain) ** 0.5:.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=int, default=100, help="of each kind")
    parser.add_argument(
        "--trainings", type=int, nargs="+", default=[24, 72, 180], help="of each search"
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--problems", nargs="+", choices=MEASURED, default=list(MEASURED))
    parser.add_argument("--seed", type=int, default=0, help="of the first study")
    parser.add_argument(
        "--uniform",
        type=float,
        help="only studies in which a uniform placement gains so many points",
    )
    parser.add_argument("--workers", type=int, default=1)
    asked = parser.parse_args()
    print(f"Up to {CONFIRMED} networks get further seeds.", file=sys.stderr)
    print(
        "| problem | trainings | method | names attention | none, where half a point is to be had |"
        " not better | true gain |"
    )
    print("|---|---|---|---|---|---|---|")
    with Pool(asked.workers) as pool:
        for kind in itertools.product(
            asked.trainings, asked.problems, (False, True), asked.methods
        ):
            trainings, problem, null, method = kind
            if null and (method in ("bet", "se", "any") or asked.uniform is not None):
                continue
            taken = seeds(problem, trainings, asked.seed, asked.studies, asked.uniform)
            jobs: list[Job] = [(method, problem, trainings, null, seed) for seed in taken]
            print(row(jobs, pool.map(replay, jobs, chunksize=1)), flush=True)


if __name__ == "__main__":
    main()
