"""One result of a check, and how it is printed and kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nas_attn.errors import first_line, shorten

# `note`: nas_attn works, but not as well as it could
State = Literal["ok", "note", "bad"]
# letters of an error's message
MESSAGE_LETTERS = 200


@dataclass(frozen=True, slots=True)
class Finding:
    """What a part of the check has found of one subject."""

    part: str
    subject: str
    state: State
    # a sentence that begins in lower case
    said: str
    # plain values, by name with unit: `epoch_s`, `peak_mb`
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def line(self) -> str:
        """The result for a terminal: `ok   precision: bfloat16, which this GPU computes in`."""
        return f"{self.state:4} {self.subject}: {self.said}"

    def as_row(self) -> dict[str, Any]:
        """The result as one JSON object."""
        row = {"part": self.part, "subject": self.subject, "state": self.state, "said": self.said}
        return {**row, **self.values}


def found_by(look: Callable[[], Finding], part: str, subject: str) -> Finding:
    """The finding of a look; any error is a bad one."""
    try:
        return look()
    except Exception as error:
        return Finding(part, subject, "bad", error_line(error), {"error": type(error).__name__})


def error_line(error: BaseException) -> str:
    """`ValueError: its message`, in one line."""
    return shorten(f"{type(error).__name__}: {first_line(error)}", MESSAGE_LETTERS)
