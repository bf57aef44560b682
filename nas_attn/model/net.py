"""What runs of one seed, and so of one backbone, have in common: its level, estimated over all candidates at once.

The pruner's quick answer: `value = level of the seed + candidate + rest`, the candidates' variance taken to be the rest's.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def net(values: Mapping[str, Mapping[int, float]]) -> dict[str, dict[int, float]]:
    """Candidate -> seed -> value without the level of its seed: as if all had run on the average seed and backbone."""
    seeds = {seed: i for i, seed in enumerate(sorted({seed for runs in values.values() for seed in runs}))}
    table = np.full((len(values), len(seeds)), np.nan)
    for row, runs in zip(table, values.values(), strict=True):
        row[[seeds[seed] for seed in runs]] = list(runs.values())
    known = np.isfinite(table)
    ran, table = known.astype(float), np.where(known, table, 0.0)
    shrunk = 1 / (ran.sum(axis=1) + 1)  # the ridge of one run's worth: what integrating the candidates out leaves
    normal = np.diag(ran.sum(axis=0)) - ran.T @ (ran * shrunk[:, None])
    right = table.sum(axis=0) - ran.T @ (table.sum(axis=1) * shrunk)
    level = np.linalg.lstsq(normal, right, rcond=None)[0]
    ever = ran.any(axis=0)
    level = level - level @ ever / max(ever.sum(), 1)
    return {key: {seed: v - float(level[seeds[seed]]) for seed, v in runs.items()} for key, runs in values.items()}
