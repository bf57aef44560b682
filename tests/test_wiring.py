"""What a row of `nas_attn.wiring` loads is there."""

from __future__ import annotations

from dataclasses import fields

import pytest

from nas_attn import wiring
from nas_attn.recipe.tables import Load

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
LOADS = [
    pytest.param(getattr(row, field.name), id=f"{row.name}-{field.name}")
    for row in ROWS
    for field in fields(row)
    if callable(getattr(row, field.name))
]


@pytest.mark.parametrize("load", LOADS)
def test_what_a_row_loads_is_there(load: Load) -> None:
    assert callable(load())
