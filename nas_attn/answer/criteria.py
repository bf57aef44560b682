"""The criteria that choose a candidate. The command line makes its options of them, so this loads
nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from nas_attn.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Criteria:
    """One of `trial` and `placement`, or limits, which combine; none: the recommended
    candidate. UserError: other mixtures.
    """

    max_latency_ratio: float | None = None
    """Latency, in times of the bare backbone's."""
    max_latency_ms: float | None = None
    """Latency in ms, on the machine that measured."""
    min_accuracy: float | None = None
    """From 0 to 1."""
    trial: int | None = None
    placement: str | None = None
    """In notation, or a candidate's label."""
    attention: bool = False
    """Only networks with attention; with limits, or alone."""

    def __post_init__(self) -> None:
        given = [f.name for f in fields(self) if getattr(self, f.name) not in (None, False)]
        ways = [name for name in given if name in ("trial", "placement")]
        if len(ways) + (len(given) > len(ways)) > 1:
            raise UserError(
                f"{' and '.join(given)} exclude each other: give one of them, or only limits"
            )
        for name in ("max_latency_ratio", "max_latency_ms"):
            limit = getattr(self, name)
            if limit is not None and not (0 < limit < math.inf):
                raise UserError(f"{name} = {limit:g} is not a latency: give a number above 0")
        if self.min_accuracy is not None and not 0 <= self.min_accuracy <= 1:
            raise UserError(
                f"min_accuracy = {self.min_accuracy:g} is not an accuracy: give 0.7 or 70%"
            )

    @property
    def limited(self) -> bool:
        return (self.max_latency_ratio, self.max_latency_ms, self.min_accuracy) != (
            None,
            None,
            None,
        )

    @property
    def default(self) -> bool:
        return not (
            self.limited or self.attention or self.trial is not None or self.placement is not None
        )
