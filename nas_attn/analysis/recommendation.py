"""Which placement to take, and how sure that is. From search-time estimates: a suggestion, not a claim.

The rule. Candidates are those scored at the last rung, baselines included: of the front, or with a latency limit in the
recipe, those whose estimated ratio is within the limit. Once there is one with attention that has run twice, nobody is
recommended on a single run.
1. The best bet is the placement with the largest gain over the bare backbone, weighted with the probability of a gain.
2. If it is not better than the bare backbone with a probability of 70 %, the bare backbone is recommended.
3. Differences below `worth` do not count: a tenth of the best bet's gain, or half of one run's noise, whichever is larger. The
   fastest placement is recommended whose expected loss against the best bet is below that, and that is itself better than the
   bare backbone with 70 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nas_attn.analysis import recommendation_words as words
from nas_attn.analysis.contenders import Comparison as Comparison
from nas_attn.analysis.contenders import Contender as Contender
from nas_attn.analysis.contenders import Recommendation as Recommendation
from nas_attn.analysis.recommendation_words import format_probability as format_probability
from nas_attn.analysis.recommendation_words import sureness as sureness
from nas_attn.model import Evidence
from nas_attn.model.mixture import cdf

REQUIRED = 0.70
"""Probability of being better than the bare backbone that a placement needs."""
TOLD_APART = 0.95
"""Probability of being better from which the recommended one is said to be better than another."""
OF_GAIN, OF_NOISE = 0.1, 0.5
"""What counts: this share of the best gain, or of one run's noise, whichever is larger."""


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
        own_backbone: whether runs start from a trained backbone; the answer holds for it, or, if there are several, for the next one.
        trained: how the runs were trained, `after 2 epochs from this study's backbones`.
    """
    sign = -1.0 if evidence.lower_is_better else 1.0

    def quality(contender: Contender) -> float:
        return sign * contender.estimate.mean

    bare = next((c for c in contenders if c.baseline == "none"), None)
    uniform = max((c for c in contenders if c.baseline not in (None, "none")), key=quality, default=None)
    pool, among = _pool(contenders, max_latency_ratio)
    if not pool:
        return None
    if bare is None:
        chosen = max(pool, key=quality)
        rule = f"the best estimated {evidence.metric} {among} (the bare backbone has not been scored)"
        return _recommendation(
            _Found(chosen, None, uniform, None, None, None, None), contenders, evidence, rule, [], trained
        )
    best = max(pool, key=lambda c: (_worth(evidence, c, bare), c is not bare))
    if best is bare or _odds(evidence, best, bare) < REQUIRED:
        within = "" if max_latency_ratio is None else f" within {max_latency_ratio:g} times the latency"
        rule = f"no placement{within} is better with a probability of {100 * REQUIRED:.0f} %"
        about = words.about(evidence, best, bare, own_backbone)
        chosen = bare if bare in pool or best is bare else best
        bet = best if best is not chosen else None
        return _recommendation(
            _Found(chosen, bare, uniform, bet, None, None, None), contenders, evidence, rule, about, trained
        )
    counts = what_counts(evidence, best, bare)
    able = [c for c in pool if c is not bare and _odds(evidence, c, bare) >= REQUIRED]
    chosen = _fastest(evidence, best, able, counts)
    rule = f"the fastest {among} that loses less than what counts against the best bet"
    if chosen is best:
        rule = f"the largest likely gain over the bare backbone {among}"
    others = [
        c for c in able if c.latency is not None and chosen.latency is not None and c.latency.high < chosen.latency.low
    ]
    cheaper = _fastest(evidence, best, others, 2 * counts) if others else None
    if cheaper is not None and expected_loss(evidence, best, cheaper) >= 2 * counts:
        cheaper = None
    about = words.about(evidence, chosen, chosen, own_backbone)
    dearer = best if best is not chosen else None
    return _recommendation(
        _Found(chosen, bare, uniform, None, dearer, cheaper, counts), contenders, evidence, rule, about, trained
    )


def what_counts(evidence: Evidence, best: Contender, bare: Contender) -> float:
    """The smallest difference that counts, in the metric's unit."""
    gain, noise = evidence.gain(best.key, bare.key), evidence.noise.paired_sd
    return max(OF_GAIN * max(gain.mean, 0.0) if gain else 0.0, OF_NOISE * (noise or 0.0))


def expected_loss(evidence: Evidence, best: Contender, other: Contender) -> float:
    """What is lost on average by taking another instead of the best one, where the best one is better."""
    gain = None if best is other else evidence.gain(best.key, other.key)
    if gain is None or gain.sd == 0:
        return max(gain.mean, 0.0) if gain else 0.0
    z = gain.mean / gain.sd
    return gain.mean * float(cdf(z)) + gain.sd * math.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)


def _fastest(evidence: Evidence, best: Contender, able: Sequence[Contender], counts: float) -> Contender:
    """The fastest whose expected loss is below what counts; the best one where latencies are unknown."""
    level = [(c.latency.ratio, c) for c in able if c.latency is not None and expected_loss(evidence, best, c) < counts]
    if best.latency is None or not level:
        return best
    return min(level, key=lambda found: found[0])[1]


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
    best_bet: Contender | None
    dearer: Contender | None
    cheaper: Contender | None
    worth: float | None


def _recommendation(
    found: _Found, contenders: Sequence[Contender], evidence: Evidence, rule: str, about: Sequence[str], trained: str
) -> Recommendation:
    chosen, bare, metric = found.chosen, found.bare, evidence.metric
    against_none, against_uniform = _compare(evidence, chosen, bare), _compare(evidence, chosen, found.uniform)
    dearer, cheaper = _compare(evidence, chosen, found.dearer), _compare(evidence, chosen, found.cheaper)
    bet = None if found.best_bet is None else _compare(evidence, found.best_bet, chosen)
    level = [] if chosen is bare else _level_with(contenders, chosen, (bare, found.dearer, found.cheaper), evidence)
    why = [
        f"{'Keep the bare backbone' if chosen is bare else f'Take `{chosen.placement}`'}: {rule}.",
        words.costs(chosen, metric, trained),
        *words.against(against_none, metric),
        *words.on_new_images(against_none, metric),
        *words.against(against_uniform, metric),
        *(["It is the best uniform baseline: it needed no search."] if chosen is found.uniform else []),
        *words.counted(found.worth, metric),
        *words.level_with(level, metric),
        *about,
        words.noise(evidence),
    ]
    answer = [
        words.headline(chosen, bare, metric),
        *words.gain_line(against_none, metric, trained),
        *words.best_bet_line(found.best_bet, bet, metric),
        *words.other_line("Dearer", found.dearer, dearer, metric),
        *words.other_line("Cheaper", found.cheaper, cheaper, metric),
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
        worth=found.worth,
        best_bet=bet,
        more_accurate=dearer,
        cheaper=cheaper,
        level_with=tuple(contender.key for contender in level),
        answer=tuple(answer),
        why=tuple(why),
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
