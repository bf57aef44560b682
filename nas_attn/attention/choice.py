"""A choice of attention: a module's type and its knobs, as text and as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Knob = int | float | bool | str
Init = Literal["paper", "identity"]
"""How a module begins: as published, or changing nothing."""
INITS: tuple[Init, ...] = ("paper", "identity")


def format_knob(value: Knob) -> str:
    """A knob's value in notation: `8`, `0.0001`, `true`, `auto`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)


@dataclass(frozen=True, slots=True)
class Choice:
    """An attention module's type and its knobs: `se(reduction=8)`, or `none`."""

    # Name in the catalogue, `package.module:Class`, `none`, or `original` (the backbone's own
    # attention)
    type: str
    # Knobs in the order they were written
    knobs: tuple[tuple[str, Knob], ...] = ()

    @property
    def is_none(self) -> bool:
        return self.type == "none"

    @property
    def is_original(self) -> bool:
        """Whether the backbone's own attention stays."""
        return self.type == "original"

    @property
    def settings(self) -> str:
        """The knobs as they are written: `reduction=8`."""
        return ", ".join(f"{name}={format_knob(value)}" for name, value in self.knobs)

    def __str__(self) -> str:
        if not self.knobs:
            return self.type
        return f"{self.type}({self.settings})"
