"""Standard output or standard error that is closed, or on a full device: one sentence, and nothing
of a search is lost.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import nas_attn as na

FULL = Path("/dev/full")
pytestmark = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
COMMAND = f"{sys.executable} -m nas_attn.cli.main"
SEARCH = f"{COMMAND} search table.toml --trials 2 --set search.confirm_seeds=0"


def typed(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", f"{command} 2>error"], text=True, capture_output=True, check=False
    )


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("to", "status"), [(">/dev/full", 1), (">&-", 0)], ids=["full", "closed"])
def test_a_search_whose_output_cannot_be_written_is_finished(
    table: Path, workers: int, to: str, status: int
) -> None:
    done = typed(f"{SEARCH} --workers {workers} {to}")
    error = (table / "error").read_text()
    assert done.returncode == status, error
    assert "Traceback" not in error
    assert error.count("error: standard output cannot be written") == status
    assert na.open_study(name="table").snapshot().counts["scored"] == 2


@pytest.mark.parametrize("to", ["2>/dev/full", "2>&-"], ids=["full", "closed"])
def test_progress_that_cannot_be_written_ends_no_search(table: Path, to: str) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{SEARCH} --workers 1 {to}"], text=True, capture_output=True, check=False
    )
    assert done.returncode == 0
    assert "Study table: the front" in done.stdout, "the answer is all there"
    assert na.open_study(name="table").snapshot().counts["scored"] == 2


@pytest.mark.parametrize("command", ["pareto", "pareto --json", "status", "--help"])
def test_a_command_that_only_prints_says_that_it_could_not(table: Path, command: str) -> None:
    na.search("table.toml", trials=1, say=lambda line: None)
    done = typed(f"{COMMAND} {command} >/dev/full")
    (line,) = (table / "error").read_text().splitlines()
    assert line.startswith("error: standard output cannot be written (no space left on device)")
    assert done.returncode == 1
