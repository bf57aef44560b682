"""What a check found: for a person in one sentence, for programs as a line of JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from nas_attn.errors import first_line, shorten

State = Literal["ok", "note", "bad"]
# letters of an error's message
MESSAGE_LETTERS = 200


@dataclass(frozen=True, slots=True)
class Finding:
    """One result. `note`: nas_attn works, but not as well as it could."""

    part: str
    subject: str
    state: State
    said: str
    values: Mapping[str, Any] = field(default_factory=dict)
    """Plain values, by name with unit: `epoch_s`, `peak_mb`."""

    def as_plain(self) -> dict[str, Any]:
        """As one JSON object."""
        fixed = {"part": self.part, "subject": self.subject, "state": self.state, "said": self.said}
        return {**fixed, **self.values}


def found_by(look: Callable[[], Finding], part: str, subject: str) -> Finding:
    """The finding of a look; any error is a bad one."""
    try:
        return look()
    except Exception as error:
        return Finding(part, subject, "bad", sentence_of(error), {"error": type(error).__name__})


def sentence_of(error: BaseException) -> str:
    """`ValueError: its message`, in one line."""
    return shorten(f"{type(error).__name__}: {first_line(error)}", MESSAGE_LETTERS)


def append_line(path: Path, value: Mapping[str, Any]) -> None:
    """Adds a line of JSON to a file; it is on the disk when this returns, so that nothing of a run
    that is cut short is lost.
    """
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(value) + "\n")
        file.flush()
        os.fsync(file.fileno())
