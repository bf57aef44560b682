"""How right the answers of simulated studies are, whose true gains are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

SURE = 0.99
"""An answer with at least this probability counts as sure."""
NONE = 1e-9
"""A true gain up to this is none, points."""


class Answered(Protocol):
    """An answer about a network and the bare one. Gains in points."""

    @property
    def taken(self) -> bool:
        """Whether the network is taken, not the bare one."""

    @property
    def probability(self) -> float:
        """That it is better."""

    @property
    def low(self) -> float:
        """Of the interval of its gain."""

    @property
    def high(self) -> float:
        """Likewise."""

    @property
    def true(self) -> float:
        """Its true gain."""


@dataclass(frozen=True)
class Rightness:
    """Figures of several answers."""

    answers: int
    taken: int
    gain: float
    """Mean true gain of what is taken; none where the bare network is."""
    false: int
    """Taken without a true gain."""
    sure: int
    sure_and_false: int
    covers: float
    """Percentage of intervals with the true gain inside."""
    width: float
    """Of intervals, mean."""
    log_loss: float
    log_loss_error: float
    """Standard error of `log_loss`."""


def rightness(rows: Sequence[Answered]) -> Rightness:
    """The figures of these answers."""
    taken = [row for row in rows if row.taken]
    sure = [row for row in rows if row.probability >= SURE]
    p = np.clip([row.probability for row in rows], 0.001, 0.999)
    true = np.array([row.true > NONE for row in rows])
    loss = -np.where(true, np.log(p), np.log(1 - p))
    covered = [row.low - NONE <= row.true <= row.high + NONE for row in rows]
    return Rightness(
        answers=len(rows),
        taken=len(taken),
        gain=float(np.mean([row.true if row.taken else 0.0 for row in rows])),
        false=sum(row.true <= NONE for row in taken),
        sure=len(sure),
        sure_and_false=sum(row.true <= NONE for row in sure),
        covers=100 * float(np.mean(covered)),
        width=float(np.mean([row.high - row.low for row in rows])),
        log_loss=float(loss.mean()),
        log_loss_error=float(loss.std() / len(loss) ** 0.5),
    )
