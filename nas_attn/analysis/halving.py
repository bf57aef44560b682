"""Which candidates go on at a rung: asynchronous successive halving for several objectives.

After Schmucker et al., "Multi-objective Asynchronous Successive Halving" (2106.12639), with hypervolume contribution
instead of their epsilon-net for the order within a front.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nas_attn.model.front import hypervolume_contributions, non_dominated_rank

_MARGIN = 0.1
"""The reference lies this share of the peers' range beyond the worst, so that a front's ends count too."""


def survives(peers: Mapping[str, Sequence[float]], candidate: str, eta: float) -> bool:
    """Whether a candidate goes on from a rung, judged by all that reached this rung so far, itself included.

    The peers are sorted by non-domination; the best 1/eta of them go on, the number rounded up. Where the cut goes
    through a front, its smallest contributor to the hypervolume leaves until the rest fits. The candidate is judged
    when it arrives, as in the stopping form of ASHA: the first to arrive always goes on, and nobody waits for peers or
    is taken up again later. Pure and deterministic: the order in which `peers` is iterated does not matter, ties go to
    the smaller key, so workers that read the same rung table decide alike.

    Args:
        peers: key -> objective values at this rung, all to be minimised. A candidate with a NaN does not go on.
        candidate: a key of `peers`.
        eta: above 1.
    """
    if any(math.isnan(value) for value in peers[candidate]):
        return False
    keys = sorted(peers)
    values = np.array([peers[key] for key in keys], dtype=float)
    places = math.ceil(len(keys) / eta - 1e-9)
    ranks = non_dominated_rank(values)
    rank = ranks[keys.index(candidate)]
    before = int((ranks < rank).sum())
    front = np.flatnonzero(ranks == rank)
    if before + len(front) <= places:
        return True
    if before >= places:
        return False
    chosen = _spread(_normalised(values)[front], places - before)
    return keys.index(candidate) in front[chosen]


def _normalised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each column scaled to 0 to 1 over its finite values; infinities become 0 or 1."""
    scaled = np.where(np.isneginf(values), 0.0, 1.0)
    for column in range(values.shape[1]):
        finite = np.isfinite(values[:, column])
        if finite.any():
            known = values[finite, column]
            scaled[finite, column] = (known - known.min()) / (np.ptp(known) or 1.0)
    return scaled


def _spread(front: NDArray[np.float64], places: int) -> NDArray[np.int64]:
    """Indices of the `places` rows left when the smallest contributor leaves again and again, of equals the last."""
    reference = np.full(front.shape[1], 1.0 + _MARGIN)
    left = np.arange(len(front))
    while len(left) > places:
        lost = hypervolume_contributions(front[left], reference)
        weakest = len(left) - 1 - int(np.argmin(lost[::-1]))
        left = np.delete(left, weakest)
    return left
