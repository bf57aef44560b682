"""Writes the short fine-tunings as rows of the table of published comparisons.

    python -m research.start.published

The long ones are left out as long as seeds are missing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from research.evidence.comparisons import COMPARISONS_FILE
from research.published import TableRow, described, scored, table_with
from research.start.analysis import Scores, scores
from research.start.cells import (
    BACKBONES,
    BARE,
    FORMS,
    MODULES,
    PLACES,
    PROBLEMS,
    SCHEDULES,
    SEEDS,
    STAGES,
    Cell,
    placement,
)

EXPERIMENT = "research/start"
SCHEDULE = "short"
DATA = {"cifar": "cifar10", "fashion": "fashion-mnist", "digits": "digits"}
NETWORKS = {"resnet8": "resnet8(width=8)", "mobile": "mobile(width=8)"}
STARTS_AS = {"identity": "identity", "paper": "random"}
RECIPE = described(EXPERIMENT, SCHEDULES[SCHEDULE], 600, len(SEEDS))


def rows(known: Scores) -> Iterator[TableRow]:
    """One for each problem, backbone, place, module and form, from all seeds."""
    for problem, backbone in itertools.product(PROBLEMS, BACKBONES):
        bare = _of_seeds(known, problem, backbone, BARE, "")
        for place, module, form in itertools.product(PLACES, MODULES, FORMS):
            network = placement(module, place)
            yield {
                "task": "classification",
                "data": DATA[problem],
                "test": "test",
                "network": NETWORKS[backbone],
                "module": module.partition("(")[0],
                "place": "backbone",
                "begin": f"{1 - len(PLACES[place]) / len(STAGES):.3g}",
                "end": "1",
                "start": "pretrained",
                "form": STARTS_AS[form],
                "recipe": RECIPE,
                **scored(bare, _of_seeds(known, problem, backbone, network, form)),
            }


def _of_seeds(known: Scores, problem: str, backbone: str, network: str, form: str) -> list[float]:
    """A network's accuracies, percent."""
    return [known[Cell(problem, backbone, network, form, SCHEDULE, seed)] for seed in SEEDS]


def main() -> None:
    COMPARISONS_FILE.write_text(table_with(rows(scores()), EXPERIMENT), encoding="utf-8")
    print(f"wrote {COMPARISONS_FILE}")


if __name__ == "__main__":
    main()
