"""From random weights: modules as published (`paper`), or in the form that begins as the identity
(`identity`)?

    python -m benchmarks.forms cifar10 --root DATA --out DIR [--blocks 8]    # goes on where it
    ended, then prints the table

Each module at every site, in both forms, and the bare backbone: the target's trainings of a problem
of `benchmarks/tables/`, paired by seed, scored on the test images. No search has these seeds.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import torch

from benchmarks.whole import NONE, REASON, Bench, candidate_rates
from nas_attn.evaluation.plan import Plan, make_plan

SEED = 6_000
FORMS = ("identity", "paper")


def accuracy(bench: Bench, plan: Plan, text: str, seed: int) -> float:
    recipe, trainer = bench.recipes["target"], bench.trainers["target"]
    model = plan.attach(plan.bare(seed), plan.space.resolve(bench.placements[text]), seed)
    rates = candidate_rates(plan, model)
    trainer.fit(model, seed=seed, rungs=[recipe.training.rungs[-1]], rates=rates)
    return float(
        trainer.score(model, bench.dataset.read_test(REASON), seed=seed, rung=1).metrics["accuracy"]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("problem")
    parser.add_argument("--root", help="where the data set's files lie")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--blocks", type=int, default=8)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    asked.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(asked.problem, asked.out, asked.root)
    recipe = bench.recipes["target"]
    made = {
        form: recipe.model_copy(
            update={"training": recipe.training.model_copy(update={"init": form})}
        )
        for form in FORMS
    }
    plans = {
        form: make_plan(of, bench.dataset.input_shape, len(bench.dataset.classes))
        for form, of in made.items()
    }
    uniform = [
        text
        for text, values in bench.placements.items()
        if len({v.partition("(")[0] for v in values.values()}) == 1
    ]
    uniform.remove(NONE)
    file = asked.out / f"{asked.problem}.forms.jsonl"
    found = (
        {tuple(line[:3]): line[3] for line in map(json.loads, file.read_text().splitlines())}
        if file.exists()
        else {}
    )
    for block in range(asked.blocks):
        for text, form in [(NONE, FORMS[0]), *((text, form) for text in uniform for form in FORMS)]:
            if (text, form, block) not in found:
                found[text, form, block] = accuracy(bench, plans[form], text, SEED + block)
                with file.open("a") as lines:
                    lines.write(json.dumps([text, form, block, found[text, form, block]]) + "\n")
    print("| everywhere | form | gain, points |\n|---|---|---|")
    for text in uniform:
        for form in FORMS:
            off = [
                100 * (found[text, form, b] - found[NONE, FORMS[0], b]) for b in range(asked.blocks)
            ]
            print(
                f"| {text} | {form} | {statistics.fmean(off):+.2f} ±"
                f" {statistics.stdev(off) / len(off) ** 0.5:.2f} |"
            )


if __name__ == "__main__":
    main()
