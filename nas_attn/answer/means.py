"""What a study recommends: a placement by the rule of `recommending`, and the best control beside
it. Is it attention, or just more network? The answer may take the control instead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from nas_attn.answer.recommending import (
    REQUIRED,
    Capacity,
    Contender,
    Recommendation,
    compared,
    recommend,
)
from nas_attn.answer.snapshot import CandidateView, Snapshot
from nas_attn.model import TARGET_RUNG, Evidence, Gain
from nas_attn.model.hypotheses import cdf
from nas_attn.recipe.recipe import Recipe
from nas_attn.recipe.tables import is_cost

# a control with at most so many times a placement's latency costs the same
LIKE_LATENCY = 1.05


def recommended(now: Snapshot) -> Recommendation | None:
    """Recommends a placement of a study as of now, with the best control beside it.

    Returns:
        The recommendation; None if nothing tells candidates apart, if the bare backbone is not
        scored yet, or if attention that is likely to help only lacks its latency.
    """
    model = now.evidence.get(now.primary or "")
    constant = any(same.metric == now.primary for same in now.constants)
    bare_runs = any(view.is_bare and view.state == "running" for view in now.candidates)
    if model is None or constant or bare_runs:
        return None
    recipe = now.recipe
    last = len(recipe.training.rungs) - 1
    placements = []
    controls = []
    gains = {}
    for view in now.candidates:
        if view.state != "scored" or view.rung != last or model.metric not in view.estimates:
            continue
        contender = _contender(recipe, view, model.metric)
        gain = view.gains.get(model.metric)
        if not view.control:
            placements.append(contender)
        elif gain is not None:
            controls.append(contender)
            gains[view.key] = gain
    training = recipe.target_training if model.rung >= TARGET_RUNG else recipe.training
    limit = recipe.limits.max_latency_ratio
    worth = recipe.answer.worth
    best = recommend(
        placements,
        model,
        max_latency_ratio=limit,
        own_backbone=training.start != "scratch",
        training=training,
        worth=worth,
    )
    best = with_capacity(
        best, placements, Controls(controls, gains), model, max_latency_ratio=limit, worth=worth
    )
    waiting = (view.beats_none or 0.0 for view in now.lacks_latency if not view.control)
    if best is not None and best.is_bare and max(waiting, default=0.0) >= REQUIRED:
        return None
    return best


def _contender(recipe: Recipe, view: CandidateView, metric: str) -> Contender:
    others: tuple[float, ...] = ()
    if view.cost is not None:
        cost = view.cost
        names = (name for name in recipe.objectives if is_cost(name) and name != "latency")
        others = tuple(cost[name] for name in names)
    return Contender(
        view.key,
        view.placement,
        view.baseline,
        view.estimates[metric],
        view.latency,
        view.on_front,
        others,
    )


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
