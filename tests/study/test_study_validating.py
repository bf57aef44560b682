"""Validation from end to end on an evaluator that looks its answers up, and on 8x8 digits: killed, resumed, logged."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import nas_attn as na
from nas_attn.study.opening import open_study
from nas_attn.study.reading import snapshot
from nas_attn.study.target_runs import FIRST_SEED

TINY = """
name = "tiny"
objectives = ["accuracy", "params"]
space = { name = "tiny", choices = { se = { reduction = [4] }, simam = {} } }
[backbone]
name = "resnet8"
width = 4
[data]
name = "digits-8x8"
[training]
backbone_epochs = 1
backbones = 2
rungs = [1]
batch_size = 128
[target]
epochs = 2
seeds = 3
[search]
trials = 3
confirm_seeds = 0
"""


def nas_attn(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "nas_attn.cli.main", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def run(*arguments: str) -> tuple[int, str, str]:
    process = nas_attn(*arguments)
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


@pytest.fixture
def searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tiny.toml").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    na.search("tiny.toml", say=lambda line: None, device="cpu")
    return tmp_path


def test_killed_and_resumed_it_reads_the_test_split_once_per_run(searched: Path) -> None:
    process = nas_attn("validate", "--workers", "1", "--front", "1")
    store = open_study("tiny").store
    deadline = time.monotonic() + 120
    while not store.scores(way="target/test"):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    code, _, err = run("validate", "--front", "1")
    assert code == 2
    assert "validation 1" in err
    code, out, err = run("validate", "--json", "--workers", "1")
    assert code == 0, err
    (result,) = json.loads(out)["validations"]
    assert result["complete"]
    assert result["blocks"] == 3
    networks = [network["key"] for network in result["family"]["networks"]]
    runs = [row.run for row in store.queue.rows(way="target")]
    assert len(runs) == 3 * len(networks)
    assert {run.seed for run in runs} == {FIRST_SEED, FIRST_SEED + 1, FIRST_SEED + 2}
    assert {run.backbone for run in runs} == {run.seed for run in runs}, "every block has a backbone of its own"
    reasons = [reading.reason for reading in store.test_readings()]
    assert sorted(reasons) == sorted(f"validate {run.files}" for run in runs)
    for values in result["values"].values():
        assert len(values) == 3
    now = snapshot(store)
    assert now.validations[0].complete
    assert all(point.purpose != "validate" for view in now.candidates for point in view.scores)
    code, out, err = run("pareto")
    tested, table = out.index("  Tested    "), out.index("the front (*)")
    assert tested < table < out.index("Validation 1: trained as the target says (2 epochs), 3 blocks")


def test_a_second_validation_has_fresh_runs_and_the_first_stays(searched: Path) -> None:
    command = ("validate", "--workers", "1", "--seeds", "2", "--placement", "stage1=simam")
    assert run(*command)[0] == 0
    assert len(open_study("tiny").store.test_readings()) == 2 * len(_networks(1))
    code, out, _ = run("validate")
    assert code == 0
    assert "Validation 1" in out
    assert "Validation 2" not in out, "asked again, it shows what there is"
    assert run(*command, "--again")[0] == 0
    seeds = {row.run.seed for row in open_study("tiny").store.queue.rows(way="target")}
    assert seeds == {FIRST_SEED, FIRST_SEED + 1, 2 * FIRST_SEED, 2 * FIRST_SEED + 1}
    assert [result.family.number for result in na.open_study().snapshot().validations] == [1, 2]


def _networks(number: int) -> tuple[object, ...]:
    return na.open_study().snapshot().validations[number - 1].family.networks


def test_beforehand_it_says_what_it_compares_can_show_and_costs_and_writes_nothing(searched: Path) -> None:
    code, out, err = run("validate", "--dry-run", "--difference", "0.02", "--placement", "stage2=simam")
    assert code == 0, err
    assert "against " in out
    assert "3 blocks" in out
    assert "80 %" in out
    assert "2.00 points" in out
    store = open_study("tiny").store
    assert store.validations.all() == {}
    assert store.queue.rows(way="target") == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--margin", "-1"], "--margin -1.0"),
        (["--placement", "stage9=se"], "unknown site 'stage9'"),
    ],
)
def test_wrong_wishes_are_one_sentence(searched: Path, arguments: list[str], message: str) -> None:
    code, _, err = run("validate", *arguments)
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_a_folder_without_a_test_split_is_refused_before_any_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    for split in ("train", "val"):
        for label, grey in (("dark", 40), ("light", 200)):
            folder = tmp_path / "photos" / split / label
            folder.mkdir(parents=True)
            for number in range(6):
                Image.new("L", (16, 16), grey + number).save(folder / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    text = TINY.replace('name = "digits-8x8"', 'name = "folder:photos"\nsize = 16')
    (tmp_path / "tiny.toml").write_text(text)
    na.search("tiny.toml", say=lambda line: None, device="cpu")
    code, _, err = run("validate", "--dry-run")
    assert code == 2
    assert "has no test split: add" in err
    shutil.copytree(tmp_path / "photos" / "val" / "dark", tmp_path / "photos" / "test" / "dark")
    code, _, err = run("validate", "--dry-run")
    assert code == 2, "half a test split is none"
    assert f"'{Path('photos', 'test', 'light')}' has no image" in err


def test_an_evaluator_is_asked_for_its_test_split(table: Path) -> None:
    evaluator = (table / "table_evaluator.py").read_text()
    asked = (
        "    if run.split == 'test': open('test.txt', 'a').write(f'{run.placement}|{run.seed}|{run.new_epochs}\\n')\n"
    )
    (table / "table_evaluator.py").write_text(evaluator.replace("    with open", asked + "    with open", 1))
    na.search("table.toml", trials=6, say=lambda line: None, overrides={"target.epochs": 4, "target.seeds": 2})
    code, out, err = run("validate", "--workers", "1", "--json")
    assert code == 0, err
    (result,) = json.loads(out)["validations"]
    lines = (table / "test.txt").read_text().splitlines()
    assert len(lines) == len(set(lines)) == 2 * len(result["family"]["networks"])
    assert all(line.endswith("|0") for line in lines)
    assert result["family"]["metric"] == "score"
    assert result["verdicts"][0]["new_low"] is None, "without results per image, nothing is said about new ones"
