"""Tells what the tests cost: `python -m pytest -p tests.processor_time`, `make test ARGS="-p ..."`.

Counted are the seconds of processor time of a test's process and of the processes below it that
have ended, with the fixtures that the test is the first to ask for.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Generator
from pathlib import PurePosixPath

import pytest
from _pytest.terminal import TerminalReporter

SECONDS = "processor_s"
MOST = 30
BEGAN = pytest.StashKey[float]()


def used() -> float:
    """The seconds that this process has computed, and those below it that have ended."""
    return sum(os.times()[:4])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    item.stash[BEGAN] = used()
    yield


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    try:
        yield
    finally:
        item.user_properties.append((SECONDS, used() - item.stash[BEGAN]))


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    of_tests = Counter[str]()
    of_folders = Counter[str]()
    for report in terminalreporter.stats.get("", []):
        properties = dict(getattr(report, "user_properties", ()))
        if SECONDS in properties:
            path, _, name = report.nodeid.partition("::")
            of_tests[f"{path}::{name.partition('[')[0]}"] += properties[SECONDS]
            of_folders[str(PurePosixPath(*PurePosixPath(path).parts[:2]))] += properties[SECONDS]
    terminalreporter.section(f"{of_tests.total():.0f} s of processor time")
    for name, seconds in [*of_folders.most_common(), *of_tests.most_common(MOST)]:
        terminalreporter.write_line(f"{seconds:8.1f} {name}")
