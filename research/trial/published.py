"""Writes the trial's full trainings as rows of the table of published comparisons.

    python -m research.trial.published

Only problems of which all seeds are there; larger networks and convolutions are no attention, and
what was trained unlike its paper is not what others publish of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from research.evidence.comparisons import COMPARISONS_FILE
from research.published import TableRow, described, scored, table_with
from research.trial.cells import BARE, LAST, SEEDS, STAGES
from research.trial.gains import attention, module_of
from research.trial.plan import PROBLEMS
from research.trial.table import TrialTable, read_trial

EXPERIMENT = "research/trial"
DATA = {"cifar": "cifar10", "fashion": "fashion-mnist", "digits": "digits", "transfer": "cifar10"}
IMAGES = {"cifar": 2000, "fashion": 2000, "digits": 2000, "transfer": 600}
"""For training."""

UNLIKE_ITS_PAPER = ("sge", "gc")
"""Modules that are left out: `sge` had groups of one channel, `gc` two hidden values (README.md,
Changes).
"""


def tables() -> dict[str, TrialTable]:
    """The full trainings of each problem that are there."""
    return {problem: read_trial(problem) for problem in PROBLEMS}


def rows(of_problems: Mapping[str, TrialTable]) -> Iterator[TableRow]:
    """One for each placement of attention, in the problems that are whole."""
    for problem, table in of_problems.items():
        if not np.isfinite(table.accuracy).all():
            continue
        plan = PROBLEMS[problem]
        percent = dict(zip(table.networks, 100 * table.accuracy, strict=True))
        for network in attention():
            module = module_of(network)
            if module in UNLIKE_ITS_PAPER:
                continue
            yield {
                "task": "classification",
                "data": DATA[problem],
                "test": "test",
                "network": "resnet8(width=8)",
                "module": module,
                "place": "backbone",
                "begin": f"{1 - 1 / len(STAGES):.3g}" if network.startswith(LAST) else "0",
                "end": "1",
                "start": "pretrained" if plan.pretrained else "scratch",
                "form": "identity",
                "recipe": described(EXPERIMENT, plan.epochs, IMAGES[problem], len(SEEDS)),
                **scored(percent[BARE], percent[network]),
            }


def main() -> None:
    COMPARISONS_FILE.write_text(table_with(rows(tables()), EXPERIMENT), encoding="utf-8")
    print(f"wrote {COMPARISONS_FILE}")


if __name__ == "__main__":
    main()
