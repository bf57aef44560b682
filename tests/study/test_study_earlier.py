"""A study that an earlier version began goes on: schema 0002, four trials scored, the fifth half-trained."""

import shutil
from pathlib import Path

import pytest

from nas_attn.storage import Database
from nas_attn.study import searching
from nas_attn.study.opening import open_study

ASSETS = Path(__file__).parent.parent / "storage" / "assets"


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(ASSETS / "schema_0002.db", tmp_path / "nas_attn.db")
    shutil.copytree(ASSETS / "schema_0002_artifacts", tmp_path / "nas_attn.artifacts")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_its_rows_are_runs_of_one_backbone(begun: Path) -> None:
    with Database("sqlite:///nas_attn.db") as database:
        store = database.study("old")
        assert {(s.way, s.backbone) for s in store.scores()} == {("search", 0)}
        assert len(store.scores()) == 9
        rows = store.queue.rows()
        assert [row.state for row in rows] == ["done"] * 5
        assert sum(row.run.purpose == "backbone" for row in rows) == 1
        (waiting,) = [row for row in store.candidates() if row.state == "running"]
        assert len(store.checkpoints(f"search:{waiting.key}:0:0")) == 1
    assert open_study("old").recipe.training.backbones == 1


def test_it_goes_on_from_its_backbone_and_its_checkpoint(begun: Path) -> None:
    opened = open_study("old")
    before = {row.key: row.values for row in opened.store.candidates() if row.state == "scored"}
    lines: list[str] = []
    options = searching.Options(device="cpu", threads=1, say=lines.append)
    assert searching.work(opened, options) == "complete"
    rows = opened.store.candidates()
    assert len(rows) == 9
    assert all(row.state in ("scored", "pruned") and row.told for row in rows)
    assert {key: values for row in rows if (key := row.key) in before and (values := row.values)} == before
    trained = [row.run.backbone for row in opened.store.queue.rows(key="backbone")]
    assert sorted(trained) == [0, 100_000, 100_001], "one is the old one, the others are of the duel's two rounds"
    assert not any(line.startswith("backbone ") for line in lines)
    assert [line for line in lines if "backbone" in line and line.endswith("trained")] == [
        "fresh backbone 1: trained",
        "fresh backbone 2: trained",
    ]
