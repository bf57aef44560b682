"""Which members of a front cannot be told apart: by no objective is one better with 97.5 % certainty."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from nas_attn.analysis.latency import Order
from nas_attn.costs import is_cost
from nas_attn.model import Evidence
from nas_attn.recipe import objective_name
from nas_attn.records import Session

CERTAIN = 0.975


def ties(
    keys: Sequence[str],
    objectives: Sequence[str],
    values: Mapping[str, Sequence[float | None]],
    models: Mapping[str, Evidence],
    sessions: Sequence[Session],
    bare: str | None,
) -> dict[str, tuple[str, ...]]:
    """Key -> the others that it cannot be told apart from.

    Args:
        keys: the candidates to compare.
        values: key -> objective values; counted ones (parameters, MACs, memory) are compared exactly.
        models: metric -> the evidence about it at the last rung.
        sessions: of the study's latencies, where that is an objective.
        bare: key of the bare backbone, which has no sessions of its own: it is every session's reference.
    """
    order = Order(sessions)

    def faster_known(a: str, b: str) -> bool:
        if not all(key == bare or key in order.measured for key in (a, b)):
            return False  # a prediction tells nothing for certain, nor does a session that does not count
        return order.told_apart(b, None) if a == bare else order.told_apart(a, None if b == bare else b)

    def apart(objective: str, position: int, a: str, b: str) -> bool:
        if objective == "latency":
            return faster_known(a, b)
        if is_cost(objective):
            return values[a][position] != values[b][position]
        model = models.get(objective_name(objective))
        gain = model.gains(a, keys).get(b) if model else None
        return gain is not None and max(gain.probability, gain.worse) >= CERTAIN

    found: dict[str, list[str]] = {key: [] for key in keys}
    for a, b in itertools.combinations(keys, 2):
        if not any(apart(objective, position, a, b) for position, objective in enumerate(objectives)):
            found[a].append(b)
            found[b].append(a)
    return {key: tuple(others) for key, others in found.items()}
