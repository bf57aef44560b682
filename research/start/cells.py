"""The cells of the experiment: which network, put into which trained backbone, begins how.

Loads no torch. What trained them stands in commit 1f0a14c8: `research/start/run.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

BARE = "none"
SEEDS = range(8)
PROBLEMS = ("cifar", "fashion", "digits")
BACKBONES = ("resnet8", "mobile")
MODULES = ("se(reduction=4)", "cbam(reduction=4)", "eca")
FORMS = ("identity", "paper")
"""Values of `training.init`; modules as published (`paper`) have random gates."""
LAST = "stage3"
STAGES = ("stage1", "stage2", LAST)
PLACES = {"everywhere": STAGES, "last": (LAST,)}
SCHEDULES = {"short": 20, "long": 60}
"""Name of a fine-tuning -> its epochs. Each is a training of its own, with its own decay."""


@dataclass(frozen=True)
class Cell:
    """One fine-tuning and its score on the published test images."""

    problem: str
    backbone: str
    network: str
    """Notation: `none`, or a module's placement."""
    form: str
    """Of `FORMS`; of the bare backbone, empty."""
    schedule: str
    seed: int
    """Of the backbone's training, the images drawn, the first weights, the order and the
    augmentation.
    """


def placement(module: str, place: str) -> str:
    """A module at the stages of a place, in notation."""
    return " ".join(f"{stage}={module}" for stage in PLACES[place])


def networks() -> list[tuple[str, str]]:
    """(network, form): the bare backbone, then each module in both forms, in both places."""
    made = [(BARE, "")]
    for place in PLACES:
        for module in MODULES:
            for form in FORMS:
                made.append((placement(module, place), form))
    return made


def cells() -> Iterator[Cell]:
    """All cells: the short schedule first, which has the main figure; then seed by seed, so that
    what is finished is balanced at any time.
    """
    for schedule in SCHEDULES:
        for seed in SEEDS:
            for problem in PROBLEMS:
                for backbone in BACKBONES:
                    for network, form in networks():
                        yield Cell(problem, backbone, network, form, schedule, seed)


def cell_of(row: Mapping[str, str]) -> Cell:
    """The cell that a row is of."""
    return Cell(
        row["problem"],
        row["backbone"],
        row["network"],
        row["form"],
        row["schedule"],
        int(row["seed"]),
    )
