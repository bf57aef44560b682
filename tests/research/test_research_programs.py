"""Benchmarks and research are packages: every file can be imported, and needs no other by its folder."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest

from benchmarks.rows import append_row, keep_row, read_rows

ROOT = Path(__file__).parents[2]
FILES = [
    path for name in ("benchmarks", "research") for path in sorted((ROOT / name).rglob("*.py"))
]
NEEDED = {"ray", "neps", "syne_tune"}
"""Packages that only some comparisons need."""


@pytest.mark.filterwarnings("ignore")  # of packages that only some of them import
def test_every_benchmark_can_be_imported() -> None:
    """In this process, which has loaded what most of them import."""
    for path in FILES:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        assert importlib.import_module(name).__name__ == name


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_benchmark_finds_its_siblings_as_a_package(path: Path) -> None:
    text = path.read_text("utf-8")
    siblings = {sibling.stem for sibling in path.parent.glob("*.py")} - NEEDED
    imported = set(re.findall(r"^\s*(?:import|from) (\w+)(?: import|$)", text, re.MULTILINE))
    assert not imported & siblings - {"statistics"}
    assert not re.search(r"sys\.path\.insert\(0, str\(Path\(__file__\)\.parent\b", text)


def test_rows_of_a_killed_call_are_read_and_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert read_rows(None) == read_rows(path) == []
    append_row(path, {"seed": 1})
    with path.open("a") as file:
        file.write('{"seed": 2, "sco')
    rows = read_rows(path)
    keep_row(rows, {"seed": 3}, path)
    assert rows == read_rows(path) == [{"seed": 1}, {"seed": 3}]
    assert [json.loads(line) for line in path.read_text().splitlines()] == rows
