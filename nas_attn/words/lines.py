"""A line of the answer: a label that takes ten columns, and a text."""

from __future__ import annotations

from dataclasses import dataclass

# columns of a label
LABEL_COLUMNS = 10


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the answer; the headline and warnings have no label."""

    text: str
    label: str = ""

    def __str__(self) -> str:
        return f"{self.label:<{LABEL_COLUMNS}}{self.text}" if self.label else self.text
