"""The cells of the trial: which networks, trained on what, for how long, with which seeds.

Loads no torch: readers of the results need nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.rows import Row, append_row, read_rows

HERE = Path(__file__).parent
BARE = "none"
WIDTHS = (10, 12, 16)
"""Channels of the larger networks' first stage; the bare backbone has 8."""
SEEDS = range(8)
MODULES = (
    "se",
    "eca",
    "ese",
    "nam",
    "srm",
    "gct",
    "gc",
    "cbam",
    "bam",
    "gam",
    "simam",
    "sge",
    "scse",
    "triplet",
    "ema",
    "shuffle",
    "mlca",
    "psa",
    "ge",
    "lska",
    "lsk",
    "sk",
    "caa",
    "cpca",
    "coord",
    "ela",
    "scsa",
    "sdpa",
    "mhsa",
    "dwconv",
    "conv",
)
"""The catalogue before the first run: what has joined it since is not of the trial."""
NO_ATTENTION = ("dwconv", "conv")
"""Controls among the modules."""
LAST = "stage3"
STAGES = ("stage1", "stage2", LAST)
CHANNELS = (8, 16, 32)
"""Of the bare backbone's stages."""


@dataclass(frozen=True)
class Problem:
    """Data and training; the recipe is `problems/NAME.toml`."""

    name: str
    epochs: int
    """Of the full training: as long as the bare backbone needs (README.md)."""
    pretrained: bool = False
    """Fine-tuned from a backbone that `pretraining.toml` trains, one for each seed."""

    @property
    def schedules(self) -> dict[str, int]:
        """Name of a schedule -> its epochs. Each is a training of its own, with its own decay."""
        return {"full": self.epochs, "quarter": self.epochs // 4}


@dataclass(frozen=True)
class Cell:
    """One training and its score on the published test images."""

    problem: str
    network: str
    """Notation: `none`, `stage3=se`, `stage1=se stage2=se stage3=se`, or another backbone,
    `backbone=resnet8(width=10)`.
    """
    schedule: str
    seed: int
    """Of the images drawn for training, the first weights, the order and the augmentation."""


def everywhere(module: str) -> str:
    """The module at every stage, with its default knobs of the day of the plan."""
    return " ".join(f"{stage}={module}" for stage in STAGES)


def as_trained(network: str) -> str:
    """Notation of a network with the knobs that its default ones were before the first run: `sge`
    had a group for each channel, `gc` two hidden values. Both have more since.
    """
    for stage, channels in zip(STAGES, CHANNELS, strict=True):
        knobs = {"sge": f"groups={channels}", "gc": f"reduction={channels // 2}"}
        for module, knob in knobs.items():
            without_knobs = rf"\b{stage}={module}(?![\w(])"
            network = re.sub(without_knobs, f"{stage}={module}({knob})", network)
    return network


def networks() -> list[str]:
    """Bare backbone, larger networks, then each module in both places."""
    found = [BARE]
    for width in WIDTHS:
        found.append(f"backbone=resnet8(width={width})")
    for module in MODULES:
        found.append(everywhere(module))
        found.append(f"{LAST}={module}")
    return found


def rows_file(problem: str) -> Path:
    """Where a problem's finished cells lie, a line of JSON each."""
    return HERE / "rows" / f"{problem}.jsonl"


def finished_rows(problem: str) -> list[Row]:
    """A problem's finished cells."""
    return read_rows(rows_file(problem))


def keep_cell(cell: Cell, result: Row) -> None:
    """Adds a finished cell, brought to the disk at once."""
    path = rows_file(cell.problem)
    path.parent.mkdir(exist_ok=True)
    append_row(path, {**asdict(cell), **result})


def cells(problems: list[Problem], dear: frozenset[str]) -> Iterator[Cell]:
    """All cells, seed by seed, so that what is finished is balanced at any time.

    `dear`: networks that are left out, by notation.
    """
    for seed in SEEDS:
        for problem in problems:
            for network in networks():
                if network in dear:
                    continue
                for schedule in problem.schedules:
                    yield Cell(problem.name, network, schedule, seed)
