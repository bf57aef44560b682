"""Retraining from the command to the exported file, on 8x8 digits."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import torch
from test_study_validating import TINY, run

import nas_attn as na
from nas_attn.study.opening import open_study
from nas_attn.study.target_runs import FIRST_RETRAINING


@pytest.fixture
def searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tiny.toml").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    na.search("tiny.toml", say=lambda line: None, device="cpu")
    return tmp_path


def weights(path: str) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return found


def test_the_chosen_network_is_trained_as_the_target_says_and_exported(searched: Path) -> None:
    assert run("export", "--placement", "stage1=simam stage2=simam stage3=simam", "-o", "before.pt")[0] == 0
    command = ("retrain", "--placement", "stage1=simam stage2=simam stage3=simam", "--also", "none", "--json")
    code, out, err = run(*command, "--workers", "1")
    assert code == 0, err
    runs = json.loads(out)["runs"]
    assert [found["placement"] == "none" for found in runs] == [False, True]
    assert {found["seed"] for found in runs} == {FIRST_RETRAINING}
    assert all(0 <= found["metrics"]["accuracy"] <= 1 for found in runs)
    store = open_study("tiny").store
    assert [s.score.epochs for s in store.scores(runs[0]["key"], way="target")] == [2]
    assert store.test_readings() == [], "the test split is validate's to read"
    curves = na.open_study().snapshot().retrained
    assert [[point.epochs for point in found.curve] for found in curves] == [[1, 2], [1, 2]]
    assert curves[0].curve[0].train_loss > curves[0].curve[1].train_loss > 0
    assert curves[0].curve[1].metrics["accuracy"] == runs[0]["metrics"]["accuracy"]
    assert "Trained for use" in na.open_study().report().read_text()
    again = run(*command, "--workers", "1")
    assert json.loads(again[1])["runs"] == runs, "nothing is trained twice"
    _rescore("target", 1.0)
    code, out, err = run("export", "--placement", "stage1=simam stage2=simam stage3=simam", "-o", "after.pt")
    assert code == 0, err
    assert f"retrain, target, seed {FIRST_RETRAINING}" in out
    assert f"retrain, target, seed {FIRST_RETRAINING}" in Path("after.pt.md").read_text()
    before, after = weights("before.pt"), weights("after.pt")
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[key], after[key]) for key in before)
    run("export", "--placement", "stage1=simam stage2=simam stage3=simam", "-o", "searched.pt", "--as-searched")
    assert all(torch.equal(before[key], value) for key, value in weights("searched.pt").items())
    _rescore("target", 0.0)
    code, out, err = run("export", "--placement", "stage1=simam stage2=simam stage3=simam", "-o", "better.pt")
    assert "the retrained network is worse" in out
    assert all(torch.equal(before[key], value) for key, value in weights("better.pt").items())


def _rescore(way: str, accuracy: float) -> None:
    with closing(sqlite3.connect("nas_attn.db")) as database, database:
        change = "UPDATE nas_score SET metrics = json_set(metrics, '$.accuracy', ?) WHERE way = ?"
        assert database.execute(change, (accuracy, way)).rowcount


def test_runs_of_a_validation_count_and_other_epochs_are_another_way(searched: Path) -> None:
    assert run("validate", "--workers", "1", "--seeds", "2", "--placement", "stage1=simam")[0] == 0
    store = open_study("tiny").store
    validated = len(store.queue.rows(way="target"))
    code, out, err = run("retrain", "--placement", "stage1=simam", "--seeds", "2", "--json")
    assert code == 0, err
    assert {found["purpose"] for found in json.loads(out)["runs"]} == {"validate"}
    assert len(store.queue.rows(way="target")) == validated
    code, out, err = run("retrain", "--placement", "stage1=simam", "--epochs", "1", "--workers", "1", "--json")
    assert code == 0, err
    (found,) = json.loads(out)["runs"]
    assert found["way"].startswith("own-")
    assert [s.score.epochs for s in store.scores(found["key"], way=found["way"])] == [1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trial", "77"], "has no trial 77"),
        (["--placement", "stage9=se"], "unknown site 'stage9'"),
        (["--data", "folder:nowhere"], "nowhere"),
    ],
)
def test_wrong_wishes_are_one_sentence_and_write_nothing(searched: Path, arguments: list[str], message: str) -> None:
    code, _, err = run("retrain", *arguments)
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert not [row for row in open_study("tiny").store.queue.rows() if row.run.purpose == "retrain"]
