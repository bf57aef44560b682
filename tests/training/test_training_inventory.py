"""A study keeps what its images are, and shows it: splits, classes, what is left out."""

from __future__ import annotations

import html
from pathlib import Path

import folders_made
import materials
import pytest
from command_line import Nas
from folders_made import take

import nas_attn as na
from nas_attn.answer.reading import snapshot
from nas_attn.recipe.reading import load_recipe
from nas_attn.searching.prepare.beginning import begin


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
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
    lines = take(str(photographs)).described()
    assert lines[0] == "3 classes, 48 images, 0 unreadable"
    assert any("1 file" in line and "'cat/notes.txt'" in line for line in lines)
    assert f"folder:{photographs}: {lines[0]}" in said[0]
    study.report(tmp_path / "report.html")
    report = html.unescape((tmp_path / "report.html").read_text("utf-8"))
    for line in lines:
        assert line in report


def test_a_dry_run_gives_the_same_inventory_as_json(photographs: Path, nas: Nas) -> None:
    nas("init", "s.toml", "--data", "folder:photos", "--backbone", "resnet8")
    lines = take(str(photographs)).described()
    said = nas("search", "s.toml", "--dry-run").out
    assert said.startswith(f"folder:photos: {lines[0]}\n{lines[1]}\n")
    assert nas("search", "s.toml", "--dry-run", "--json").json["images"] == lines


def test_a_study_keeps_classes_whose_names_are_not_utf8(
    tmp_path: Path, nas: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folders_made.class_not_utf8(tmp_path / "photos")
    nas("init", "s.toml", "--data", "folder:photos", "--backbone", "resnet8")
    opened = begin(load_recipe("s.toml"), f"sqlite:///{tmp_path / 's.db'}")
    images = snapshot(opened.store).images
    assert images is not None
    assert images.inventory is not None
    assert images.inventory.classes == ("dog", r"k\xe4tze")
