"""Standard output or standard error that is closed, or on a full device: one sentence, and nothing
of a search is lost.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
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


# a terminal that goes, below, is the harder case
@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_search_whose_output_is_closed_is_finished(table: Path, workers: int) -> None:
    done = typed(f"{SEARCH} --workers {workers} >&-")
    error = (table / "error").read_text()
    assert done.returncode == 0, error
    assert "error" not in error
    assert na.open_study(name="table").snapshot().counts["scored"] == 2


LOST = "error: standard output cannot be written (no space left on device), and the answer would"


def test_a_search_does_not_begin_if_its_answer_would_be_lost(table: Path) -> None:
    done = typed(f"{SEARCH} --workers 1 >/dev/full")
    (line,) = (table / "error").read_text().splitlines()
    assert line.startswith(LOST)
    assert done.returncode == 1
    assert not (table / "nas_attn.db").exists()


@pytest.mark.parametrize(
    "command",
    # the same check as of a search; each command is a process that loads torch
    [
        pytest.param("resume --json", marks=pytest.mark.slow),
        pytest.param("test --seeds 2", marks=pytest.mark.slow),
        pytest.param("measure none", marks=pytest.mark.slow),
    ],
)
def test_other_long_work_does_not_begin_either(table_of_one: Path, command: str) -> None:
    before = (table_of_one / "calls.txt").read_text()
    done = typed(f"{COMMAND} {command} >/dev/full")
    (line,) = (table_of_one / "error").read_text().splitlines()
    assert line.startswith(LOST)
    assert done.returncode == 1
    assert (table_of_one / "calls.txt").read_text() == before


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
def test_a_search_whose_terminal_goes_is_finished(table: Path) -> None:
    """What happens to the output after the beginning: nothing is lost, and the end says it."""
    ours, its = os.openpty()
    with (table / "error").open("w") as error:
        search = subprocess.Popen(
            [*SEARCH.split(), "--workers", "1"], stdout=its, stderr=error, start_new_session=True
        )
    os.close(its)
    deadline = time.monotonic() + 60
    while "trial 0" not in (table / "error").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.close(ours)
    assert search.wait(timeout=60) == 1
    *_, last = (table / "error").read_text().splitlines()
    assert last.startswith("error: standard output ")
    assert "(input/output error)" in last
    assert na.open_study(name="table").snapshot().counts["scored"] == 2


@pytest.mark.slow
def test_a_worker_whose_log_cannot_be_written_goes_on(table: Path) -> None:
    assert typed(f"{SEARCH} --create-only").returncode == 0
    typed(f"{COMMAND} worker table >/dev/full")
    assert "Traceback" not in (table / "error").read_text()
    assert na.open_study(name="table").snapshot().counts["scored"] == 2


# that an output which cannot be written ends no search is asked above, of the answer's
@pytest.mark.slow
@pytest.mark.parametrize("to", ["2>/dev/full", "2>&-"], ids=["full", "closed"])
def test_progress_that_cannot_be_written_ends_no_search(table: Path, to: str) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{SEARCH} --workers 1 {to}"], text=True, capture_output=True, check=False
    )
    assert done.returncode == 0
    assert "Study table: the front" in done.stdout, "the answer is all there"
    assert na.open_study(name="table").snapshot().counts["scored"] == 2


# all are printed alike; each command is a process that loads torch
@pytest.mark.parametrize(
    "command",
    [
        "show --json",
        "--help",
        pytest.param("show", marks=pytest.mark.slow),
        pytest.param("status", marks=pytest.mark.slow),
    ],
)
def test_a_command_that_only_prints_says_that_it_could_not(
    table_of_one: Path, command: str
) -> None:
    done = typed(f"{COMMAND} {command} >/dev/full")
    (line,) = (table_of_one / "error").read_text().splitlines()
    assert line.startswith("error: standard output ")
    assert "(no space left on device)" in line
    assert done.returncode == 1
