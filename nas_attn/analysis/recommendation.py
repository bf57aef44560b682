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
from nas_attn.model import Estimate, Evidence, Gain
from nas_attn.model.mixture import cdf
from nas_attn.records import Latency

REQUIRED = 0.70
"""Probability of being better than the bare backbone that a placement needs."""
TOLD_APART = 0.95
"""Probability of being better from which the recommended one is said to be better than another."""
OF_GAIN, OF_NOISE = 0.1, 0.5
"""What counts: this share of the best gain, or of one run's noise, whichever is larger."""


@dataclass(frozen=True, slots=True)
class Contender:
    """What the rule needs to know about a candidate scored at the last rung."""

    key: str
    placement: str
    baseline: str | None
    estimate: Estimate
    latency: Latency | None
    on_front: bool

    @property
    def name(self) -> str:
        """`none`, `uniform se(reduction=16)`, or its placement."""
        return self.baseline or self.placement


@dataclass(frozen=True, slots=True)
class Comparison:
    """The recommended placement compared with another."""

    key: str
    """Of the other."""
    name: str
    gain: Gain | None
    """How much better the recommended one is, at this training budget; None while the noise is unknown."""
    latency_ratio: float | None
    """The recommended one's latency over the other's."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The placement to take, with what speaks for it."""

    key: str
    placement: str
    metric: str
    estimate: Estimate
    latency: Latency | None
    rule: str
    """How it was chosen, as a clause."""
    against_none: Comparison | None
    """None where it is itself the bare backbone, or that has not been scored."""
    against_uniform: Comparison | None
    """Against the best uniform baseline, by posterior mean; None where it is that one, or none has been scored."""
    worth: float | None
    """The smallest difference that counts, in the metric's unit; None where the noise is unknown."""
    best_bet: Comparison | None
    """Where the bare backbone is recommended: the most promising placement compared with it; the key is that placement's."""
    more_accurate: Comparison | None
    """Against the one with the largest likely gain, where that one is slower; None: it is that one."""
    cheaper: Comparison | None
    """Against the fastest one that loses less than twice what counts, else the most promising of the faster ones that are likely
    to help; None without one."""
    level_with: tuple[str, ...]
    """Keys of others on the front that it is not better than with 95 %, the most level first; empty for the bare backbone."""
    answer: tuple[str, ...]
    """The answer in at most six lines, the first one whole, the others `Name  what it says`."""
    why: tuple[str, ...]
    """The reasons, in sentences."""
    capacity: Comparison | None = None
    """Against the best control that costs as much latency; None where no control has been scored."""


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
    judge = _Judge(contenders, evidence, own_backbone, trained)
    pool, among = _pool(contenders, max_latency_ratio)
    bare = judge.bare
    if not pool:
        return None
    if bare is None:
        rule = f"the best estimated {evidence.metric} {among} (the bare backbone has not been scored)"
        return judge.recommendation(max(pool, key=judge.quality), rule)
    gains = {c.key: evidence.gain(c.key, bare.key) for c in pool}
    worth = {key: gain.worth if gain else 0.0 for key, gain in gains.items()}
    likely = {key for key, gain in gains.items() if gain is not None and gain.probability >= REQUIRED} - {bare.key}
    best = max(pool, key=lambda c: (worth[c.key], c is not bare))
    if best.key not in likely:
        within = "" if max_latency_ratio is None else f" within {max_latency_ratio:g} times the latency"
        rule = f"no placement{within} is better with a probability of {100 * REQUIRED:.0f} %"
        chosen = bare if bare in pool else best
        bet = best if best is not bare else judge.likeliest(max_latency_ratio)
        return judge.recommendation(chosen, rule, best_bet=bet if bet is not chosen else None, promising=best)
    gain = gains[best.key]
    counts = max(OF_GAIN * max(gain.mean, 0.0) if gain else 0.0, OF_NOISE * (evidence.noise.paired_sd or 0.0))
    able = [c for c in pool if c.key in likely]
    chosen = _fastest(evidence, best, able, counts) or best
    rule = f"the fastest {among} that loses less than what counts against the best bet"
    if chosen is best:
        rule = f"the largest likely gain over the bare backbone {among}"
    faster = [c for c in able if c.latency and chosen.latency and c.latency.high < chosen.latency.low]
    cheaper = _fastest(evidence, best, faster, 2 * counts) or max(faster, key=lambda c: worth[c.key], default=None)
    return judge.recommendation(chosen, rule, dearer=best, cheaper=cheaper, worth=counts)


def expected_loss(evidence: Evidence, best: Contender, other: Contender) -> float:
    """What is lost on average by taking another instead of the best one, where the best one is better."""
    gain = None if best is other else evidence.gain(best.key, other.key)
    if gain is None or gain.sd == 0:
        return max(gain.mean, 0.0) if gain else 0.0
    z = gain.mean / gain.sd
    return gain.mean * float(cdf(z)) + gain.sd * math.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)


