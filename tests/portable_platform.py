"""Runs the tests as on a platform with less: no fcntl, no os.fork, no SIGUSR1, no /proc, as on
Windows or macOS.

A plugin of pytest: `make test-portable`, or `python -m pytest -p tests.portable_platform`.
Processes that the tests start have as little (`portable/sitecustomize.py`). nas_attn alone goes
without fcntl and /proc: psutil and filelock use other means on other platforms. Tests that need
such a thing themselves are left out, which shows as skipped.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent / "portable"
NEEDED = re.compile(
    r"""os.fork|"fork"|SIGUSR|SIGHUP|os.uname|geteuid|getuid|killpg|ctrl_c|waitid|sched_|/proc|pty\."""
)
"""In a test's source: it needs what is gone."""

os.environ["PYTHONPATH"] = os.pathsep.join([str(FOLDER), os.environ.get("PYTHONPATH", "")]).rstrip(
    os.pathsep
)
sys.path.insert(0, str(FOLDER))
sys.modules.pop("sitecustomize", None)
import sitecustomize  # noqa: E402, F401


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """On Windows, leaves out the files of terminals and limits: they cannot even be imported
    there.
    """
    if os.name != "nt" or collection_path.suffix != ".py":
        return None
    return (
        bool(
            re.search(
                r"^import (pty|fcntl|termios|resource)$",
                collection_path.read_text("utf-8"),
                re.MULTILINE,
            )
        )
        or None
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        source = inspect.getsource(item.function) if isinstance(item, pytest.Function) else ""
        if NEEDED.search(source):
            item.add_marker(pytest.mark.skip(reason="needs what this platform does not have"))
