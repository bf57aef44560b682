"""Every way in which a search is stopped, and that it goes on from there."""

from __future__ import annotations

import signal

import pytest
from answers import DIGITS, finished, kept_files, settings
from shell import Shell

pytestmark = pytest.mark.slow
LONG = settings(DIGITS, training__rungs="[2,40]", training__start="scratch", search__pruner="none")
"""Trainings of seconds: most stops come in the middle of one."""


SIGNALS = [
    (signal.SIGINT, 1),
    (signal.SIGINT, 2),
    (signal.SIGTERM, 2),  # a machine shuts down
    (signal.SIGHUP, 1),  # the terminal is closed
    (signal.SIGHUP, 2),
    (signal.SIGUSR1, 1),  # a scheduler's warning
    (signal.SIGUSR1, 2),
]


@pytest.mark.parametrize(("number", "workers"), SIGNALS)
def test_stopped_three_times(shell: Shell, number: signal.Signals, workers: int) -> None:
    run = f"--workers {workers} --threads 1"
    shell.begins(f"search digits --trials 8 {run} {LONG}").until("trial 0 ").ctrl_c(number).ends(130)
    for _ in range(2):
        shell.begins(f"resume digits {run}").until(r"trials.*trial \d+[ :]").ctrl_c(number).ends(130)
        status = shell.types("status digits --json").json
        assert (status["leases"], status["finished"] < 8) == ([], True)
        assert " running" not in shell.types("status digits").out, "nobody is at work"
    shell.types(f"resume digits {run}")
    kept_files(shell, finished(shell, "digits", trials=8))


def test_killed_in_the_middle(shell: Shell) -> None:
    shell.begins(f"search digits --trials 7 --workers 1 --threads 1 {LONG}").until("trial 1 ").kill()
    ended = shell.types("resume digits --workers 1 --threads 1")
    assert "trial 0 " not in ended.err
    kept_files(shell, finished(shell, "digits", trials=7))


def test_killed_with_two_workers(shell: Shell) -> None:
    shell.begins(f"search digits --trials 8 --workers 2 --threads 1 {LONG}").until("trial 1 ").kill()
    shell.types("resume digits --workers 2 --threads 1")
    kept_files(shell, finished(shell, "digits", trials=8))
