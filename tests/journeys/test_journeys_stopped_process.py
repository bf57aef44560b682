"""A search that was stopped with Ctrl-Z (`kill -STOP`) keeps what it held; what else runs on the machine must bear that."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from answers import DIGITS, finished, settings
from shell import Running, Shell, patience

pytestmark = pytest.mark.slow
TRAINING = settings(DIGITS, training__rungs="[2000]", training__start="scratch", latency__threads="2")
"""One training that takes minutes; latencies for which a measurer wants the device alone."""


@pytest.fixture
def asleep(shell: Shell) -> Iterator[Running]:
    """A search of a study `first`, stopped in the middle of a training."""
    search = shell.begins(f"search digits --name first --trials 2 --workers 1 --threads 1 {TRAINING}")
    for _ in patience("the first checkpoint of the training"):
        if any((shell.folder / "nas_attn.artifacts").glob("*")):
            break
    yield search
    os.killpg(search.process.pid, signal.SIGCONT)


def test_another_study_is_completed_meanwhile(shell: Shell, asleep: Running) -> None:
    os.killpg(asleep.process.pid, signal.SIGSTOP)
    second = settings(DIGITS, latency__threads="2")
    ended = shell.types(f"search digits --name second --trials 7 --workers 1 --threads 1 {second}")
    assert str(asleep.process.pid) in ended.err, "it says whom it waits for"
    finished(shell, "second", trials=7)


def test_ctrl_c_is_heard_in_the_wait(shell: Shell, asleep: Running) -> None:
    os.killpg(asleep.process.pid, signal.SIGSTOP)
    second = settings(DIGITS, latency__threads="2")
    waiting = shell.begins(f"search digits --name second --trials 7 --workers 1 --threads 1 {second}")
    waiting.until(rf"\b{asleep.process.pid}\b").ctrl_c().ends(130)
    shell.types("status second")
