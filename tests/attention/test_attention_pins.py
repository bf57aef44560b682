"""Modules stay what they were: knobs, costs, names of the state, outputs (`pins.py`)."""

from __future__ import annotations

from typing import Any

import pins
import pytest

from nas_attn.attention import catalogue

RECORDED = pins.recorded()


@pytest.mark.parametrize("name", dict.fromkeys(one["module"] for one in RECORDED))
def test_a_module_is_what_it_was(name: str) -> None:
    row = catalogue.find(name)
    for was in RECORDED:
        if was["module"] == name:
            assert now(was, pins.pin(row, was["asked"], tuple(was["shape"]), was["init"])) == was


def now(was: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """With the outputs as they were, where the last digits of a sum are all that differs."""
    for key in ("output", "shaken"):
        assert found[key] == pytest.approx(was[key], rel=1e-6, abs=1e-9), was
    return {**found, "output": was["output"], "shaken": was["shaken"]}
