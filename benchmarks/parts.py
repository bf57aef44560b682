"""What is each part of the model worth? The same studies and searches with it and without it.

    # what an answer is worth: simulated studies
    python -m benchmarks.parts answers --studies 100 [--only pairs]
    # what a search finds: regret at 30 and 60 runs
    python -m benchmarks.parts proposals --runs 24

Answers: a row per part and kind of study (`trust.py`). Worth: true points of what is recommended, 0
where nothing is. Brier: of the stated probability that the chosen placement helps. Covered: by the
95 % interval of the chosen one's gain. Proposals: `search.py`. Differences are paired by seed, with
the part less without it, ± a standard error.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks import search, trust
from benchmarks.simulated_studies import MEASURED, AnyWorld
from benchmarks.trust_figures import Outcome
from nas_attn.analysis import recommending
from nas_attn.model import assembling, coding, evidence, functions, mixtures, variances

Changed = contextlib.AbstractContextManager[Any]


def without_shapes(module: Any, names: Sequence[str]) -> Callable[[], Changed]:
    """Leaves out the shapes in which effects have such a part."""
    shapes = functions.FUNCTION_SHAPES if module is functions else coding.EFFECT_SHAPES
    left = tuple(shape for shape in shapes if not any(getattr(shape, name) for name in names))

    def changed() -> Changed:
        if module is functions:
            return patch.object(functions, "FUNCTION_SHAPES", left)
        usual = evidence.Solution
        return patch.object(
            evidence, "Solution", lambda data, placements: usual(data, placements, left)
        )

    return changed


def assembled(
    change: Callable[[assembling.Assembled], assembling.Assembled],
) -> Callable[[], Changed]:
    """Changes the runs that the model is fitted to."""
    return lambda: patch.object(
        evidence, "assemble", lambda *given, **more: change(assembling.assemble(*given, **more))
    )


def constant(module: Any, name: str, value: Any) -> Callable[[], Changed]:
    return lambda: patch.object(module, name, value)


def last_rung() -> Changed:
    def only_last(some: Any, *given: Any, rung: int, **more: Any) -> assembling.Assembled:
        return assembling.assemble(
            [run for run in some if run.rung == rung], *given, rung=rung, **more
        )

    return patch.object(evidence, "assemble", only_last)


def one_backbone(found: assembling.Assembled) -> assembling.Assembled:
    return replace(found, data=replace(found.data, backbone=np.zeros_like(found.data.backbone)))


def all_differ(found: assembling.Assembled) -> assembling.Assembled:
    """With a probability that is as good as none; with none at all, ties would be left out too."""
    return replace(found, data=replace(found.data, equal=1e-12))


def own_blocks(found: assembling.Assembled) -> assembling.Assembled:
    return replace(found, data=replace(found.data, block=np.arange(len(found.data.block))))


ANSWERS: dict[str, tuple[Callable[[], Changed], tuple[str, ...]]] = {
    "effects of a choice at its site": (
        without_shapes(coding, ("site", "type")),
        (
            "any, scratch, 40",
            "measured fashion-mnist, scratch, 40",
            "table cued-digits, 3 backbones",
        ),
    ),
    "effects of a type at any site": (
        without_shapes(coding, ("type",)),
        (
            "any, scratch, 40",
            "measured fashion-mnist, scratch, 40",
            "table cued-digits, 3 backbones",
        ),
    ),
    "pairs of sites": (
        without_shapes(coding, ("pair",)),
        (
            "any, scratch, 40",
            "measured fashion-mnist, scratch, 40",
            "table cued-digits, 3 backbones",
        ),
    ),
    "nothing may differ": (
        assembled(all_differ),
        ("null, fine-tuning, 60", "null, scratch, 60", "any, fine-tuning, 40"),
    ),
    "ties of single placements": (
        constant(mixtures, "TIE", 0.0),
        (
            "sparse pair, fine-tuning, 40",
            "any, fine-tuning, 40",
            "any, scratch, 40",
            "null, scratch, 60",
        ),
    ),
    "placement x backbone": (
        assembled(one_backbone),
        ("null, fine-tuning, 60, 3 backbones ±0.2", "planted, fine-tuning, 60, 3 backbones ±0.2"),
    ),
    "level of a seed": (
        assembled(own_blocks),
        ("null, fine-tuning, 60", "small, fine-tuning, 60", "planted, fine-tuning, 60"),
    ),
    "lower rungs": (
        last_rung,
        (
            "null, fine-tuning, 60, 3 rungs",
            "small, fine-tuning, 60, 2 rungs",
            "planted, fine-tuning, 60, 3 rungs",
        ),
    ),
    "noise floor of the images": (
        constant(assembling, "noise_floor", lambda some, *, steps=True: None),
        ("null, fine-tuning, 20", "any, fine-tuning, 40", "planted, fine-tuning, 20"),
    ),
    "broken runs are cut": (
        constant(assembling, "_cut", lambda values, block: (values, np.zeros(len(values)))),
        ("table cued-digits, 3 backbones", "table cued-digits, 3 backbones, 2 rungs"),
    ),
    "a tenth of one run's noise counts, not only half": (
        constant(recommending, "OF_NOISE", 0.5),
        (
            "null, scratch, 60",
            *(
                f"measured {problem}, scratch, 30, 3 further seeds{more}"
                for problem in MEASURED
                for more in ("", ", 60 rounds")
            ),
        ),
    ),
    "draws until there are enough": (
        constant(variances, "MOST_DRAWING_ROUNDS", variances.FEWEST_DRAWING_ROUNDS),
        ("null, fine-tuning, 60, 3 backbones ±0.2", "planted, fine-tuning, 60, 3 backbones ±0.2"),
    ),
}
"""Part -> how to leave it out, and the kinds of study in which it should matter."""
PROPOSALS = {
    "effects of a type at any site": without_shapes(functions, ("type",)),
    "pairs of sites": without_shapes(functions, ("pair",)),
}
PROBLEMS = ("shared 0.5", "unshared 0.5", "pairs 1", "sparse 1", "nb201 0 1")


@contextlib.contextmanager
def left_out(changed: Callable[[], Changed]) -> Iterator[None]:
    """Without a part, and without what was found and remembered with it."""
    variances.forget()
    with changed():
        yield
    variances.forget()


def kinds(names: Sequence[str]) -> list[AnyWorld]:
    return [world for world in trust.worlds() if world.name in names]


def answers(asked: argparse.Namespace) -> Iterator[str]:
    yield (
        "| part | kind of study | worth, points | Brier score | covered with | without"
        " |\n|---|---|---|---|---|---|"
    )
    usual: dict[tuple[str, int], Outcome] = {}
    for name, (changed, where) in ANSWERS.items():
        for world in kinds(where) if asked.only in name else []:
            seeds = range(asked.first, asked.first + asked.studies)
            for seed in seeds:
                if (world.name, seed) not in usual:
                    usual[world.name, seed] = trust.simulate((world, seed))
            with left_out(changed):
                without = [trust.simulate((world, seed)) for seed in seeds]
            found = [usual[world.name, seed] for seed in seeds]
            cells = [paired(found, without, lambda one: one.worth), paired(found, without, brier)]
            cells += [
                f"{100 * np.mean([o.gain_covers for o in some]):.0f} %" for some in (found, without)
            ]
            yield f"| {name} | {world.name} | {' | '.join(cells)} |"


def brier(found: Outcome) -> float:
    return (found.probability - (found.true > 1e-6)) ** 2


def paired(these: Sequence[Any], others: Sequence[Any], of: Callable[[Any], float]) -> str:
    off = np.array([of(a) - of(b) for a, b in zip(these, others, strict=True)])
    return f"{off.mean():+.3f} ± {off.std(ddof=1) / np.sqrt(len(off)):.3f}"


def proposals(asked: argparse.Namespace) -> Iterator[str]:
    yield "| part | problem | regret at 30 runs | at 60 |\n|---|---|---|---|"
    for problem in PROBLEMS:
        if problem.startswith("nb201") and not asked.nasbench:
            continue
        jobs = [
            search.Job(problem, search.OURS, seed, 60)
            for seed in range(asked.first, asked.first + asked.runs)
        ]
        usual = [list(search.work(job, asked)) for job in jobs]
        for name, changed in PROPOSALS.items():
            with left_out(changed):
                without = [list(search.work(job, asked)) for job in jobs]
            cells = [
                paired(at(usual, budget), at(without, budget), lambda one: one["model"])
                for budget in (30, 60)
            ]
            yield f"| {name} | {problem} | {' | '.join(cells)} |"


def at(found: Sequence[Sequence[Any]], budget: int) -> list[Any]:
    return [line for lines in found for line in lines if line["at"] == budget]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("answers", "proposals"))
    parser.add_argument("--studies", type=int, default=100, help="of each kind")
    parser.add_argument("--runs", type=int, default=24, help="searches of each problem")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--only", default="", help="parts with this in their name")
    parser.add_argument("--nasbench", help="NAS-Bench-201 as one .npz")
    parser.set_defaults(imagenet="", tables="")
    asked = parser.parse_args()
    for line in (answers if asked.what == "answers" else proposals)(asked):
        print(line, flush=True)


if __name__ == "__main__":
    main()
