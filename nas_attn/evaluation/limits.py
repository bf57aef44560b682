"""What a recipe needs to know of a candidate, and what it may cost."""

from __future__ import annotations

from nas_attn.recipe import Recipe
from nas_attn.records import Costs, Latency


def wanted(recipe: Recipe) -> set[str]:
    """The quantities that a recipe's objectives and limits need."""
    needed = {objective.removeprefix("-") for objective in recipe.objectives}
    if recipe.limits.max_latency_ratio is not None:
        needed.add("latency")
    return needed


def over_limits(recipe: Recipe, cost: Costs, latency: Latency | None) -> str:
    """Why a candidate is infeasible, one sentence; empty where it is not. A latency counts by its interval's low end."""
    limits = recipe.limits
    if limits.max_parameters is not None and cost["params"] > limits.max_parameters:
        return f"{cost['params']:,} parameters are more than limits.max_parameters = {limits.max_parameters:,}"
    if limits.max_macs is not None and cost["macs"] > limits.max_macs:
        return f"{cost['macs']:,} MACs are more than limits.max_macs = {limits.max_macs:,}"
    top = limits.max_latency_ratio
    if latency is not None and top is not None and latency.low > top:
        return f"its latency ratio {latency.ratio:.3f} ({latency.low:.3f} to {latency.high:.3f}) is above limits.max_latency_ratio = {top}"
    return ""
