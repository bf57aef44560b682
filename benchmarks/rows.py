"""Results as rows of a file, a line of JSON each, so that a killed call costs only what was under
way.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def read_rows(path: Path | None) -> list[Row]:
    """The rows of a file; none where there is no file. A last line that a killed call left
    unfinished is cut off.
    """
    if path is None or not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        os.truncate(path, len(whole))
    return [json.loads(line) for line in whole.splitlines()]


def append_row(path: Path, row: Row) -> None:
    """Adds a row, written at once and brought to the disk."""
    with path.open("ab", buffering=0) as file:
        file.write(json.dumps(row).encode() + b"\n")
        os.fsync(file.fileno())


def keep_row(rows: list[Row], row: Row, path: Path | None) -> None:
    """Adds a row to those that are known, and to the file, if there is to be one."""
    rows.append(row)
    if path is not None:
        append_row(path, row)
