"""Rows of the table of published comparisons that come from experiments of our own."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from nas_attn.evidence.table import TABLE_COLUMNS, TABLE_FILE

TableRow = dict[str, str]
"""Column -> its text."""


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
        "kind": "repeated",
    }


def _points(value: float) -> str:
    # z: no minus sign before zero
    return f"{value:z.2f}"


def table_with(rows: Iterable[TableRow], source: str, file: Path = TABLE_FILE) -> str:
    """The table's text, with these rows in the place of those that it has of their source."""
    with file.open(encoding="utf-8", newline="") as lines:
        kept = [row for row in csv.DictReader(lines) if row["source"] != source]
    text = io.StringIO()
    table = csv.DictWriter(text, TABLE_COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(kept)
    table.writerows({**row, "source": source} for row in rows)
    return text.getvalue()
