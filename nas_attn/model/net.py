"""What runs of one seed, and so of one backbone, have in common: its level, estimated over all candidates at once.

`value = level of the seed + candidate + rest`, levels flat, candidates drawn towards their common mean with as much
variance as the rest: half of what distinguishes two seeds' candidates is taken for the candidates'.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def levels(values: Mapping[str, Mapping[int, float]]) -> dict[int, float]:
    """Seed -> its level, relative to the mean of all seeds; zeros where one seed is all there is.

    Args:
        values: candidate -> seed -> value; not finite ones are left out.
    """
    rows = [(key, seed, v) for key, runs in values.items() for seed, v in runs.items() if np.isfinite(v)]
    seeds = sorted({seed for _, seed, _ in rows})
    if len(seeds) < 2:
        return dict.fromkeys(seeds, 0.0)
    keys = sorted({key for key, _, _ in rows})
    seed_at, key_at = {s: i for i, s in enumerate(seeds)}, {k: i for i, k in enumerate(keys)}
    normal = np.zeros((len(seeds), len(seeds)))
    right = np.zeros(len(seeds))
    counts, sums = np.zeros((len(keys), len(seeds))), np.zeros(len(keys))
    for key, seed, value in rows:
        counts[key_at[key], seed_at[seed]] += 1
        sums[key_at[key]] += value
        normal[seed_at[seed], seed_at[seed]] += 1
        right[seed_at[seed]] += value
    shrunk = 1 / (counts.sum(1) + 1)  # the ridge of one run's worth: what integrating the candidates out leaves
    normal -= counts.T @ (counts * shrunk[:, None])
    right -= counts.T @ (sums * shrunk)
    found = np.linalg.lstsq(normal, right, rcond=None)[0]
    return {seed: float(found[seed_at[seed]] - found.mean()) for seed in seeds}


def net(values: Mapping[str, Mapping[int, float]]) -> dict[str, dict[int, float]]:
    """The values without their seeds' levels: as if all had run on the average seed and backbone."""
    found = levels(values)
    return {key: {s: v - found.get(s, 0.0) for s, v in runs.items()} for key, runs in values.items()}
