"""Fronts of a study: of what is believed, of the scores as they are, and how likely each candidate belongs to the true one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nas_attn.model import Evidence
from nas_attn.model.front import non_dominated
from nas_attn.recipe import lower_is_better, objective_name

Values = Sequence[float | None]

DRAWS = 256
"""Joint draws of the truth behind a probability."""


def front_of(objectives: Sequence[str], rows: Mapping[str, Values]) -> set[str]:
    """Keys of the rows that no other dominates; one that lacks an objective is not among them.

    Args:
        rows: key -> objective values in the objectives' order.
    """
    known = {key: row for key, row in rows.items() if len(row) == len(objectives)}
    if not known:
        return set()
    values = np.array([[math.nan if v is None else v for v in row] for row in known.values()], dtype=float)
    best = non_dominated(values * _signs(objectives))
    return {key for key, among in zip(known, best, strict=True) if among}


def front_odds(
    objectives: Sequence[str], rows: Mapping[str, Values], model: Evidence, rng: np.random.Generator
) -> dict[str, float]:
    """Key -> probability of belonging to the true front of these candidates.

    The model's metric is drawn from the joint posterior; the other objectives are taken as they are estimated.

    Args:
        rows: as for `front_of`; those that lack an objective, or that the model does not know, are left out.
        model: of a metric among the objectives.
    """
    names = [objective_name(objective) for objective in objectives]
    able = set(model.keys)
    known = {key: row for key, row in rows.items() if len(row) == len(names) and None not in row and key in able}
    if model.metric not in names or not known:
        return {}
    sought, signs = names.index(model.metric), _signs(objectives)
    values = np.array(list(known.values()), dtype=float)
    counts = np.zeros(len(known))
    for drawn in model.draw(rng, DRAWS, list(known)):
        values[:, sought] = drawn
        counts += non_dominated(values * signs)
    return dict(zip(known, (counts / DRAWS).tolist(), strict=True))


def _signs(objectives: Sequence[str]) -> NDArray[np.float64]:
    return np.array([1.0 if lower_is_better(objective) else -1.0 for objective in objectives])
