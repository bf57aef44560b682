"""The table of modules and runtimes, as `benchmarks/runtimes.py` measured it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nas_attn.attention.catalogue import ROWS

FILE = Path(__file__).with_name("runtimes.json")


def load() -> dict[str, dict[str, Any]]:
    """Runtime -> version, date, and what was found per module."""
    found: dict[str, dict[str, Any]] = json.loads(FILE.read_text("utf-8"))
    return found


def lines(table: dict[str, dict[str, Any]]) -> list[list[str]]:
    """The titles, then a line per module: its name, and a cell per runtime."""
    titles = ["module", *(f"{name} {column['version']}" for name, column in table.items())]
    modules = [name for name, row in ROWS.items() if not row.control]  # plain layers run everywhere
    return [titles, *([name, *(_shown(column["cells"].get(name)) for column in table.values())] for name in modules)]


def _shown(found: dict[str, Any] | None) -> str:
    if found is None:
        return "not tested"
    return f"{found['time']:.2f}" if found["state"] == "same" else str(found["state"])
