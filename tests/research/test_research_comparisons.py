"""The table of published comparisons: its schema, and what counts once."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from nas_attn.errors import DataError
from research.evidence.comparisons import (
    COMPARISONS_FILE,
    comparisons,
    read_comparisons,
    trained_pairs,
)


def test_every_row_of_the_table_fits_its_schema_and_is_there_once() -> None:
    rows = comparisons()
    assert len(rows) > 300
    assert len(set(rows)) == len(rows)
    assert all(abs(row.gain) < 10 for row in rows), "gains are in points, not shares"


def test_a_network_that_was_scored_on_three_test_sets_counts_once() -> None:
    of_one = [
        row
        for row in comparisons()
        if row.network == "resnet50" and row.recipe == "a1_in1k" and row.data == "ImageNet"
    ]
    assert {row.test.split()[0] for row in of_one} == {"validation", "ReaL", "V2"}
    (pair,) = trained_pairs(of_one)
    validated = [row.gain for row in of_one if row.test.startswith("validation")]
    assert pair.gain == pytest.approx(sum(validated) / len(validated))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (",scratch,", ",scrath,", "start must be one of"),
        (",0.87,", ",0.78,", "gain is 0.78"),
        (",resnet33ts,", ",,", "network is empty"),
        (",79.216,80.084,", ",79.216,,", "without and with"),
        (",backbone,0,1,", ",backbone,,,", "begin and end"),
        (",backbone,0,1,", ",backbone,1,0,", "shares of the depth"),
        (",0.87,,top-1", ",0.87,0.1,top-1", "standard error"),
        ("source,task", "origin,task", "columns"),
    ],
)
def test_a_wrong_row_is_named_with_its_line(tmp_path: Path, old: str, new: str, says: str) -> None:
    lines = COMPARISONS_FILE.read_text("utf-8").splitlines()[:2]
    changed = "\n".join(lines).replace(old, new)
    assert changed != "\n".join(lines)
    file = tmp_path / "rows.csv"
    file.write_text(changed, "utf-8")
    with pytest.raises(DataError, match=says) as raised:
        read_comparisons(file)
    assert "columns" in says or "line 2" in str(raised.value)


def test_the_page_is_made_from_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "docs")
    script = importlib.import_module("write_evidence")
    assert script.PAGE.read_text("utf-8") == script.page(), "run `make docs`"
