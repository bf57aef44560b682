"""Is it attention, or just more network? The best control beside the recommended network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from nas_attn.analysis.recommendation import REQUIRED, Capacity, Contender, Recommendation
from nas_attn.analysis.recommending import compared
from nas_attn.model import Evidence, Gain
from nas_attn.model.variances import cdf

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
    """The recommendation with the best control, which the answer may take instead."""
    bare = next((c for c in contenders if c.is_bare), None)
    chosen = next(
        (c for c in contenders if recommendation is not None and c.key == recommendation.key), None
    )
    if recommendation is None or bare is None or chosen is None:
        return recommendation
    alike = math.inf
    if chosen is not bare and chosen.latency is not None:
        alike = LIKE_LATENCY * chosen.latency.ratio
    limit = alike if max_latency_ratio is None else max_latency_ratio
    affordable = [c for c in controls.networks if c.latency is None or c.latency.ratio <= limit]
    gained = []
    for network in affordable or controls.networks:
        gain_of_network = controls.gains.get(network.key) or evidence.gain(network.key, bare.key)
        if gain_of_network is not None:
            gained.append((gain_of_network, network))
    if not gained:
        return recommendation
    gain, control = max(gained, key=lambda pair: pair[0].mean)
    lead = compared(evidence, chosen, control)
    # it is not in the model of the placements
    if lead.gain is None:
        lead = replace(lead, gain=_lead(evidence.gain(chosen.key, bare.key), gain))
    in_reach = bool(affordable) and (chosen is not bare or max_latency_ratio is not None)
    capacity = Capacity(
        key=control.key,
        placement=control.placement,
        baseline=control.baseline,
        latency=control.latency,
        gain=gain,
        lead=lead,
        dearer=not affordable or (control.latency is not None and control.latency.ratio > alike),
        in_reach=in_reach,
    )
    if recommendation.is_bare:
        better = gain.probability >= REQUIRED and gain.mean >= (worth or 0.0)
    else:
        better = _better(lead.gain, recommendation.worth.size if recommendation.worth else 0.0)
    return replace(
        recommendation, capacity=capacity, instead=control.key if in_reach and better else None
    )


def _better(lead: Gain | None, worth: float) -> bool:
    """Whether a control is likely better than attention, by enough to count."""
    return lead is not None and lead.worse >= REQUIRED and -lead.mean >= worth


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
