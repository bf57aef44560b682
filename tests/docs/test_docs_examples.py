"""The scripts of examples/ run as they are."""

from __future__ import annotations

import importlib
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from documented import ROOT

SCRIPTS = sorted((ROOT / "examples").glob("*.py"))
SAID = {
    "mini": "answer: take it",
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
@pytest.mark.parametrize("name", ["mini", "search_digits"])
def test_an_example_that_takes_longer_runs(name: str, tmp_path: Path) -> None:
    """In a process of its own."""
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / f"{name}.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert SAID[name] in done.stdout


def test_the_idea_in_one_file_needs_no_nas_attn_and_starts_each_placement_as_the_bare_network(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the page says of `mini.py`, on few images."""
    text = (ROOT / "examples" / "mini.py").read_text("utf-8")
    assert "import nas_attn" not in text
    assert "from nas_attn" not in text
    monkeypatch.syspath_prepend(ROOT / "examples")
    mini = importlib.import_module("mini")
    images, labels = mini.VALIDATION
    bare = mini.build(mini.BARE, seed=5).eval()
    for name in mini.ATTENTION:
        placed = mini.build(dict.fromkeys(mini.STAGES, name), seed=5).eval()
        torch.testing.assert_close(placed(images[:4]), bare(images[:4]))
    monkeypatch.setattr(mini, "TRAINING", (images[:100], labels[:100]))
    for short in ("EPOCHS", "TRIALS"):
        monkeypatch.setattr(mini, short, 2)
    mini.main()
    assert "answer" in capsys.readouterr().out


def test_the_page_of_the_examples_names_them_all() -> None:
    page = (ROOT / "examples" / "README.md").read_text("utf-8")
    assert not [script.name for script in SCRIPTS if f"]({script.name})" not in page]
    assert {script.stem for script in SCRIPTS} == SAID.keys(), "each of them is run"
