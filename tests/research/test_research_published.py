"""Rows of our own experiments in the table of published comparisons."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from research.evidence.comparisons import COMPARISONS_FILE, read_comparisons
from research.published import is_of, scored, table_with
from research.start import published as start
from research.start.analysis import scores
from research.trial import published as trial
from research.trial.gains import attention
from research.trial.table import read_trial


def test_the_table_has_what_the_experiment_on_the_start_found() -> None:
    text = table_with(start.rows(scores()), start.EXPERIMENT)
    assert text == COMPARISONS_FILE.read_text(encoding="utf-8")


def test_the_table_has_what_the_trial_found() -> None:
    text = table_with(trial.rows(trial.tables()), trial.EXPERIMENT)
    assert text == COMPARISONS_FILE.read_text(encoding="utf-8")


def test_a_row_has_the_means_and_the_standard_error_of_the_paired_gain() -> None:
    row = scored([60.0, 70.0, 80.0], [61.0, 73.0, 82.0])
    assert (row["without"], row["with"]) == ("70.00", "72.00")
    # gains 1, 3 and 2: their standard deviation is 1
    assert float(row["gain"]) == 2.0
    assert float(row["error"]) == pytest.approx(3**-0.5, abs=0.005)


def test_rows_of_an_experiment_take_the_place_of_older_ones(tmp_path: Path) -> None:
    with COMPARISONS_FILE.open(encoding="utf-8", newline="") as file:
        own = [row for row in csv.DictReader(file) if is_of(row, start.EXPERIMENT)]
    other = tmp_path / "table.csv"
    other.write_text(table_with(own[:3], start.EXPERIMENT), encoding="utf-8")
    before = read_comparisons(COMPARISONS_FILE)
    after = read_comparisons(other)
    assert len(before) - len(after) == len(own) - 3
    assert set(after) < set(before)


def test_only_whole_problems_of_the_trial_become_rows(tmp_path: Path) -> None:
    table = read_trial("transfer", rows=[])
    gains = 0.001 * np.arange(len(table.networks))
    whole = np.broadcast_to(0.5 + gains[:, None], table.accuracy.shape)
    part = np.where(np.arange(whole.shape[1]) < 1, np.nan, whole)
    tables = {
        "cifar": replace(table, problem="cifar", accuracy=part),
        "transfer": replace(table, accuracy=whole),
    }
    file = tmp_path / "table.csv"
    file.write_text(table_with(trial.rows(tables), trial.EXPERIMENT), encoding="utf-8")
    own = [row for row in read_comparisons(file) if row.recipe.startswith(trial.EXPERIMENT)]
    as_published = [one for one in attention() if not one.endswith(("=sge", "=gc"))]
    assert len(own) == len(as_published) == len(attention()) - 4
    assert {row.situation.start for row in own} == {"pretrained"}
    first = table.networks.index(as_published[0])
    assert own[0].gain == pytest.approx(100 * gains[first])
