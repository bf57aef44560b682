"""Is it attention, or just more network? The best control beside the recommended network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from nas_attn.answer.recommendation import REQUIRED, Capacity, Contender, Recommendation
from nas_attn.answer.recommending import compared
from nas_attn.model import Evidence, Gain
from nas_attn.model.hypotheses import cdf

# a control with at most so many times a placement's latency costs the same
LIKE_LATENCY = 1.05


@dataclass(frozen=True, slots=True)
class Controls:
    """Networks without attention that were made larger."""

    networks: Sequence[Contender]
    gains: Mapping[str, Gain] = field(default_factory=dict)
    """Key -> gain over the bare backbone; of others, that of the placements' model counts."""


def with_capacity(
    recommendation: Recommendation | None,
    contenders: Sequence[Contender],
    controls: Controls,
    evidence: Evidence,
    *,
    max_latency_ratio: float | None = None,
    worth: float | None = None,
) -> Recommendation | None:
    """Adds the best control to a recommendation, which the answer may take instead.

    Args:
        recommendation: of a placement; None: there is none.
        contenders: the placements that were judged.
        controls: larger networks without attention.
        evidence: the model of the placements' runs.
        max_latency_ratio: the recipe's limit, in times of the bare backbone's latency.
        worth: the smallest gain that counts, in the metric's unit.
    """
    if recommendation is None:
        return None
    bare = next((c for c in contenders if c.is_bare), None)
    chosen = next((c for c in contenders if c.key == recommendation.key), None)
    if bare is None or chosen is None:
        return recommendation
    alike = math.inf
    if chosen is not bare and chosen.latency is not None:
        alike = LIKE_LATENCY * chosen.latency.ratio
    limit = alike if max_latency_ratio is None else max_latency_ratio
    affordable = [c for c in controls.networks if _takes_at_most(limit, c)]
    best = _best(affordable or controls.networks, controls, evidence, bare)
    if best is None:
        return recommendation
    control, gain = best
    lead = compared(evidence, chosen, control)
    # it is not in the model of the placements
    if lead.gain is None:
        lead = replace(lead, gain=_lead(evidence.gain(chosen.key, bare.key), gain))
    has_limit = max_latency_ratio is not None
    capacity = Capacity(
        key=control.key,
        placement=control.placement,
        baseline=control.baseline,
        latency=control.latency,
        gain=gain,
        lead=lead,
        dearer=not affordable or not _takes_at_most(alike, control),
        in_reach=bool(affordable) and (chosen is not bare or has_limit),
    )
    instead = None
    if capacity.in_reach and _is_better(capacity, recommendation, worth or 0.0):
        instead = control.key
    return replace(recommendation, capacity=capacity, instead=instead)


def _takes_at_most(limit: float, network: Contender) -> bool:
    """Whether a network's latency is within a limit, or unknown."""
    return network.latency is None or network.latency.ratio <= limit


def _best(
    networks: Sequence[Contender], controls: Controls, evidence: Evidence, bare: Contender
) -> tuple[Contender, Gain] | None:
    """The network with the largest gain over the bare backbone, and its gain; None: no gain is
    known.
    """
    gained: list[tuple[Contender, Gain]] = []
    for network in networks:
        gain = controls.gains.get(network.key) or evidence.gain(network.key, bare.key)
        if gain is not None:
            gained.append((network, gain))
    return max(gained, key=lambda pair: pair[1].mean, default=None)


def _is_better(capacity: Capacity, recommendation: Recommendation, worth: float) -> bool:
    """Whether a control is likely better than what is recommended, by enough to count."""
    if recommendation.is_bare:
        gain = capacity.gain
        return gain.probability >= REQUIRED and gain.mean >= worth
    lead = capacity.lead.gain
    enough = recommendation.worth.size if recommendation.worth else 0.0
    return lead is not None and lead.worse >= REQUIRED and -lead.mean >= enough


def _lead(one: Gain | None, other: Gain) -> Gain | None:
    """How much better one network is than another, from what each gains over a third, as if these
    were independent.
    """
    if one is None:
        return None
    mean = one.mean - other.mean
    sd = math.hypot(one.high - one.low, other.high - other.low) / (2 * 1.96)
    better = float(cdf(mean / max(sd, 1e-300)))
    return Gain(mean, sd, mean - 1.96 * sd, mean + 1.96 * sd, better, 1 - better)
