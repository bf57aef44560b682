"""Rows of the table of published comparisons that come from experiments of our own.

All have one source: they share the laboratory, and most of them the network. The recipe begins with
the place of the experiment.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from research.evidence.comparisons import COMPARISONS_FILE, TABLE_COLUMNS

SOURCE = "nas_attn: small networks on small images (2026-11)"
TableRow = dict[str, str]
"""Column -> its text."""


def described(experiment: str, epochs: int, images: int, seeds: int) -> str:
    """A recipe. `experiment` is its place in the repository."""
    return f"{experiment}: {epochs} epochs of {images:,} images, {seeds} seeds"


def scored(without: ArrayLike, with_attention: ArrayLike) -> TableRow:
    """What a row says of scores in points, one for each seed, of two networks that share seeds."""
    bare = np.asarray(without, dtype=np.float64)
    other = np.asarray(with_attention, dtype=np.float64)
    gains = other - bare
    return {
        "without": _points(bare.mean()),
        "with": _points(other.mean()),
        "gain": _points(gains.mean()),
        "error": _points(gains.std(ddof=1) / np.sqrt(len(gains))),
        "unit": "top-1",
        "kind": "repeated",
    }


def _points(value: float) -> str:
    # z: no minus sign before zero
    return f"{value:z.2f}"


def table_with(rows: Iterable[TableRow], experiment: str, file: Path = COMPARISONS_FILE) -> str:
    """The table's text, with these rows in the place of those that it has of this experiment."""
    with file.open(encoding="utf-8", newline="") as lines:
        before = list(csv.DictReader(lines))
    old = [number for number, row in enumerate(before) if is_of(row, experiment)]
    place = old[0] if old else len(before)
    others = [row for row in before if not is_of(row, experiment)]
    own = [{**row, "source": SOURCE} for row in rows]
    text = io.StringIO()
    table = csv.DictWriter(text, TABLE_COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows([*others[:place], *own, *others[place:]])
    return text.getvalue()


def is_of(row: TableRow, experiment: str) -> bool:
    """Whether a row of the table comes from this experiment of our own."""
    return row["source"] == SOURCE and row["recipe"].startswith(f"{experiment}:")
