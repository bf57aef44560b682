"""A real GPU whose captures and replays are counted, as the stub counts its own."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol


class Cuda(Protocol):
    """What tests ask of the stub and of a real GPU."""

    calls: Counter[str]
    # The error mode of each capture.
    modes: list[str]

    @property
    def replays(self) -> int:
        """Replays of all graphs."""


@dataclass
class RealCuda:
    calls: Counter[str] = field(default_factory=Counter)
    modes: list[str] = field(default_factory=list)

    @property
    def replays(self) -> int:
        return self.calls["replay"]
