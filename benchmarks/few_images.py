"""Simulated studies of few images: 576 to train on, 144 for validation, as in a folder of 900.

    python -m benchmarks.few_images --studies 40           # of each kind
    python -m benchmarks.few_images --studies 10 --budgets # in six and in twenty minutes

The noise has the parts that were measured in two such folders. A pair of networks of one seed
differs on the validation images with a standard deviation of 3 points, of which training is 0.7 to
1.2, and what an image does to a pair with every seed about 1.1; the rest is new with each run. A
run's Brier score comes from the same margins as its right answers, with a confidence of its own for
each network and each run. True effects on it and on accuracy correlate about 0.75, and their spread
over the noise of one pair is 2.2 times that of accuracy (measured: 2.5 and 2.9).

Every study searches its candidates on two seeds, and then compares the best in rounds, as a search
does. It does so in each of several ways, with the same luck as far as they share it, and its answer
is held against the truth: the expected gain on all images of the kind.

**The rules, written down before they were judged** (with seeds from 90,000 on, each once).

*Divisions.* With a division for each seed (`anew`) instead of one for all (`one`), the runs of a
seed are still compared as pairs. Across seeds the scatter holds the images' luck; what it lacks,
since the same images come back, is measured by the images that several divisions share; where they
share too few, Nadeau and Bengio's factor is used (`NewImages._redrawn`). It is kept if
1. the true gain of what is taken does not fall by more than one standard error of the difference;
2. the stated 95 % interval of its gain covers the truth in 93 % of the studies at least;
3. at most 2 % of the answers that are stated with 99 % or more are false, or two of them.
If 2 fails, the second rule is Nadeau and Bengio's factor everywhere.

*Brier.* The Brier score of a run is a second witness (`Brier`), with a division for each seed. It
is kept if 1, 2 and 3 hold against `anew`, and
4. where no network differs in accuracy and some do in confidence (`confident`), it takes no more
   networks than `anew`, by more than two standard errors.

Judged with 140 studies of 29 runs: of the answers, 7 with one division, 1 with a division for each
seed and 3 with the Brier score take a network, so that the true gain is 0.027, 0.005 and 0.006
points (anew - one: -0.022 +- 0.017; Brier - anew: +0.001 +- 0.008), where the best network has
0.344; the intervals cover 99, 99 and 100 % and are 3.5, 2.3 and 2.5 points wide. So the first rule
fails by a hair, since so few runs show nothing in any way.

*Second rules*, with seeds from 91,000 on (`--budgets`). A search has 36 runs (six minutes) or 120
(twenty), a sixth of them candidates. Divisions, and the Brier score, whose correlation with
accuracy now has a prior of 0.64 in the mean instead of 0.5, are kept if, over both times, the true
gain of what is taken does not fall by more than one standard error, and 2, 3 and 4 hold.

*Plan.* Of a time that holds 36 runs (six minutes) or 120 (twenty), the usual plan spends 55 % on
candidates that run once, and the rest on rounds of four networks (`usual 36`, `usual 120`). With
few images, candidates are a sixth of the runs, at least nine, all uniform ones among them. It is
kept if the true gain falls by no more than one standard error in either time; with a division for
each seed, and in the same studies as the second rules.

Judged with the 47 studies that were done of 84 when their time was over, which was set before:

    way         taken  false  true gain  covers  width  log loss
    one 36          2      1      0.010     100   3.42     0.621
    anew 36         2      0      0.021      98   2.17     0.593
    Brier 36        1      0      0.016     100   2.38     0.546
    usual 36        1      1      0.000     100   2.52     0.727
    one 120         9      5      0.063      98   3.02     0.696
    anew 120        3      1      0.034     100   1.82     0.663
    Brier 120       7      2      0.088      98   1.84     0.621
    usual 120       1      0      0.021     100   2.05     0.680

    anew - one     +0.011 +- 0.011 (36 runs), -0.029 +- 0.045 (120)
    Brier - anew   -0.005 +- 0.022,           +0.054 +- 0.050
    anew - usual   +0.021 +- 0.015,           +0.013 +- 0.032

Of 3 answers that were stated with 99 % or more none was false; no network was taken where only
confidence differs. So all three are kept. What they bring is less than these studies can show in
true gain; what they show is that intervals are a third narrower and still cover, that fewer of what
is taken is false (1 of 5 instead of 6 of 11, with Brier 2 of 8), and a smaller log loss. At these
budgets, most gains of half a point stay unseen in any way.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from multiprocessing import Pool
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from benchmarks.judged import rightness
from benchmarks.simulated_studies import TYPES, Floats, Noise, Study, World
from benchmarks.trust import ROUNDS, choose, rivals
from nas_attn.model import WITNESS, Evidence, ScoredRun, fit
from nas_attn.model.hypotheses import cdf
from nas_attn.notation import parse

FEW = Noise("few", level=0.5, own=0.65, seed_image=0.0, run_image=0.27, placement_image=0.11)
"""A pair on 144 images differs on 13 % of them."""
DIVIDED = 720
VALIDATED = 144
ACCURACY = 0.60
# standard deviations of the logarithm of a network's confidence, and of a run's
CONFIDENCE = 0.045
RUN_CONFIDENCE = 0.012
EFFECTS = ("gains", "any", "null", "planted", "small", "count", "confident")


@dataclass(frozen=True)
class Way:
    """How a study is searched."""

    name: str
    """Of the scores that its answer rests on: `one`, `anew` or `Brier`."""
    candidates: int = 12
    rounds: int = ROUNDS
    plan: str = ""

    def __str__(self) -> str:
        return self.plan or self.name


WAYS = tuple(map(Way, ("one", "anew", "Brier")))
RUNS_OF_A_ROUND = 4
BUDGETS = (36, 120)
# the model is fitted anew after so many rounds
LOOKED_AT = 3


def of_budgets() -> list[Way]:
    """What a time that holds so many runs is spent on."""
    found = []
    for runs in BUDGETS:
        fewer = max(9, runs // 6)
        for scores in ("one", "anew", "Brier"):
            found.append(_way(scores, fewer, runs, f"{scores} {runs}"))
        found.append(_way("anew", round(0.55 * runs), runs, f"usual {runs}"))
    return found


def _way(scores: str, candidates: int, runs: int, name: str) -> Way:
    return Way(scores, candidates, (runs - candidates - 1) // RUNS_OF_A_ROUND, name)


@dataclass(frozen=True)
class Row:
    """One answer of one study; gains in points."""

    effects: str
    seed: int
    way: str
    taken: bool
    """Whether a placement is recommended."""
    probability: float
    gain: float
    low: float
    high: float
    true: float
    """Of what is taken, or promises most."""
    best: float
    """The largest of all candidates, or 0."""


class Few(Study):
    """A study with few validation images, whose trainings are scored in one of the ways."""

    def __init__(self, world: World, rng: np.random.Generator, way: str) -> None:
        confident = world.effects == "confident"
        super().__init__(replace(world, effects="null") if confident else world, rng)
        self.way = way
        middle = NormalDist().inv_cdf(ACCURACY)
        self._middle = middle * self._scale
        self._point = 0.01 * self._scale / NormalDist().pdf(middle)
        differ = self.world.effects != "null" or confident
        self._confidence = np.exp(CONFIDENCE * differ * rng.standard_normal(len(self.placements)))
        self._order = np.sort(rng.permutation(DIVIDED)[:VALIDATED])

    def _effects(self, choices: Sequence[tuple[str, ...]]) -> Floats:
        """Of `gains`, as in the two folders: some modules bring half a point or one at all sites,
        others nothing, in proportion to the sites.
        """
        if self.world.effects != "gains":
            return super()._effects(choices)
        gains = dict(zip(TYPES, self.rng.choice([0.0, 0.0, 0.5, 1.0], len(TYPES)), strict=True))
        return np.array(
            [sum(gains.get(kind, 0.0) for kind in choice) / len(choice) for choice in choices]
        )

    def few_runs(self, key: str, seed: int) -> list[ScoredRun]:
        """One training: its accuracy, and its Brier score where that is a witness."""
        i = self._index[key]
        noise = self.world.noise
        points = self.effect[i] + self._seed(seed)[0][0]
        points += noise.own * float(self.rng.standard_normal())
        margin = self._ease[:DIVIDED] + self._middle + self._point * points
        margin += self._ways[i, :DIVIDED] + noise.run_image * self._normal(DIVIDED)
        sure = self._confidence[i] * math.exp(RUN_CONFIDENCE * self.rng.standard_normal())
        anew = self.way != "one"
        images = self._division(seed) if anew else self._order
        right = margin[images] > 0
        run = ScoredRun(
            key,
            seed,
            0,
            float(right.mean()),
            correct=np.packbits(right).tobytes(),
            examples=VALIDATED,
            images=images if anew else None,
            divided=DIVIDED if anew else 0,
        )
        if self.way != "Brier":
            return [run]
        brier = 1.5 * cdf(-1.2 * sure * margin[images]) ** 2
        return [run, ScoredRun(key, seed, WITNESS, -float(brier.mean()), examples=VALIDATED)]

    def _division(self, seed: int) -> NDArray[np.int64]:
        return np.sort(np.random.default_rng((seed, 11)).permutation(DIVIDED)[:VALIDATED])

    def look(self, runs: Sequence[ScoredRun]) -> Evidence:
        texts = {key: parse(text) for key, text in self.placements.items()}
        found = fit(runs, texts, metric="accuracy", rung=0)
        assert found is not None
        return found


def simulate(job: tuple[str, int, Sequence[Way]]) -> list[Row]:
    """One study in each way, from its first run to its answer."""
    effects, seed, ways = job
    return [_carried_out(effects, seed, way) for way in ways]


def _carried_out(effects: str, seed: int, way: Way) -> Row:
    world = World(FEW, effects, way.candidates)
    rng = np.random.default_rng([seed, *effects.encode()])
    made = Few(world, rng, way.name)
    runs = list[ScoredRun]()
    for number, key in enumerate(made.placements):
        seeds = (0, 1) if key == "none" else (number % 2,)
        runs += [run for one in seeds for run in made.few_runs(key, one)]
    evidence = made.look(runs)
    chosen, first, taken = choose(made, evidence)
    for number in range(way.rounds):
        for key in ["none", chosen, *rivals(made, evidence, chosen, first)]:
            runs += made.few_runs(key, 100 + number)
        if way.rounds > ROUNDS and number % LOOKED_AT and number < way.rounds - 1:
            continue
        evidence = made.look(runs)
        chosen, first, taken = choose(made, evidence)
    gain = evidence.gain(chosen, "none")
    assert gain is not None
    return Row(
        effects,
        seed,
        str(way),
        taken,
        gain.probability,
        100 * gain.mean,
        100 * gain.low,
        100 * gain.high,
        made.true_gain(chosen, "none"),
        max(made.true_gain(key, "none") for key in made.placements),
    )


PAIRS = (
    ("one", "anew"),
    ("anew", "Brier"),
    ("one 36", "anew 36"),
    ("one 120", "anew 120"),
    ("anew 36", "Brier 36"),
    ("anew 120", "Brier 120"),
    ("usual 36", "anew 36"),
    ("usual 120", "anew 120"),
)


def summary(rows: Sequence[Row]) -> None:
    print(
        "effects,way,studies,taken,true gain,false,sure,sure and false,covers,width,log loss,best"
    )
    for effects in ["all", *dict.fromkeys(row.effects for row in rows)]:
        for way in dict.fromkeys(row.way for row in rows):
            mine = [r for r in rows if r.way == way and effects in ("all", r.effects)]
            print(f"{effects},{way},{_figures(mine)}")
    for one, other in PAIRS:
        gains = {
            way: {(r.effects, r.seed): r.true * r.taken for r in rows if r.way == way}
            for way in (one, other)
        }
        shared = sorted(gains[one].keys() & gains[other].keys())
        if not shared:
            continue
        off = np.array([gains[other][at] - gains[one][at] for at in shared])
        print(f"{other} - {one}: {off.mean():+.3f} ± {off.std() / len(off) ** 0.5:.3f} points")


def _figures(rows: Sequence[Row]) -> str:
    found = rightness(rows)
    return (
        f"{found.answers},{found.taken},{found.gain:.3f},"
        f"{found.false},{found.sure},{found.sure_and_false},"
        f"{found.covers:.1f},{found.width:.2f},{found.log_loss:.3f},"
        f"{np.mean([row.best for row in rows]):.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=int, default=40, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budgets", action="store_true", help="in six and in twenty minutes")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", default=os.devnull, help="a CSV file of all answers")
    options = parser.parse_args()
    ways = of_budgets() if options.budgets else WAYS
    jobs = [
        (effects, options.seed + number, ways)
        for number in range(options.studies)
        for effects in EFFECTS
    ]
    rows = list[Row]()
    with Pool(options.workers) as pool, open(options.out, "w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)])
        writer.writeheader()
        for some in pool.imap_unordered(simulate, jobs):
            rows += some
            writer.writerows(asdict(row) for row in some)
            file.flush()
    summary(rows)


if __name__ == "__main__":
    main()
