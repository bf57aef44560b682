"""The scripts of examples/ run as they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from documented import ROOT

SCRIPTS = sorted((ROOT / "examples").glob("*.py"))
SAID = {
    "attach_to_torchvision": "stage4",
    "own_evaluator": "none",
    "own_module": "2 blocks of stage 1",
    "plain_optuna": "pruned",
    "search_digits": "few-digits.html",
}
"""Name of a script -> what its output has."""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_an_example_runs(script: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert SAID[script.stem] in done.stdout


def test_the_page_of_the_examples_names_them_all() -> None:
    page = (ROOT / "examples" / "README.md").read_text("utf-8")
    assert not [script.name for script in SCRIPTS if f"]({script.name})" not in page]
