"""`init` and `search` ask which of a folder's folds validate and test; without a terminal, options
and settings say it.
"""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from materials import photographs

from nas_attn.recipe_reading import load_recipe


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with four folds in `photos`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
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


def test_init_asks_on_a_terminal_again_until_the_fold_is_there(here: Path) -> None:
    answers = [
        ("Fold for validation", "fold_7"),
        ("Fold for validation", "fold_1"),
        ("Fold for the final test", "none"),
        ("How", ""),
        ("Search space", ""),
        ("Trials", "3"),
        ("Largest", ""),
    ]
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*PROGRAM, *INIT], cwd=here, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    seen = ""
    while select.select([master], [], [], 240)[0]:
        try:
            seen += os.read(master, 4096).decode()
        except OSError:  # the other end is closed
            break
        if answers and answers[0][0] in seen and seen.rstrip(" ").endswith("]:"):
            os.write(master, f"{answers.pop(0)[1]}\n".encode())
            seen = ""
    os.close(master)
    assert process.wait(timeout=240) == 0, seen
    assert not answers
    splits = load_recipe(str(here / "own.toml")).data.splits
    assert splits is not None
    assert splits.by_split == {"train": ["fold_0", "fold_2", "fold_3"], "validation": ["fold_1"]}
