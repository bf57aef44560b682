"""Journeys: the installed program from end to end, through its commands, as a person would use
it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from shell import Shell

LIMIT_S = 3000  # A journey is many commands; beside other work each takes its time


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.timeout(LIMIT_S))


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """Someone at a shell in an empty folder; in the end no process is left that they have
    started.
    """
    at = Shell.under(tmp_path)
    yield at
    at.leaves()
