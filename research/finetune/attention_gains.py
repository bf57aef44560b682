"""What six attention modules gain in Lite0 with published weights: the rows that `attention.py`
trained, as a table.

    python -m research.finetune.attention_gains
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from scipy.stats import t as student

ROWS = Path(__file__).parent / "attention.jsonl"
BARE = "none"
MODULES = (
    "se(reduction=4)",
    "eca",
    "cbam(reduction=4)",
    "coord",
    "ela(variant=T)",
    "simam",
)
RATE_SEEDS = 2
COLUMNS = (
    "module",
    "trainings",
    "gain, points",
    "each by itself, 95 %",
    "all six together, 95 %",
    "300 photographs",
    "600 photographs",
    "log-loss",
)
FOUND = MappingProxyType({"first": 1.0, "last": 1.0})
"""The rate that the modules are trained at."""


@dataclass(frozen=True)
class Training:
    """One training."""

    folder: str
    module: str
    rate: float
    seed: int


def known() -> list[dict[str, Any]]:
    """The rows that are there."""
    return [json.loads(line) for line in ROWS.read_text().splitlines()] if ROWS.exists() else []


def training_of(row: dict[str, Any]) -> Training:
    """Which training a row is of."""
    return Training(row["folder"], row["module"], row["rate"], row["seed"])


def gains(key: str, module: str, folders: Sequence[str] = tuple(FOUND)) -> list[float]:
    """A module's differences to the bare network, one for each folder and seed that has both."""
    values = {training_of(row): row[key] for row in known()}
    found = [one for one in values if one.folder in folders and one.rate == FOUND[one.folder]]
    bare = {one: replace(one, module=BARE) for one in found if one.module == module}
    return [values[one] - values[other] for one, other in bare.items() if other in values]


def interval(differences: Sequence[float], error: float = 0.05) -> tuple[float, float]:
    """(mean, half the width of the interval by Student's t)."""
    count = len(differences)
    scale = float(student.ppf(1 - error / 2, count - 1))
    return statistics.mean(differences), scale * statistics.stdev(differences) / math.sqrt(count)


def rate_rows() -> list[tuple[str, float, list[float]]]:
    """(folder, rate, accuracies by seed) of the bare network at each rate."""
    rows = [row for row in known() if row["module"] == BARE and row["seed"] < RATE_SEEDS]
    return [
        (folder, rate, [row["accuracy"] for row in rows if (row["folder"], row["rate"]) == pair])
        for pair in sorted({(row["folder"], row["rate"]) for row in rows})
        for folder, rate in [pair]
    ]


def table() -> str:
    """Each module's gain in points, with an interval for itself and one that holds for all."""
    lines = [
        f"| {' | '.join(COLUMNS)} |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for module in MODULES:
        points = [100 * gain for gain in gains("accuracy", module)]
        mean, alone = interval(points)
        _, together = interval(points, 0.05 / len(MODULES))
        loss, loss_half = interval(gains("loss", module))
        cells = [
            f"`{module}`",
            f"{len(points)}",
            f"{mean:+.2f}",
            f"{mean - alone:+.2f} to {mean + alone:+.2f}",
            f"{mean - together:+.2f} to {mean + together:+.2f}",
            *(f"{100 * statistics.mean(gains('accuracy', module, [one])):+.2f}" for one in FOUND),
            f"{loss:+.3f} ± {loss_half:.3f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Prints what each rate and each module reached."""
    for folder, rate, accuracies in rate_rows():
        print(folder, rate, *accuracies)
    print(table())


if __name__ == "__main__":
    main()
