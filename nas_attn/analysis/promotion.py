"""Which candidates go on at a rung, by how likely they belong to the front in the end.

The model of all evidence reads the rungs together: it has learned from those that went on how far a rung tells the last one, and
a placement borrows from others with the same choices. So a candidate is judged by where it may end, not by one score on the way.
How that does beside `halving`: docs/benchmarks/search.md.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from nas_attn.analysis.evidence import Evidence
from nas_attn.analysis.fronts import Values, front_odds


def goes_on(
    model: Evidence,
    objectives: Sequence[str],
    rows: Mapping[str, Values],
    peers: Collection[str],
    candidate: str,
    eta: float,
) -> bool:
    """Whether a candidate is among the likeliest 1/eta of those that reached its rung, the number rounded up.

    Args:
        model: of a metric among the objectives, at the last rung.
        objectives: as in a recipe.
        rows: key -> objective values of all candidates to be reckoned with, of the metric the last known; a candidate with one that is not
            finite does not go on.
        peers: keys of those that reached the rung, the candidate among them.
        eta: above 1.
    """
    odds = front_odds(objectives, rows, model, np.random.default_rng(len(peers)))
    if candidate not in odds or not all(math.isfinite(value) for value in rows[candidate] if value is not None):
        return False
    sign = -1.0 if model.lower_is_better else 1.0
    ranked = sorted(peers, key=lambda key: (-odds.get(key, -1.0), -sign * model.estimates[key].mean, key))
    return ranked.index(candidate) < math.ceil(len(ranked) / eta - 1e-9)
