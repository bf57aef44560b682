"""Is it attention, or just more network? The answer held against plain layers that cost as much latency (controls)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nas_attn.analysis import units
from nas_attn.analysis.recommendation import REQUIRED, TOLD_APART, Comparison, Contender, Recommendation
from nas_attn.model import Evidence, Gain

ALIKE = 1.05
"""A control costs as much as a placement if its latency is at most so many times the placement's."""


def with_capacity(
    found: Recommendation | None, contenders: Sequence[Contender], controls: Sequence[Contender], evidence: Evidence
) -> Recommendation | None:
    """The recommendation with what the best control gains, as one more line; the same where no control was scored.

    Args:
        contenders: who could be recommended.
        controls: candidates with plain layers in the place of attention, scored at the last rung.
    """
    bare = next((c for c in contenders if c.baseline == "none"), None)
    chosen = next((c for c in contenders if found is not None and c.key == found.key), None)
    if found is None or bare is None or chosen is None:
        return found
    affordable = [c for c in controls if chosen is bare or _affordable(c, chosen)]
    gains = {c.key: evidence.gain(c.key, bare.key) for c in controls}
    gained = [(gain.mean, c, gain) for c in affordable or controls if (gain := gains[c.key]) is not None]
    if not gained:
        return found
    _, control, gain = max(gained, key=lambda one: one[0])
    lead = None if chosen is bare else evidence.gain(chosen.key, control.key)
    ratio = chosen.latency.ratio / control.latency.ratio if chosen.latency and control.latency else None
    against = Comparison(control.key, control.name, evidence.gain(chosen.key, control.key), ratio)
    said = _of_bare(gain) if lead is None else _verdict(lead, dearer=not affordable)
    at = "" if control.latency is None else f" at {control.latency.ratio:.2f} ×"
    name = control.placement if control.baseline is None else f"{control.baseline.rpartition(' ')[2]} everywhere"
    size = units.plus_minus(found.metric, gain.mean, (gain.high - gain.low) / 2)
    return replace(found, capacity=against, answer=(*found.answer, f"Capacity  {name}: {size}{at}. {said}"))


def _affordable(control: Contender, chosen: Contender) -> bool:
    if control.latency is None or chosen.latency is None:
        return True
    return control.latency.ratio <= ALIKE * chosen.latency.ratio


def _verdict(lead: Gain, *, dearer: bool) -> str:
    """Whether attention buys more than the control, by its lead."""
    if lead.worse >= REQUIRED:
        return "More network helps more" + (", at more latency." if dearer else "; attention is not needed.")
    odds = units.probability(lead.probability)
    if lead.probability < REQUIRED:
        return f"More network may help as much{', at more latency' if dearer else ''} (attention better: {odds})."
    verb = "buys" if lead.probability >= TOLD_APART else "probably buys"
    return f"Attention {verb} more{', at less latency' if dearer else ''} ({odds})."


def _of_bare(gain: Gain) -> str:
    if gain.probability >= REQUIRED:
        return "More network helps here; attention is not shown to."
    return "More network is not shown to help either."
