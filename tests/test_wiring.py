"""Every name of one of our own modules in `nas_attn.wiring` stands for something."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple

import pytest

from nas_attn import wiring
from nas_attn.importing import named

ROWS = (
    *wiring.COSTS,
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
