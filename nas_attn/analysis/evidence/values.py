"""Expected scores of placements, as mixtures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas_attn.analysis.evidence.levels import Levels

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Values:
    """Expected scores at each node of the variances."""

    means: Floats
    """(nodes, placements)"""
    variances: Floats
    """(nodes, placements), without what the study's level may be off by: `levels.extra`."""
    levels: Levels
