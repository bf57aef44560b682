"""Recommends a placement and says how sure that is. It uses estimates from the search: a
suggestion, not a claim.

The rule. Candidates are those scored at the last rung, baselines included: the front, or with a
latency limit in the recipe, those whose estimated ratio is within the limit. If one of them with
attention has run twice, candidates with a single run are left out, except the bare backbone.
1. The best bet is the placement with the largest gain over the bare backbone, weighted with the
   probability of a gain.
2. If the probability that it is better than the bare backbone is below 70 %, the bare backbone is
   recommended. If it is more likely to harm than to help, the bare backbone is also the best bet.
3. Differences below `worth` do not count: the recipe's value, else a tenth of the best bet's gain
   or of one run's noise, whichever is larger. The bare backbone is recommended if its expected
   loss against the best bet is below this. Otherwise it is the fastest placement that is itself
   better than the bare backbone with 70 %, and whose estimate is less than this below the best
   bet's: what a faster one gives up is the difference of the estimates, however uncertain both
   are.

The bare backbone is always a candidate, unless one that is surely cheaper dominates it: a placement
that costs the same and was luckier does not push it out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nas_attn.answer.recommendation import (
    REQUIRED,
    Comparison,
    Contender,
    Reason,
    Recommendation,
    Rule,
    Worth,
)
from nas_attn.model import TESTED, Evidence, Gain
from nas_attn.model.hypotheses import cdf
from nas_attn.recipe.recipe import TrainingSection
from nas_attn.storage.records import Latency

# smallest difference that counts: shares of the best gain and of one run's noise
OF_GAIN = 0.1
OF_NOISE = 0.1


def recommend(
    contenders: Sequence[Contender],
    evidence: Evidence,
    *,
    max_latency_ratio: float | None,
    own_backbone: bool = False,
    training: TrainingSection | None = None,
    worth: float | None = None,
) -> Recommendation | None:
    """The rule above, with the evidence at the last rung; None if nothing has been scored there
    (within the limit).

    Args:
        own_backbone: runs start from a trained backbone; the answer holds for it, or, if there are
            several, for the next one.
        training: how the runs were trained.
        worth: the smallest gain worth having.
    """
    field = Field(contenders, evidence, max_latency_ratio)
    pool = field.pool()
    if not pool:
        return None
    judge = _Judge(field, pool, worth)
    return _described(judge.choice(), field, own_backbone=own_backbone, training=training)


@dataclass(frozen=True, slots=True)
class Field:
    """All contenders, with what is known of them and the limit that holds."""

    contenders: Sequence[Contender]
    evidence: Evidence
    limit: float | None

    @property
    def bare(self) -> Contender | None:
        return next((c for c in self.contenders if c.is_bare), None)

    @property
    def best_uniform(self) -> Contender | None:
        uniform = [c for c in self.contenders if c.baseline is not None and not c.is_bare]
        return max(uniform, key=self.quality, default=None)

    def quality(self, contender: Contender) -> float:
        """The estimate, higher is better."""
        sign = -1.0 if self.evidence.lower_is_better else 1.0
        return sign * contender.estimate.mean

    def gain_over_bare(self, contender: Contender) -> Gain | None:
        bare = self.bare
        if bare is None:
            return None
        return self.evidence.gain(contender.key, bare.key)

    def compared(self, one: Contender, other: Contender | None) -> Comparison | None:
        """A contender against another; None if that is the same one, or missing."""
        if other is None or other is one:
            return None
        return compared(self.evidence, one, other)

    def pool(self) -> list[Contender]:
        """Those that may be recommended."""
        pool = self._on_the_front() if self.limit is None else self._within(self.limit)
        if any(c.estimate.seeds > 1 and not c.is_bare for c in pool):
            return [c for c in pool if c.estimate.seeds > 1 or c.is_bare]
        return pool

    def _on_the_front(self) -> list[Contender]:
        pool = [c for c in self.contenders if c.on_front]
        bare = self.bare
        if bare is None:
            return pool
        dominated = any(
            self.quality(c) >= self.quality(bare) and _surely_cheaper(c, bare) for c in pool
        )
        if dominated:
            return pool
        return list(dict.fromkeys([*pool, bare]))

    def _within(self, limit: float) -> list[Contender]:
        return [c for c in self.contenders if c.latency is not None and c.latency.ratio <= limit]

    def likeliest(self) -> Contender | None:
        """The placement within the limit that is most likely better than the bare backbone, on the
        front or not; None without one.
        """
        limit = self.limit or math.inf
        odds = dict[str, float]()
        for contender in self.contenders:
            gain = None
            if not contender.is_bare:
                gain = self.gain_over_bare(contender)
            ratio = 0.0
            if contender.latency:
                ratio = contender.latency.ratio
            if gain is not None and ratio <= limit:
                odds[contender.key] = gain.probability
        judged = [c for c in self.contenders if c.key in odds]
        return max(judged, key=lambda c: odds[c.key], default=None)

    def fastest_beyond_limit(self, pool: Sequence[Contender]) -> float | None:
        """Latency ratio of the fastest placement, if the limit leaves the bare backbone alone."""
        slower = [c.latency.ratio for c in self.contenders if not c.is_bare and c.latency]
        if self.limit is None or list(pool) != [self.bare] or not slower:
            return None
        return min(slower)

    def most_accurate_slower(self, chosen: Contender) -> Contender | None:
        """Of those on the front that are certainly slower, the one with the best estimate; None if
        none is better.
        """
        at = chosen.latency
        slower = []
        for c in self.contenders:
            if c.on_front and at is not None and c.latency and faster(at, c.latency):
                slower.append(c)
        best = max(slower, key=self.quality, default=None)
        if best is not None and self.quality(best) > self.quality(chosen):
            return best
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """What the rule chose, and the contenders that its reasons name."""

    chosen: Contender
    rule: Rule
    best_bet: Contender | None = None
    promising: Contender | None = None
    dearer: Contender | None = None
    cheaper: Contender | None = None
    worth: Worth | None = None


class _Judge:
    """Applies the rule."""

    def __init__(self, field: Field, pool: Sequence[Contender], worth: float | None) -> None:
        self.field = field
        self.pool = pool
        self.worth = worth
        self.gains = {c.key: field.gain_over_bare(c) for c in pool}

    def choice(self) -> _Choice:
        bare = self.field.bare
        if bare is None:
            best = max(self.pool, key=self.field.quality)
            return _Choice(chosen=best, rule=self._rule(Reason.BEST_ESTIMATE))
        best = max(self.pool, key=lambda c: (self._promise(c), c is not bare))
        if not self._likely(best):
            return self._nothing_likely(best, bare)
        return self._of_those_that_help(best, bare)

    def _nothing_likely(self, best: Contender, bare: Contender) -> _Choice:
        fastest = self.field.fastest_beyond_limit(self.pool)
        if fastest is not None:
            return _Choice(chosen=bare, rule=self._rule(Reason.OUT_OF_REACH, fastest))
        chosen = bare if bare in self.pool else best
        bet = best if best is not bare else self.field.likeliest()
        return _Choice(
            chosen=chosen,
            rule=self._rule(Reason.NOTHING_LIKELY),
            best_bet=bet if bet is not chosen else None,
            promising=best,
        )

    def _of_those_that_help(self, best: Contender, bare: Contender) -> _Choice:
        evidence = self.field.evidence
        worth = self._worth(best)
        counts = worth.size
        if expected_loss(evidence, best, bare) < counts and bare in self.pool:
            rule = self._rule(Reason.TOO_SMALL)
            return _Choice(chosen=bare, rule=rule, best_bet=best, worth=worth)
        able = [c for c in self.pool if self._likely(c)]
        chosen = _fastest(evidence, best, able, counts) or best
        fast = [
            c for c in able if c.latency and chosen.latency and faster(c.latency, chosen.latency)
        ]
        cheaper = _fastest(evidence, best, fast, 2 * counts)
        return _Choice(
            chosen=chosen,
            rule=self._rule(Reason.LARGEST_GAIN if chosen is best else Reason.FASTEST),
            dearer=best,
            cheaper=cheaper or max(fast, key=self._promise, default=None),
            worth=worth,
        )

    def _rule(self, reason: Reason, fastest: float | None = None) -> Rule:
        return Rule(reason, self.field.limit, fastest)

    def _promise(self, contender: Contender) -> float:
        gain = self.gains[contender.key]
        if gain:
            return gain.worth
        return 0.0

    def _likely(self, contender: Contender) -> bool:
        """Whether it is likely enough to be better than the bare backbone."""
        gain = self.gains[contender.key]
        return not contender.is_bare and gain is not None and gain.probability >= REQUIRED

    def _worth(self, best: Contender) -> Worth:
        if self.worth is not None:
            return Worth(self.worth, stated=bool(self.worth))
        gain = self.gains[best.key]
        of_gain = 0.0
        if gain:
            of_gain = OF_GAIN * max(gain.mean, 0.0)
        of_noise = OF_NOISE * (self.field.evidence.noise.paired_sd or 0.0)
        return Worth(max(of_gain, of_noise), stated=False)


def _described(
    choice: _Choice, field: Field, *, own_backbone: bool, training: TrainingSection | None
) -> Recommendation:
    """The choice, compared with all that matters beside it."""
    chosen = choice.chosen
    bare = field.bare
    promising = None
    if bare is not None and choice.promising is not None:
        promising = _bet(field, choice.promising, chosen)
    uniform = field.best_uniform
    slower = None
    if chosen is not bare:
        slower = field.most_accurate_slower(chosen)
    return Recommendation(
        key=chosen.key,
        placement=chosen.placement,
        metric=field.evidence.metric,
        estimate=chosen.estimate,
        latency=chosen.latency,
        rule=choice.rule,
        is_bare=chosen is bare,
        is_best_uniform=chosen is uniform,
        bare=None if bare is None else bare.estimate,
        against_none=field.compared(chosen, bare),
        against_uniform=field.compared(chosen, uniform),
        worth=choice.worth,
        best_bet=_bet(field, choice.best_bet, chosen),
        most_promising=promising,
        more_accurate=field.compared(chosen, choice.dearer),
        slower=field.compared(chosen, slower),
        cheaper=field.compared(chosen, choice.cheaper),
        training=training,
        backbones=field.evidence.backbones if own_backbone and bare is not None else 0,
        noise=field.evidence.noise,
        tested=field.evidence.rung == TESTED,
    )


def _bet(field: Field, bet: Contender | None, chosen: Contender) -> Comparison | None:
    """A placement that may be better, against the recommended one; it gives the comparison its
    name.
    """
    if bet is None or bet is chosen:
        return None
    against = compared(field.evidence, bet, chosen)
    return Comparison(
        bet.key, bet.name, against.gain, against.latency_ratio, bet.placement, bet.latency
    )


def compared(evidence: Evidence, one: Contender, other: Contender) -> Comparison:
    """A contender against another."""
    ratio = None
    if one.latency and other.latency:
        ratio = one.latency.ratio / other.latency.ratio
    gain = evidence.gain(one.key, other.key)
    return Comparison(other.key, other.name, gain, ratio, other.placement, other.latency)


def given_up(evidence: Evidence, best: Contender, other: Contender) -> float:
    """The difference of the estimates of the best one and another; infinite if nothing is known of
    it.
    """
    if best is other:
        return 0.0
    gain = evidence.gain(best.key, other.key)
    if gain is None:
        return math.inf
    return gain.mean


def expected_loss(evidence: Evidence, best: Contender, other: Contender) -> float:
    """The mean loss from taking `other` instead of the best one, over the cases in which the best
    one is better.
    """
    gain = None
    if best is not other:
        gain = evidence.gain(best.key, other.key)
    if gain is None or gain.sd == 0:
        if gain:
            return max(gain.mean, 0.0)
        return 0.0
    z = gain.mean / gain.sd
    return gain.mean * float(cdf(z)) + gain.sd * math.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)


def faster(one: Latency, other: Latency) -> bool:
    """Whether `one` is faster with 95 % certainty."""
    half = math.hypot(one.high - one.low, other.high - other.low) / 2
    return other.ratio - one.ratio > 1.64 / 1.96 * half


def _surely_cheaper(one: Contender, other: Contender) -> bool:
    """Whether `one` is faster with 95 % certainty, or has less of another cost."""
    quicker = one.latency and other.latency and faster(one.latency, other.latency)
    return bool(quicker) or any(a < b for a, b in zip(one.costs, other.costs, strict=False))


def _fastest(
    evidence: Evidence, best: Contender, able: Sequence[Contender], counts: float
) -> Contender | None:
    """The fastest whose estimate is less than `counts` below the best one's; None without one, or
    if the best one's latency is unknown.
    """
    level = []
    for c in able:
        if c.latency is not None and given_up(evidence, best, c) < counts:
            level.append((c.latency.ratio, c))
    if level and best.latency is not None:
        return min(level, key=lambda entry: entry[0])[1]
    return None
