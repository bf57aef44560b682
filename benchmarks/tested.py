"""What tests add to a study's answer: simulated studies of small folders whose truth is known.

    python -m benchmarks.tested --studies 40              # of each kind

A study searches as `trust.py` does, on its validation images. Then the bare network, the one that
is recommended (or promises most) and the best uniform one are trained with fresh seeds, and scored
on validation and test images, as `nas-attn test` does. Its answer is made three times: from the
search alone, from all runs on validation images, and from all runs on both kinds of images. Each is
held against the truth over all images of the kind, and against the test's own verdict.

The rule, written down before it was judged on the kinds of `unseen_effects.py` (`--unseen`):
results on test images are one more rung of the model, above the target, whose correlation with the
rung below has a prior with its middle at 0.97. It is kept if, of the answers from all runs,
1. at most one in twenty contradicts its own test: nothing is recommended though the test says
   "better" of the network in question, or one is recommended of which it says "worse";
2. at most 2 % of those stated with 99 % or more are false;
3. the true gain of what is taken is no smaller than without the test images.

Judged with seeds from 70,000 on, it failed in folders: 27 of 480 answers contradicted their test
(9 of 480 with 2,000 validation images), none of 92 sure answers was false, and the true gain was
0.080 instead of 0.096 points (-0.017 +- 0.010; large: +0.002 +- 0.007). In these 27 the test's
"better" was about its 180 images: the network was truly better in 16, by 0.12 points on average. So
the second rule is the same with a test that speaks of new images, whose interval has the images'
luck, too. Judged with seeds from 80,000 on (320 studies of each size): 0 and 2 answers contradict
their test, none of 65 sure ones is false, and the true gain is 0.163 instead of 0.158 points in
folders, 0.249 instead of 0.251 in large data. It is kept.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from multiprocessing import Pool

import numpy as np

from benchmarks.judged import rightness
from benchmarks.simulated_studies import FINE_TUNING, SCRATCH, Study, World
from benchmarks.trust import ROUNDS, choose, confirmed, look, rivals, search
from benchmarks.unseen_effects import UNSEEN
from nas_attn.analysis.validation import Differences, Verdict, judge
from nas_attn.model import TESTED, Evidence, ScoredRun

EFFECTS = ("any", "null", "planted", "pair", "small", "count")
SIZES = {"folder": (144, 180, 14), "large": (2000, 3000, 8)}
"""Validation images, test images, and blocks of the test."""


@dataclass(frozen=True)
class Row:
    """One answer of one study; gains in points."""

    world: str
    size: str
    seed: int
    runs: str
    """`search`, `validation` or `all`: what the answer rests on."""
    taken: bool
    """Whether a placement is recommended."""
    probability: float
    gain: float
    low: float
    high: float
    true: float
    verdict: str
    """Of the test, for the network in question: `better`, `not shown`, `worse` or `untested`."""


def of_images(run: ScoredRun, first: int, count: int, rung: int) -> ScoredRun:
    """A run as it is scored on some of its images."""
    right = np.unpackbits(np.frombuffer(run.correct or b"", dtype=np.uint8))[first : first + count]
    return ScoredRun(
        run.key,
        run.seed,
        rung,
        float(right.mean()),
        run.backbone,
        np.packbits(right).tobytes(),
        count,
    )


class Folder(Study):
    """A study whose runs are scored on its validation images only."""

    validation, test = 144, 180

    def runs(self, key: str, seed: int, rungs: int | None = None) -> list[ScoredRun]:
        return [
            of_images(run, 0, self.validation, run.rung) for run in super().runs(key, seed, rungs)
        ]

    def tested(self, key: str, seed: int) -> tuple[ScoredRun, ScoredRun]:
        """One training on validation images and on test images."""
        run = super().runs(key, seed)[-1]
        return (
            of_images(run, 0, self.validation, run.rung),
            of_images(run, self.validation, self.test, TESTED),
        )


def simulate(job: tuple[World, str, int]) -> list[Row]:
    """One study from its first run to the answers before and after its test."""
    world, size, seed = job
    made = Folder(world, np.random.default_rng([seed, *world.name.encode(), *size.encode()]))
    made.validation, made.test, blocks = SIZES[size]
    runs = search(made)
    for number in range(ROUNDS):
        evidence = look(made, runs)
        chosen, first, _ = choose(made, evidence)
        extra = confirmed(made, evidence) if number < 2 else rivals(made, evidence, chosen, first)
        for key in dict.fromkeys(["none", chosen, *extra]):
            runs += made.runs(key, 100 + number)
    evidence = look(made, runs)
    networks = wanted(made, evidence)
    pairs = {key: [made.tested(key, 1000 + block) for block in range(blocks)] for key in networks}
    verdicts = judge(
        {key: [test.value for _, test in of] for key, of in pairs.items()},
        [(key, "none") for key in networks if key != "none"],
        images={
            key: [
                np.unpackbits(np.frombuffer(test.correct or b"", np.uint8), count=made.test) > 0
                for _, test in of
            ]
            for key, of in pairs.items()
        },
        differences=Differences(1 / made.test, 1.0),
    )
    words = {verdict.network: for_new_images(verdict) for verdict in verdicts}
    validation = [run for of in pairs.values() for run, _ in of]
    test = [run for of in pairs.values() for _, run in of]
    answers = {
        "search": evidence,
        "validation": look(made, runs + validation),
        "all": look(made, runs + validation + test),
    }
    return [answer(made, size, seed, name, of, words) for name, of in answers.items()]


def for_new_images(verdict: Verdict) -> str:
    """What the test says of new images: these test images may flatter a network, too."""
    assert verdict.new_low is not None
    assert verdict.new_high is not None
    if verdict.new_low > 0:
        return "better"
    return "worse" if verdict.new_high < 0 else "not shown"


def wanted(made: Study, evidence: Evidence) -> list[str]:
    chosen, _, _ = choose(made, evidence)
    uniform = [key for key in made.placements if key.startswith("uniform")]
    best = max(uniform, key=lambda key: evidence.estimates[key].mean)
    return list(dict.fromkeys(["none", chosen, best]))


def answer(
    made: Study, size: str, seed: int, runs: str, evidence: Evidence, words: dict[str, str]
) -> Row:
    chosen, _, taken = choose(made, evidence)
    gain = evidence.gain(chosen, "none")
    assert gain is not None
    return Row(
        made.world.name,
        size,
        seed,
        runs,
        taken,
        gain.probability,
        100 * gain.mean,
        100 * gain.low,
        100 * gain.high,
        made.true_gain(chosen, "none"),
        words.get(chosen, "untested"),
    )


def summary(rows: Sequence[Row]) -> None:
    print("runs,studies,taken,true gain,false,sure,sure and false,covers,width,log loss,", end="")
    print("better but not taken,worse but taken")
    for name in dict.fromkeys(row.runs for row in rows):
        mine = [row for row in rows if row.runs == name]
        found = rightness(mine)
        print(
            f"{name},{found.answers},{found.taken},{found.gain:.3f},"
            f"{found.false},{found.sure},{found.sure_and_false},"
            f"{found.covers:.1f},{found.width:.2f},"
            f"{found.log_loss:.3f} ± {found.log_loss_error:.3f},"
            f"{sum(not row.taken and row.verdict == 'better' for row in mine)},"
            f"{sum(row.taken and row.verdict == 'worse' for row in mine)}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=int, default=40, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--candidates", type=int, default=12)
    parser.add_argument("--out")
    parser.add_argument("--unseen", action="store_true", help="kinds that the rule was not made on")
    parser.add_argument("--size", choices=tuple(SIZES))
    options = parser.parse_args()
    jobs = [
        (World(noise, effects, options.candidates), size, options.seed + number)
        for number in range(options.studies)
        for noise in (SCRATCH, FINE_TUNING)
        for effects in (UNSEEN if options.unseen else EFFECTS)
        for size in ([options.size] if options.size else SIZES)
    ]
    rows = list[Row]()
    with Pool(2) as pool:
        for some in pool.imap_unordered(simulate, jobs):
            rows += some
    if options.out:
        with open(options.out, "w", newline="") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(Row)])
            writer.writeheader()
            writer.writerows(asdict(row) for row in rows)
    summary(rows)


if __name__ == "__main__":
    sys.exit(main())
