"""Fails a test that needs more than 4 GB, and a run of tests that leaves processes behind.

A plugin of pytest: `python -m pytest -p tests.watched`, as `make test-extras` does. Counted is what
the test's process and those below it need together, about once a second, beyond what the tests
before it have left in that process.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Generator, Iterator
from contextlib import suppress

import psutil
import pytest

MOST_GB = 4.0
LOOK_S = 1.0
ENDING_S = 20.0
# in the environment of all processes of a run
RUN = "NAS_ATTN_TEST_RUN"
# ends with the process whose it is
PYTHONS_OWN = "multiprocessing.resource_tracker"


def family() -> list[psutil.Process]:
    """This process and all below it."""
    own = psutil.Process()
    return [own, *own.children(recursive=True)]


def gigabytes(process: psutil.Process) -> float:
    """The memory of a process, with its share of what several processes have in common."""
    with suppress(psutil.Error):
        memory = process.memory_full_info()
        return float(getattr(memory, "pss", memory.rss)) / 1e9
    # it has ended
    return 0.0


class Watch(threading.Thread):
    """Looks at the memory of this process and those below it until it is told to stop."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._before = sum(map(gigabytes, family()))
        self.most = 0.0
        self._stop_asked = threading.Event()

    def run(self) -> None:
        while not self._stop_asked.wait(LOOK_S):
            now = sum(map(gigabytes, family()))
            self.most = max(self.most, now - self._before)

    def stop(self) -> None:
        self._stop_asked.set()
        self.join()


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        os.environ[RUN] = uuid.uuid4().hex


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    watch = Watch()
    watch.start()
    try:
        yield
    finally:
        watch.stop()
    if watch.most > MOST_GB:
        pytest.fail(f"needs {watch.most:.1f} GB, more than {MOST_GB:g}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Ends what is still there when all tests have ended, and fails the run for it."""
    if hasattr(session.config, "workerinput"):
        return
    _, left = psutil.wait_procs(list(of_this_run()), timeout=ENDING_S)
    for process in left:
        with suppress(psutil.Error):
            print(f"\nleft behind: {process.pid} {' '.join(process.cmdline())}")
            process.kill()
    if left:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def of_this_run() -> Iterator[psutil.Process]:
    """The processes that the run has started, whoever is their parent now."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            is_of_it = process.environ().get(RUN) == os.environ[RUN]
            if (
                is_of_it
                and process.pid != os.getpid()
                and PYTHONS_OWN not in " ".join(process.cmdline())
            ):
                yield process
