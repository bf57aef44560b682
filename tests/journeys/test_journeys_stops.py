"""Every way in which a search is stopped, and that it goes on from there."""

from __future__ import annotations

import signal
import time

import pytest
from answers import DIGITS, finished, kept_files, settings
from materials import everything_of_ones_own
from shell import Running, Shell, patience

from nas_attn.study.stopping import TOGETHER_S

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


def ctrl_c_twice(search: Running) -> None:
    """As a person who reads what the first one is answered with: signals within half a second count as one."""
    search.ctrl_c().until("to stop at once")
    time.sleep(2 * TOGETHER_S)
    search.ctrl_c()


def test_ctrl_c_twice_ends_at_once_and_loses_little(shell: Shell) -> None:
    search = shell.begins(f"search digits --trials 7 --workers 1 --threads 1 {LONG}").until("trial 1 ")
    ctrl_c_twice(search)
    assert search.ended().status in (130, -signal.SIGINT)  # 130 to a shell, also where it was leaving already
    shell.types("resume digits --workers 1 --threads 1")
    finished(shell, "digits", trials=7)


def test_ctrl_c_twice_promises_no_checkpoint_that_is_not_there(shell: Shell) -> None:
    everything_of_ones_own(shell.folder)
    shell.variables["EPOCH_SECONDS"] = "0.1"
    search = shell.begins("search own.toml --workers 1 --threads 1 --set training.rungs=[2000]")
    for _ in patience("the first candidate to be trained"):
        asked = shell.begins("status own --json").ended()
        if asked.status == 0 and asked.json["running"]:  # at first there is no study
            break
    ctrl_c_twice(search)
    ended = search.ended()
    assert ended.status == 130
    assert "from its checkpoint" not in ended.err
    assert shell.types("status own --json").json["finished"] == 0


def test_no_time_at_all_begins_nothing(shell: Shell) -> None:
    shell.types(f"search digits --trials 7 --workers 1 --threads 1 --time-limit 0 {LONG}")
    assert shell.types("status digits --json").json["finished"] == 0


def test_a_time_limit_ends_between_candidates(shell: Shell) -> None:
    ended = shell.types(f"search digits --trials 30 --workers 1 --threads 1 --time-limit 3 {LONG}")
    assert 0 < shell.types("status digits --json").json["finished"] < 30
    assert "the front (*)" in ended.out
    finished_by_then = shell.types("status digits --json").json["finished"]
    shell.types(f"resume digits --trials {finished_by_then} --workers 1 --threads 1")
    finished(shell, "digits", trials=finished_by_then)
