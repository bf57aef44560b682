"""Whether a gain survives int8, where latency is measured in it: said with the answer."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

from nas_attn.analysis import units
from nas_attn.tables import IN_INT8

Runs = Mapping[int, Mapping[str, float]]
"""Seed -> metrics of a run at the last rung."""


def in_int8(mode: str, metric: str | None, recommended: Runs, bare: Runs) -> str:
    """One sentence on the recommended placement; empty where nothing was scored in int8.

    Args:
        mode: of the latency.
        bare: runs of the bare backbone, paired by seed.
    """
    name = f"{metric}{IN_INT8}"
    seeds = [
        seed for seed in sorted(recommended.keys() & bare.keys()) if name in recommended[seed] and name in bare[seed]
    ]
    if metric is None or not seeds:
        return ""
    in_float, gain = (fmean(recommended[seed][m] - bare[seed][m] for seed in seeds) for m in (metric, name))
    lost = ". The gain does not survive int8" if in_float > 0 >= gain else ""
    return (
        f"In {mode}, the recommended placement changes {metric} by {units.difference(metric, gain)}, in float32 by "
        f"{units.difference(metric, in_float)} (against the bare backbone, {len(seeds)} run{'s' if len(seeds) > 1 else ''}){lost}."
    )