def _fastest(evidence: Evidence, best: Contender, able: Sequence[Contender], counts: float) -> Contender | None:
    """The fastest whose expected loss is below what counts; None without one, or where the best one's latency is unknown."""
    level = [(c.latency.ratio, c) for c in able if c.latency is not None and expected_loss(evidence, best, c) < counts]
    return min(level, key=lambda found: found[0])[1] if level and best.latency is not None else None


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


class _Judge:
    """Compares the chosen contender with the others, and puts the answer together."""

    def __init__(self, contenders: Sequence[Contender], evidence: Evidence, own_backbone: bool, trained: str) -> None:
        self.contenders, self.evidence, self.own_backbone, self.trained = contenders, evidence, own_backbone, trained
        self.bare = next((c for c in contenders if c.baseline == "none"), None)
        uniform = [c for c in contenders if c.baseline not in (None, "none")]
        self.uniform = max(uniform, key=self.quality, default=None)

    def quality(self, contender: Contender) -> float:
        """The estimate, turned so that more is better."""
        return (-1.0 if self.evidence.lower_is_better else 1.0) * contender.estimate.mean

    def likeliest(self, max_latency_ratio: float | None) -> Contender | None:
        """The placement that is most likely better than the bare backbone, on the front or not; None without one."""
        limit, odds = max_latency_ratio or math.inf, {}
        for c in self.contenders:
            gain = self.evidence.gain(c.key, self.bare.key) if self.bare is not None and c is not self.bare else None
            if gain is not None and (c.latency.ratio if c.latency else 0.0) <= limit:
                odds[c.key] = gain.probability
        return max((c for c in self.contenders if c.key in odds), key=lambda c: odds[c.key], default=None)

    def recommendation(
        self,
        chosen: Contender,
        rule: str,
        *,
        promising: Contender | None = None,
        best_bet: Contender | None = None,
        dearer: Contender | None = None,
        cheaper: Contender | None = None,
        worth: float | None = None,
    ) -> Recommendation:
        metric, bare = self.evidence.metric, self.bare
        against_none, against_uniform = self._compare(chosen, bare), self._compare(chosen, self.uniform)
        more, less = self._compare(chosen, dearer), self._compare(chosen, cheaper)
        slower = None if chosen is bare else self._most_accurate(chosen)
        bet = None
        if best_bet is not None and (found := self._compare(best_bet, chosen)) is not None:
            bet = Comparison(best_bet.key, best_bet.name, found.gain, found.latency_ratio)
        level = [] if chosen is bare else self._level_with(chosen, (bare, dearer, cheaper))
        about = words.about(self.evidence, promising or chosen, chosen, self.own_backbone) if bare else []
        why = [
            f"{'Keep the bare backbone' if chosen is bare else f'Take `{chosen.placement}`'}: {rule}.",
            words.costs(chosen, metric, self.trained),
            *words.against(against_none, metric),
            *words.on_new_images(against_none, metric),
            *words.against(against_uniform, metric),
            *(["It is the best uniform baseline: it needed no search."] if chosen is self.uniform else []),
            *words.counted(worth, metric),
            *words.level_with(level, metric),
            *about,
            words.noise(self.evidence),
        ]
        answer = [
            words.headline(chosen, bare, metric),
            *words.gain_line(against_none, metric, self.trained),
            *words.best_bet_line(bet, best_bet, metric),
            *words.other_line("Dearer", slower, self._compare(chosen, slower), metric),
            *words.other_line("Cheaper", cheaper, less, metric),
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
            worth=worth,
            best_bet=bet,
            more_accurate=more,
            cheaper=less,
            level_with=tuple(contender.key for contender in level),
            answer=tuple(answer),
            why=tuple(why),
        )

    def _compare(self, one: Contender, other: Contender | None) -> Comparison | None:
        if other is None or other is one:
            return None
        ratio = one.latency.ratio / other.latency.ratio if one.latency and other.latency else None
        return Comparison(other.key, other.name, self.evidence.gain(one.key, other.key), ratio)

    def _most_accurate(self, chosen: Contender) -> Contender | None:
        """The one with the largest gain of those on the front that are slower; None where none gains anything."""
        ratio = chosen.latency.ratio if chosen.latency else math.inf
        slower = [c for c in self.contenders if c.on_front and c.latency is not None and c.latency.ratio > ratio]
        best = max(slower, key=self.quality, default=None)
        return best if best is not None and self.quality(best) > self.quality(chosen) else None

    def _level_with(self, chosen: Contender, named: Sequence[Contender | None]) -> list[Contender]:
        """Others of the front that are not surely worse, of which no sentence of their own speaks."""
        others = [c for c in self.contenders if c.on_front and c is not chosen and c not in named]
        gains = [(gain.probability if (gain := self.evidence.gain(chosen.key, c.key)) else 0.0, c) for c in others]
        return [c for p, c in sorted(gains, key=lambda found: found[0]) if p < TOLD_APART]
