"""What `nas-attn test` may claim: errors, coverage and power on simulated families.

    python -m research.verdict.simulate     # a minute

Every network is as good as the others ("better" would be false), or one is better by what the
forecast says that so many blocks show with 80 %. Blocks share a level. Kinds of noise: `normal`;
`noisy`: the first finalist's runs vary twice as much; `heavy`: Student's t with 3 degrees of
freedom; `interaction`: placement and backbone interact with the size of the noise, drawn anew per
block, as fresh backbones are.

Columns: share of families with a false "better" (aim: at most 5 %), share of comparisons whose
simultaneous interval covers the truth (aim: at least 93 %), power at the forecast difference.
Errors are standard errors of the simulation.

A second table draws the test images, too: every image has its own chance of being right with each
network, and the truth is the gain over all images there are; intervals for these images and for new
ones, and how often they cover it.
"""

from __future__ import annotations

import argparse
import math
import time

import numpy as np
from numpy.typing import NDArray

from nas_attn.answer.pair_tests import critical, detectable, moderated, variance_by_images

KINDS = ("normal", "noisy", "heavy", "interaction")


def draw(
    rng: np.random.Generator, kind: str, families: int, networks: int, blocks: int
) -> NDArray[np.float64]:
    """(families, networks, blocks): values of equal networks, one run's standard deviation 1."""
    shape = (families, networks, blocks)
    if kind == "heavy":
        runs = rng.standard_t(3, shape) / math.sqrt(3)
    elif kind == "interaction":
        runs = (rng.standard_normal(shape) + rng.standard_normal(shape)) / math.sqrt(2)
    else:
        runs = rng.standard_normal(shape)
    if kind == "noisy":
        runs[:, 0] *= 2
    return runs + 3 * rng.standard_normal((families, 1, blocks))


def measure(
    kind: str, finalists: int, blocks: int, families: int, seed: int
) -> tuple[float, float, float]:
    """(false "better", coverage, power at the forecast difference)."""
    rng = np.random.default_rng([seed, KINDS.index(kind), finalists, blocks])
    better = covered = shown = 0
    gain = detectable(finalists, blocks, math.sqrt(2))
    for values in draw(rng, kind, families, finalists + 1, blocks):
        tests = []
        for network in range(finalists):
            others = [row for row in range(finalists) if row != network]
            mean, variance, freedoms = moderated([values[[network, finalists, *others]]])
            tests.append((mean, critical(finalists, freedoms) * math.sqrt(variance)))
        better += any(mean > half for mean, half in tests)
        covered += sum(abs(mean) <= half for mean, half in tests)
        mean, half = tests[0]
        shown += mean + gain > half
    return better / families, covered / families / finalists, shown / families


def new_images(blocks: int, images: int, families: int, seed: int) -> tuple[float, float]:
    """How often the interval for these images, and the one for new images, cover the gain over the
    whole population.
    """
    rng = np.random.default_rng([seed, blocks, images])
    population = 200_000
    hard = rng.standard_normal(population)
    helped = 0.5 * rng.standard_normal(population)
    chances = [1 / (1 + np.exp(-2 * (hard + shift))) for shift in (0.0, helped)]
    truth = float(chances[1].mean() - chances[0].mean())
    hits = np.zeros(2)
    for _ in range(families):
        test = rng.choice(population, images, replace=False)
        right = {
            key: [
                rng.random(images) < np.clip(chance[test] + 0.02 * rng.standard_normal(), 0, 1)
                for _ in range(blocks)
            ]
            for key, chance in (("a", chances[1]), ("none", chances[0]))
        }
        own, other = (np.array(right[key], float) for key in ("a", "none"))
        table = np.array([own.mean(1), other.mean(1)])
        mean, variance, freedoms = moderated([table], 1 / images)
        total = variance + variance_by_images(own - other)
        more = min(total**2 / (variance**2 / freedoms), 10_000.0)
        half = critical(1, freedoms) * math.sqrt(variance)
        new = max(half, critical(1, more) * math.sqrt(total))
        hits += abs(mean - truth) <= half, abs(mean - truth) <= new
    return float(hits[0] / families), float(hits[1] / families)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--families", type=int, default=4000, help="simulated families per row")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    began, n = time.time(), options.families
    print(
        f"{n} families a row; standard errors: false better {math.sqrt(0.025 * 0.975 / n):.2%},"
        f" power {0.4 / math.sqrt(n):.1%}\n"
    )
    print(
        "| noise | finalists | blocks | false better | covers | power (forecast 80 %)"
        " |\n|---|---|---|---|---|---|"
    )
    for kind in KINDS:
        for finalists in (1, 3, 5):
            for blocks in (3, 5, 8, 20):
                better, covered, shown = measure(kind, finalists, blocks, n, options.seed)
                print(
                    f"| {kind} | {finalists} | {blocks} | {better:.1%} | {covered:.1%} |"
                    f" {shown:.0%} |",
                    flush=True,
                )
    few = max(100, n // 8)
    print(f"\n{few} families a row; standard error {math.sqrt(0.05 * 0.95 / few):.1%}\n")
    print(
        "| blocks | test images | these images' interval covers | new images' interval covers"
        " |\n|---|---|---|---|"
    )
    for blocks in (3, 8, 20):
        for images in (500, 5000):
            these, new = new_images(blocks, images, few, options.seed)
            print(f"| {blocks} | {images} | {these:.1%} | {new:.1%} |", flush=True)
    print(f"\n{time.time() - began:.0f} s")


if __name__ == "__main__":
    main()
