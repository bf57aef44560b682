"""The labels of a study's validation images, as the study keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of a split's images."""

    classes: tuple[str, ...]
    # (images,): each one's class, from 0
    numbers: NDArray[np.int32]
    # (images,): of a seed's own division, their numbers among all images that are divided; else
    # None
    images: NDArray[np.int64] | None = None
    # how many images are divided; 0: one division
    divided: int = 0


@dataclass(frozen=True, slots=True)
class ValidationLabels:
    """The labels of a study's validation images."""

    # of the study's first division; None: unknown
    first: Labels | None = None
    # seed -> of its own division; empty where there is one division
    divisions: Mapping[int, Labels] = field(default_factory=dict)

    def of(self, seed: int) -> Labels | None:
        """Of a run's images."""
        return self.divisions.get(seed, self.first)
