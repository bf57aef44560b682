"""Rows of our own experiments in the table of published comparisons."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from nas_attn.evidence import read_comparisons
from nas_attn.evidence.table import TABLE_FILE
from research.published import scored, table_with
from research.start import published
from research.start.analysis import scores


def test_the_table_has_what_the_experiment_on_the_start_found() -> None:
    text = table_with(published.rows(scores()), published.SOURCE)

    assert text == TABLE_FILE.read_text(encoding="utf-8")


def test_a_row_has_the_means_and_the_standard_error_of_the_paired_gain() -> None:
    row = scored([60.0, 70.0, 80.0], [61.0, 73.0, 82.0])

    assert (row["without"], row["with"]) == ("70.00", "72.00")
    # gains 1, 3 and 2: their standard deviation is 1
    assert float(row["gain"]) == 2.0
    assert float(row["error"]) == pytest.approx(3**-0.5, abs=0.005)


def test_rows_of_a_source_take_the_place_of_older_ones(tmp_path: Path) -> None:
    with TABLE_FILE.open(encoding="utf-8", newline="") as file:
        own = [row for row in csv.DictReader(file) if row["source"] == published.SOURCE]
    other = tmp_path / "table.csv"

    other.write_text(table_with(own[:3], published.SOURCE), encoding="utf-8")

    before = read_comparisons(TABLE_FILE)
    after = read_comparisons(other)
    assert len(before) - len(after) == len(own) - 3
    kept = [row for row in before if row.source != published.SOURCE]
    assert list(after[: len(kept)]) == kept
