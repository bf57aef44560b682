"""A study keeps what its images are, and shows it: splits, classes, what is left out."""

from __future__ import annotations

import html
from pathlib import Path

import materials
import pytest
from command_line import Nas

import nas_attn as na
from nas_attn.data.inventory import take


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    materials.photographs(tmp_path / "photos")
    (tmp_path / "photos/cat/notes.txt").write_text("x")
    return tmp_path / "photos"


def test_a_search_says_and_keeps_the_inventory_and_its_report_shows_it(
    photographs: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    study = na.search(
        model="resnet8",
        data=f"folder:{photographs}",
        name="s",
        trials=1,
        overrides={
            "data.size": 8,
            "training.rungs": [1],
            "target.epochs": 1,
            "objectives": ["accuracy", "params"],
            "search.confirm_seeds": 0,
            "search.baselines": "none",
        },
        storage=f"sqlite:///{tmp_path / 's.db'}",
        say=said.append,
    )
    lines = take(str(photographs)).lines()
    assert lines[0] == "3 classes, 48 images, 0 unreadable"
    assert "not read: 1 file of another kind (.txt), 'cat/notes.txt'" in lines
    assert f"folder:{photographs}: {lines[0]}" in said[0]
    study.report(tmp_path / "report.html")
    report = html.unescape((tmp_path / "report.html").read_text("utf-8"))
    for line in lines:
        assert line in report


def test_a_dry_run_gives_the_same_inventory_as_json(photographs: Path, nas: Nas) -> None:
    nas("init", "s.toml", "--yes", "--data", "folder:photos", "--backbone", "resnet8")
    lines = take(str(photographs)).lines()
    said = nas("search", "s.toml", "--dry-run").out
    assert said.startswith(f"folder:photos: {lines[0]}\n{lines[1]}\n")
    assert nas("search", "s.toml", "--dry-run", "--json").json["images"] == lines
