"""`init` and `search` ask which of a folder's folds validate and test; without a terminal, options
and settings say it.
"""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from materials import photographs
from pseudo_terminal import COLOURS

from nas_attn.recipe.reading import load_recipe


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with four folds in `photos`."""
    monkeypatch.chdir(tmp_path)
    photographs(tmp_path / "one", of_each=6)
    for number in range(4):
        shutil.copytree(tmp_path / "one", tmp_path / f"photos/fold_{number}")
    return tmp_path


PROGRAM = [sys.executable, "-m", "nas_attn.cli.main"]
INIT = ["init", "own.toml", "--data", "folder:photos", "--backbone", "resnet8"]


def test_without_a_terminal_the_way_out_is_named_and_works(here: Path, nas) -> None:
    ended = nas(*INIT)
    assert ended.status == 2
    assert "--validation-fold fold_0" in ended.error
    assert not (here / "own.toml").exists()

    ended = nas("search", "photos", "--dry-run")
    assert ended.status == 2
    assert 'data.splits, like { train = ["fold_0", "fold_1"]' in ended.error

    ended = nas(*INIT, "--validation-fold", "fold_2", "--test-fold", "fold_0")
    assert ended.status == 0, ended.err
    splits = load_recipe("own.toml").data.splits
    assert splits is not None
    assert splits.by_split == {
        "train": ["fold_1", "fold_3"],
        "validation": ["fold_2"],
        "test": ["fold_0"],
    }
    assert "train: 36, validation: 18, test: 18" in ended.out


def test_a_fold_that_is_not_there_is_named(here: Path, nas) -> None:
    assert "no fold of 'folder:photos'" in nas(*INIT, "--validation-fold", "fold_9").error
    assert "--test-fold" in nas(*INIT, "--validation-fold", "fold_1", "--test-fold", "fold_1").error
    ended = nas("init", "own.toml", "--data", "folder:one", "--validation-fold", "fold_1")
    assert "has no folds" in ended.error


def asked(
    command: Sequence[str], here: Path, answers: Sequence[tuple[str, str]]
) -> tuple[int, str]:
    """(exit status, what it printed) of a command in a terminal, whose questions are answered in
    this order.
    """
    left = list(answers)
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*PROGRAM, *command],
        cwd=here,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    printed = ""
    since_answer = ""
    while select.select([master], [], [], 240)[0]:
        try:
            piece = os.read(master, 4096).decode()
        except OSError:  # the other end is closed
            break
        printed += piece
        since_answer += piece
        if left and left[0][0] in since_answer and since_answer.rstrip(" ").endswith("]:"):
            os.write(master, f"{left.pop(0)[1]}\n".encode())
            since_answer = ""
    os.close(master)
    assert not left, printed
    return process.wait(timeout=240), printed


def test_init_asks_on_a_terminal_again_until_the_fold_is_there(here: Path) -> None:
    answers = [
        ("Fold for validation", "fold_7"),
        ("Fold for validation", "fold_1"),
        ("Fold for the final test", "none"),
        ("How", ""),
        ("Search space", ""),
        ("Candidates", "3"),
        ("Largest", ""),
    ]
    status, printed = asked(INIT, here, answers)
    assert status == 0, printed
    splits = load_recipe(str(here / "own.toml")).data.splits
    assert splits is not None
    assert splits.by_split == {"train": ["fold_0", "fold_2", "fold_3"], "validation": ["fold_1"]}


# a process at a terminal; `init` asks there with the same questions
@pytest.mark.slow
def test_search_of_a_folder_asks_on_a_terminal(here: Path) -> None:
    answers = [("Fold for validation", "fold_1"), ("Fold for the final test", "fold_3")]
    planned = ["search", "photos", "--dry-run", "--set", "backbone.name=resnet8"]
    status, printed = asked(planned, here, answers)
    assert status == 0, printed
    plain = COLOURS.sub("", printed)
    read = re.search(r"train \D*fold_0, fold_2; \D*fold_1; \D*fold_3", " ".join(plain.split()))
    assert read, plain


@pytest.mark.slow
def test_the_study_and_the_exported_network_say_which_folds_they_had(here: Path, nas) -> None:
    assert nas(*INIT, "--validation-fold", "fold_2", "--test-fold", "fold_0").status == 0
    short = [
        "objectives=['accuracy']",
        "target.epochs=1",
        "data.size=16",
        "search.trials=1",
        "search.baselines=bare",
        "search.confirm_seeds=0",
    ]
    settings = [part for setting in short for part in ("--set", setting)]
    ended = nas("search", "own.toml", *settings, "--workers", "1")
    assert ended.status == 0, ended.err
    assert "scored on fold_2" in ended.out
    ended = nas("export", "own", "--placement", "none", "--output", "network.onnx")
    assert ended.status == 0, ended.err
    card = Path("network.onnx.md").read_text("utf-8")
    assert re.search(r"fold_1 and fold_3, .*fold_2, .*fold_0", card)
