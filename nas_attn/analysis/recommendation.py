"""Which placement to take, and how sure that is. From search-time estimates: a suggestion, not a claim.

The rule. Candidates are those scored at the last rung, baselines included: of the front, or with a latency limit in the
recipe, those whose estimated ratio is within the limit. Once there is one with attention that has run twice, nobody is
recommended on a single run.
1. The largest gain over no attention, weighted with the probability that there is one. A tie is no gain.
2. Whatever is not better than no attention with at least 70 % gives way to no attention: attention costs latency, and
   the best-looking of many is partly lucky.
3. By the same measure it gives way to a placement with attention: the fastest that it is not better than with 70 %, if that
   one is itself so sure to be better than no attention. Latencies whose intervals overlap are no reason to change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nas_attn.analysis import recommendation_words as words
from nas_attn.analysis.contenders import Comparison as Comparison
from nas_attn.analysis.contenders import Contender as Contender
from nas_attn.analysis.contenders import Recommendation as Recommendation
from nas_attn.analysis.recommendation_words import format_probability as format_probability
from nas_attn.analysis.recommendation_words import sureness as sureness
from nas_attn.model import Evidence

WORTH_IT = 0.70
"""Probability of being better from which a slower candidate is worth its latency."""
TOLD_APART = 0.95
"""Probability of being better from which the recommended one is not said to be level with another."""


def recommend(
    contenders: Sequence[Contender],
    evidence: Evidence,
    *,
    max_latency_ratio: float | None,
    own_backbone: bool = False,
    trained: str = "",
) -> Recommendation | None:
    """The rule above; None where nothing has been scored at the last rung (within the limit).

    Args:
        contenders: the candidates scored at the last rung.
        evidence: about the metric, at that rung.
        max_latency_ratio: the recipe's limit.
        own_backbone: whether all runs start from one trained backbone, on which the answer is conditional then.
        trained: how the runs were, `after 2 epochs from this study's backbones`: what all that is said is about.
    """
    sign = -1.0 if evidence.lower_is_better else 1.0

    def quality(contender: Contender) -> float:
        return sign * contender.estimate.mean

    bare = next((c for c in contenders if c.baseline == "none"), None)
    uniform = max((c for c in contenders if c.baseline not in (None, "none")), key=quality, default=None)
    pool, among = _pool(contenders, max_latency_ratio)
    if bare is not None:
        over = bare
        chosen = max(pool, key=lambda c: _worth(evidence, c, over), default=None)
        rule = f"the largest likely gain over the bare backbone {among}"
    else:
        chosen = max(pool, key=quality, default=None)
        rule = f"the best estimated {evidence.metric} {among} (the bare backbone has not been scored)"
    if chosen is None:
        return None
    promising = chosen
    if bare is not None and bare in pool and (chosen is bare or _odds(evidence, chosen, bare) < WORTH_IT):
        within = "" if max_latency_ratio is None else f" within {max_latency_ratio:g} times the latency"
        chosen, rule = bare, f"no placement{within} is better with a probability of {100 * WORTH_IT:.0f} % or more"
    best = chosen
    if bare is not None and chosen is not bare:
        chosen = fastest_level(evidence, chosen, pool, bare)
    if chosen is not best:
        rule = f"the fastest {among} whose gain over the bare backbone is as large as the largest, or hardly smaller"
    cheaper = _cheaper(contenders, chosen, bare, evidence)
    about = words.about(evidence, promising if best is bare else chosen, chosen, own_backbone)
    gain = evidence.gain(best.key, chosen.key) if best is not chosen else None
    found = _Found(chosen, bare, uniform, best if gain is not None and gain.mean > 0 else None, cheaper)
    return _recommendation(contenders, found, evidence, rule, about, trained)


def fastest_level(evidence: Evidence, best: Contender, pool: Sequence[Contender], bare: Contender) -> Contender:
    """Who is to be taken in place of the one with the largest likely gain: the fastest that is hardly worse, mostly itself.

    Args:
        best: who is to give way; better than no attention with `WORTH_IT`.
        pool: who may be recommended.
        bare: no attention.
    """
    if best.latency is None:
        return best
    level = [
        (c.latency, c)
        for c in pool
        if c.latency is not None and c.latency.high < best.latency.low and c is not bare
        if _odds(evidence, best, c) < WORTH_IT <= _odds(evidence, c, bare)
    ]
    if not level:
        return best
    fastest = min(latency.high for latency, _ in level)
    return max((c for latency, c in level if latency.low <= fastest), key=lambda c: _worth(evidence, c, bare))


def _pool(contenders: Sequence[Contender], max_latency_ratio: float | None) -> tuple[list[Contender], str]:
    """Who may be recommended, and from among whom that is, as a phrase."""
    if max_latency_ratio is None:
        pool, among = [c for c in contenders if c.on_front], "on the front"
    else:
        pool = [c for c in contenders if c.latency is not None and c.latency.ratio <= max_latency_ratio]
        among = f"at no more than {max_latency_ratio:g} times the backbone's latency"
    if any(c.estimate.seeds > 1 and c.baseline != "none" for c in pool):
        pool = [c for c in pool if c.estimate.seeds > 1 or c.baseline == "none"]
    return pool, among


def _odds(evidence: Evidence, a: Contender, b: Contender) -> float:
    """Probability that `a` is better than `b`; 0 where nothing is known about the noise."""
    gain = evidence.gain(a.key, b.key)
    return 0.0 if gain is None else gain.probability


def _worth(evidence: Evidence, contender: Contender, bare: Contender) -> float:
    gain = evidence.gain(contender.key, bare.key)
    return 0.0 if gain is None else gain.worth


def _cheaper(
    contenders: Sequence[Contender], chosen: Contender, bare: Contender | None, evidence: Evidence
) -> Contender | None:
    """The fastest contender on the front that is faster than the chosen one and hardly worse."""
    if bare is None or chosen.latency is None:
        return None
    faster = [
        (c.latency.ratio, c)
        for c in contenders
        if c.on_front and c.latency is not None and c.latency.high < chosen.latency.low
        if _odds(evidence, chosen, c) < WORTH_IT <= _odds(evidence, c, bare)
    ]
    return min(faster, key=lambda found: found[0], default=(0.0, None))[1]


def _level_with(
    contenders: Sequence[Contender], chosen: Contender, named: Sequence[Contender | None], evidence: Evidence
) -> list[Contender]:
    """Others of the front that are not surely worse, of which no sentence of their own speaks."""
    others = [c for c in contenders if c.on_front and c is not chosen and c not in named]
    odds = [(_odds(evidence, chosen, c), c) for c in others]
    return [c for p, c in sorted(odds, key=lambda found: found[0]) if p < TOLD_APART]


@dataclass(frozen=True, slots=True)
class _Found:
    """Who has a part in the answer."""

    chosen: Contender
    bare: Contender | None
    uniform: Contender | None
    more_accurate: Contender | None
    cheaper: Contender | None


def _recommendation(
    contenders: Sequence[Contender],
    found: _Found,
    evidence: Evidence,
    rule: str,
    about: Sequence[str],
    trained: str,
) -> Recommendation:
    chosen, bare, uniform, cheaper = found.chosen, found.bare, found.uniform, found.cheaper
    against_none = _compare(evidence, chosen, bare)
    against_uniform = _compare(evidence, chosen, uniform)
    against_better = _compare(evidence, chosen, found.more_accurate)
    against_cheaper = _compare(evidence, chosen, cheaper)
    level = [] if chosen is bare else _level_with(contenders, chosen, (bare, found.more_accurate, cheaper), evidence)
    metric, better = evidence.metric, found.more_accurate
    sentences = [
        f"{'Keep the bare backbone' if chosen is bare else f'Take `{chosen.placement}`'}: {rule}.",
        words.costs(chosen, metric, trained),
        *words.against(against_none, metric),
        *words.on_new_images(against_none, metric),
        *words.against(against_uniform, metric),
        *(["It is also the best uniform baseline: it needs no search."] if chosen is uniform else []),
        *([words.more_accurate(better, against_better, metric)] if better and against_better else []),
        *([words.less_latency(cheaper, against_cheaper)] if cheaper and against_cheaper else []),
        *words.level_with(level, metric),
        *about,
        words.noise(evidence),
    ]
    return Recommendation(
        key=chosen.key,
        placement=chosen.placement,
        metric=metric,
        estimate=chosen.estimate,
        latency=chosen.latency,
        rule=rule,
        against_none=against_none,
        against_uniform=against_uniform,
        more_accurate=against_better,
        cheaper=against_cheaper,
        level_with=tuple(contender.key for contender in level),
        sentences=tuple(sentences),
    )


def _compare(evidence: Evidence, chosen: Contender, other: Contender | None) -> Comparison | None:
    if other is None or other is chosen:
        return None
    ratio = None
    if chosen.latency is not None and other.latency is not None:
        ratio = chosen.latency.ratio / other.latency.ratio
    name, gain = other.baseline or other.placement, evidence.gain(chosen.key, other.key)
    if gain is None:
        return Comparison(other.key, name, None, None, None, None, None, None, None, None, ratio)
    return Comparison(
        key=other.key,
        name=name,
        gain=gain.mean,
        low=gain.low,
        high=gain.high,
        probability=gain.probability,
        worse=gain.worse,
        new_low=gain.new_low,
        new_high=gain.new_high,
        new_probability=gain.new_probability,
        latency_ratio=ratio,
    )
