"""Every name of one of our own modules in `nas_attn.wiring` stands for something."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import astuple

import pytest

from nas_attn import wiring
from nas_attn.system.importing import named

ROWS = (
    *wiring.COSTS,
    *wiring.METRICS,
    *wiring.SAMPLERS,
    *wiring.LATENCY_MODES,
    *wiring.DATA_SETS,
    *wiring.BACKBONE_SOURCES,
    *wiring.INTEGRATIONS,
    *wiring.TASK_ROWS,
)


def paths() -> Iterator[str]:
    for row in ROWS:
        for value in astuple(row):
            if isinstance(value, str) and value.startswith("nas_attn."):
                yield value


@pytest.mark.parametrize("path", sorted(set(paths())))
def test_the_table_names_what_there_is(path: str) -> None:
    assert callable(named(path))


def test_all_threads_that_read_first_see_all_rows() -> None:
    code = (
        "import threading\n"
        "import nas_attn\n"
        "from nas_attn.recipe import tables\n"
        "seen = []\n"
        "read = lambda: seen.append(len(tables.TASK_ROWS))\n"
        "threads = [threading.Thread(target=read) for _ in range(8)]\n"
        "[thread.start() for thread in threads]\n"
        "[thread.join() for thread in threads]\n"
        f"assert seen == [{len(wiring.TASK_ROWS)}] * 8, seen\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
