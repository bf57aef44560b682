"""A row of the card: a label, what is said, and a command to copy."""

from __future__ import annotations

from dataclasses import dataclass

# labels of a placement: of what is to be taken, and of what the rows above are about if not
PLACEMENT = "Placement"
THAT_ONE = "That one"


@dataclass(frozen=True, slots=True)
class CardRow:
    """A row of the card."""

    label: str
    text: str
    command: str = ""
    """To copy; empty: the row has none."""

    @property
    def is_placement(self) -> bool:
        """Whether the text is a placement in notation."""
        return self.label in (PLACEMENT, THAT_ONE)
