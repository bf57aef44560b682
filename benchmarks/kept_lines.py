"""A benchmark's results as JSON lines, so that a killed call costs only what was under way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Line = dict[str, Any]


def read(path: Path | None) -> list[Line]:
    """What is there; nothing where there is no file."""
    return (
        [json.loads(text) for text in path.read_text().splitlines()]
        if path and path.exists()
        else []
    )


def keep(lines: list[Line], line: Line, path: Path | None) -> None:
    """Adds a result, in the file too where there is to be one."""
    lines.append(line)
    if path:
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")
