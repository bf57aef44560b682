"""The scripts of examples/ run as they are."""

from __future__ import annotations

import runpy
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


@pytest.mark.parametrize(
    "name", ["attach_to_torchvision", "own_evaluator", "own_module", "plain_optuna"]
)
def test_an_example_runs(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In this process: starting another one takes longer than these examples."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT / "examples")
    runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")
    assert SAID[name] in capsys.readouterr().out


@pytest.mark.slow
def test_an_example_that_starts_workers_runs(tmp_path: Path) -> None:
    """In a process of its own."""
    name = "search_digits"
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / f"{name}.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert SAID[name] in done.stdout


def test_the_page_of_the_examples_names_them_all() -> None:
    page = (ROOT / "examples" / "README.md").read_text("utf-8")
    assert not [script.name for script in SCRIPTS if f"]({script.name})" not in page]
    assert {script.stem for script in SCRIPTS} == SAID.keys(), "each of them is run"
