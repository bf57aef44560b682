"""What a finished study is asked afterwards: effects, latency, export, report, backup, other
workers.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from answers import DIGITS, settings
from shell import Shell

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """Someone with a finished study of twelve candidates, all trained to the last rung."""
    shell = Shell.under(tmp_path_factory.mktemp("done"))
    tiny = settings(DIGITS, search__pruner="none")
    shell.types(f"search digits --workers 1 --threads 1 --trials 12 {tiny}")
    yield shell
    shell.leaves()


def test_effects_on_accuracy_and_latency(done: Shell) -> None:
    for what in ("accuracy", "loss", "latency"):
        found = done.types(f"effects digits --of {what} --json").json
        assert {row["site"] for row in found["effects"]} >= {"stage1", "stage2", "stage3"}
    assert done.types("effects --of latency --json").json["cv_error"] > 0
    assert "stage1" in done.types("effects --of loss").out


def test_latency_of_placements_of_trials_and_of_other_backbones(done: Shell) -> None:
    quick = "--set tolerance=0.9 --set session_seconds=0.2"
    found = done.types(f"measure digits 'stage1=se(reduction=4)' 3 none {quick} --json").json
    assert {row["placement"] for row in found["candidates"]} == {
        "stage1=se(reduction=4)",
        "3",
        "none",
    }
    assert all(0.3 < row["ratio"] < 30 for row in found["candidates"])
    shown = done.types(f"measure resnet8 resnet14 'stage1=eca' --input 1x12x12 {quick}").out
    assert "Latency" in shown


def test_the_recommendation_is_tested_and_trained_as_the_target_says(done: Shell) -> None:
    run = "--workers 2 --threads 1"
    planned = done.types("validate digits --dry-run --json").json
    assert planned["family"]["blocks"] == 2
    assert done.types("show digits --json").json["test_readings"] == [], (
        "a search reads no test images"
    )
    assert "Test 1: " in done.types(f"validate digits {run}").out
    readings = done.types("show digits --json").json["test_readings"]
    assert len(readings) == planned["family"]["blocks"] * len(planned["family"]["networks"])
    shown = done.types("validate digits --json").json
    assert done.types("validate digits --json").json == shown, "asked again, it shows what it found"
    done.types(f"retrain digits --placement 3 --placement none --epochs 2 {run}")
    trained = done.types(
        f"retrain digits --placement 3 --placement none --epochs 2 {run} --json"
    ).json
    assert len(trained["runs"]) == 2
    assert all(0 <= row["metrics"]["accuracy"] <= 1 for row in trained["runs"])
    card = done.types("export digits --placement 3 --json -o retrained.pt").json["card"]
    accuracies = [
        row["metrics"]["accuracy"] for row in trained["runs"] if row["placement"] != "none"
    ]
    assert card["training"]["metrics"]["accuracy"] >= accuracies[0], "the better of the two weights"


def test_a_finished_study_stays_as_it_is(done: Shell) -> None:
    before = done.types("show digits --json").json
    assert "done (complete)" in done.types("worker digits --threads 1").out
    done.types("resume digits --workers 2 --threads 1")
    done.types(
        "search digits --workers 1 --threads 1 --trials 12 "
        + settings(DIGITS, search__pruner="none")
    )
    after = done.types("show digits --json").json
    assert [c["scores"] for c in after["candidates"]] == [c["scores"] for c in before["candidates"]]
    refused = done.types("search digits --trials 13", status=2).error
    assert "another name" in refused


def test_the_copy_says_what_the_original_says(done: Shell) -> None:
    done.types("backup copy.db")
    here = done.types("show digits --json").json
    there = done.types("show digits --json --storage sqlite:///copy.db").json
    assert here == there
    with sqlite3.connect(done.folder / "copy.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    page = Path(
        done.types("report digits --storage sqlite:///copy.db -o copy.html --json").json["report"]
    )
    assert (done.folder / page).stat().st_size > 100_000
    assert json.loads(done.types("status --json").out)[0]["name"] == "digits"
