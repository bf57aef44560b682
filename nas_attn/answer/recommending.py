"""Recommends a placement and says how sure that is. It uses estimates from the search: a
suggestion, not a claim.

The rule. Candidates are those scored at the last rung, baselines included: the front, or with a
latency limit in the recipe, those whose estimated ratio is within the limit. If one of them with
attention has run twice, candidates with a single run are left out, except the bare backbone.
1. The best bet is the placement with the largest gain over the bare backbone, weighted with the
   probability of a gain.
2. If the probability that it is better than the bare backbone is below 70 %, from scratch below
   80 %, the bare backbone is recommended. If it is more likely to harm than to help, the bare
   backbone is also the best bet.
3. Differences below `worth` do not count: the recipe's value, else a tenth of the best bet's gain
   or of one run's noise, whichever is larger. The bare backbone is recommended if its expected
   loss against the best bet is below this. Otherwise it is the fastest placement that is itself
   likely enough to be better than the bare backbone, and whose estimate is less than this below
   the best bet's: what a faster one gives up is the difference of the estimates, however uncertain
   both are.

The bare backbone is always a candidate, unless one that is surely cheaper dominates it: a placement
that costs the same and was luckier does not push it out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from nas_attn.model import TESTED, Estimate, Evidence, Gain, Noise
from nas_attn.model.hypotheses import cdf
from nas_attn.recipe.recipe import TrainingSection
from nas_attn.space.placement import BARE, BARE_NAME, Placement
from nas_attn.storage.records import Latency

# probability of being better than the bare backbone that a placement needs
REQUIRED = 0.70
# the same from scratch: with 70 %, attention is taken in 7 % of simulated studies in which nothing
# gains (research/notes/trust.md)
REQUIRED_FROM_SCRATCH = 0.80
# probability of being better that a best bet needs
PROMISING = 0.5
# least probability of a difference that is not called chance
NO_CHANCE = 0.95


@dataclass(frozen=True, slots=True)
class Contender:
    """The facts about a candidate scored at the last rung that the rule needs."""

    key: str
    placement: Placement
    baseline: str | None
    estimate: Estimate
    latency: Latency | None
    on_front: bool
    costs: tuple[float, ...] = ()
    """Its other costs that are objectives, in the recipe's order."""

    @property
    def name(self) -> str:
        """`none`, `uniform se(reduction=16)`, or its placement."""
        return self.baseline or str(self.placement)

    @property
    def is_bare(self) -> bool:
        """Whether it is the bare backbone, with which all others are compared."""
        return self.baseline == BARE_NAME


@dataclass(frozen=True, slots=True)
class Comparison:
    """The recommended network compared with another, of this key and name."""

    key: str
    name: str
    gain: Gain | None
    """Of the recommended one over the other (of a best bet: over the recommended one); None while
    the noise is unknown.
    """
    latency_ratio: float | None
    """Latency of the network that gains, divided by the other's."""
    placement: Placement = BARE
    """The other's."""
    latency: Latency | None = None
    """The other's."""


class Reason(Enum):
    """Why a network is the recommended one."""

    BEST_ESTIMATE = auto()
    """The bare backbone has not been scored, so nothing is known of gains."""
    NOTHING_LIKELY = auto()
    """No placement is likely enough to be better than the bare backbone."""
    OUT_OF_REACH = auto()
    """No scored placement is within the latency limit."""
    TOO_SMALL = auto()
    """The gain of the best bet does not count."""
    LARGEST_GAIN = auto()
    FASTEST = auto()
    """The fastest of those that give up too little against the best bet to count."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How the recommended network was chosen."""

    reason: Reason
    limit: float | None = None
    """The recipe's limit of the latency ratio."""
    required: float = REQUIRED
    """Probability of being better than the bare backbone that a placement needs."""
    fastest: float | None = None
    """Latency ratio of the fastest placement, where it is beyond the limit."""


@dataclass(frozen=True, slots=True)
class Worth:
    """The smallest difference that counts."""

    size: float
    """In the metric's unit."""
    stated: bool
    """Whether the recipe states it; else it follows from the best gain and one run's noise."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """A control, a larger network without attention, beside the recommended network."""

    key: str
    latency: Latency | None
    gain: Gain
    """Over the bare backbone."""
    lead: Comparison
    """Of the recommended network over the control."""
    dearer: bool
    """Whether it has more latency than the answer may take."""
    in_reach: bool
    """Whether the answer could take it: it is within the limit, or without one, not slower than
    attention.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """The recommended placement, with the reasons."""

    key: str
    placement: Placement
    metric: str
    estimate: Estimate
    latency: Latency | None
    rule: Rule
    is_bare: bool
    is_best_uniform: bool
    against_none: Comparison | None
    """None: it is the bare backbone, or that has not been scored."""
    against_uniform: Comparison | None
    """Against the best uniform baseline; None: it is that one, or none was scored."""
    worth: Worth | None
    """None: nothing is likely to help."""
    best_bet: Comparison | None
    """The placement most likely to help, if the bare backbone is recommended."""
    most_promising: Comparison | None
    """The most promising placement, where it is not the recommended one and not likely enough."""
    more_accurate: Comparison | None
    """Against the one with the largest likely gain, if slower; None: it is that one."""
    slower: Comparison | None
    """Against the one on the front with the largest estimate, of those that are certainly slower;
    None without one, or for the bare backbone.
    """
    cheaper: Comparison | None
    """Against the fastest one that loses less than twice the difference that counts, else the most
    promising of the faster ones that are likely to help; None without one.
    """
    training: TrainingSection | None
    """How the runs were trained that the estimates are of; None: it is not known."""
    backbones: int
    """Own backbones that the runs started from; 0: they started from none, or nothing is known."""
    noise: Noise
    tested: bool = False
    """Whether results on test images count in it, too."""
    capacity: Capacity | None = None
    """The best control, of those in reach if there are any; None if no control was scored."""
    instead: str | None = None
    """Key of the control that the answer takes, since no placement helps as much."""

    @property
    def in_reach(self) -> bool:
        """Whether the answer could take the control."""
        return self.capacity is not None and self.capacity.in_reach

    @property
    def keeps_bare(self) -> bool:
        """Whether the answer takes no other network than the bare backbone."""
        return self.is_bare and self.instead is None

    @property
    def taken(self) -> str:
        """Key of the network that the answer takes: the recommended placement, or a control
        instead.
        """
        return self.instead or self.key


def required_from(start: str) -> float:
    """The probability of being better than the bare backbone that a placement needs, by what
    training starts from.
    """
    return REQUIRED_FROM_SCRATCH if start == "scratch" else REQUIRED


def promising(gain: Gain) -> bool:
    """Whether a placement is more likely to help than not."""
    return gain.mean > 0 and gain.probability >= PROMISING


# smallest difference that counts: shares of the best gain and of one run's noise
OF_GAIN = 0.1
OF_NOISE = 0.1


def recommend(
    contenders: Sequence[Contender],
    evidence: Evidence,
    *,
    max_latency_ratio: float | None,
    training: TrainingSection | None = None,
    worth: float | None = None,
    required: float = REQUIRED,
) -> Recommendation | None:
    """Applies the rule above with the evidence at the last rung.

    Args:
        contenders: the placements scored there, and the bare backbone.
        evidence: the model of their runs.
        max_latency_ratio: the recipe's limit, in times of the bare backbone's latency.
        training: how the runs were trained. If they start from a trained backbone, the answer holds
            for it, or, if there are several, for the next one.
        worth: the smallest gain worth having, in the metric's unit.
        required: probability of being better than the bare backbone that a placement needs.

    Returns:
        The recommendation; None if nothing has been scored there (within the limit).
    """
    field = Field(contenders, evidence, max_latency_ratio, required)
    pool = field.pool()
    if not pool:
        return None
    choice = field.choice(pool, worth)
    chosen = choice.chosen
    bare = field.bare
    uniform = field.best_uniform
    from_own = bare is not None and training is not None and training.start != "scratch"
    return Recommendation(
        key=chosen.key,
        placement=chosen.placement,
        metric=evidence.metric,
        estimate=chosen.estimate,
        latency=chosen.latency,
        rule=choice.rule,
        is_bare=chosen is bare,
        is_best_uniform=chosen is uniform,
        against_none=field.compared(chosen, bare),
        against_uniform=field.compared(chosen, uniform),
        worth=choice.worth,
        best_bet=_bet(evidence, choice.best_bet, chosen),
        most_promising=_bet(evidence, choice.promising, chosen),
        more_accurate=field.compared(chosen, choice.dearer),
        slower=None if chosen is bare else field.compared(chosen, field.slower(chosen)),
        cheaper=field.compared(chosen, choice.cheaper),
        training=training,
        backbones=evidence.backbones if from_own else 0,
        noise=evidence.noise,
        tested=evidence.rung == TESTED,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleChoice:
    """What the rule chose, and the contenders that its reasons name."""

    chosen: Contender
    rule: Rule
    best_bet: Contender | None = None
    promising: Contender | None = None
    dearer: Contender | None = None
    cheaper: Contender | None = None
    worth: Worth | None = None


@dataclass(frozen=True, slots=True)
class Field:
    """All contenders, with what is known of them and the limit that holds."""

    contenders: Sequence[Contender]
    evidence: Evidence
    limit: float | None
    required: float

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

    def gain(self, contender: Contender) -> Gain | None:
        """A placement's gain over the bare backbone; None for that one, or if it is not known."""
        if self.bare is None or contender.is_bare:
            return None
        return self.evidence.gain(contender.key, self.bare.key)

    def compared(self, one: Contender, other: Contender | None) -> Comparison | None:
        """A contender against another; None if that is the same one, or missing."""
        if other is None or other is one:
            return None
        return compared(self.evidence, one, other)

    def pool(self) -> list[Contender]:
        """Those that may be recommended."""
        limit = self.limit
        if limit is None:
            pool = self._on_the_front()
        else:
            pool = [c for c in self.contenders if c.latency and c.latency.ratio <= limit]
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

    def choice(self, pool: Sequence[Contender], worth: float | None) -> RuleChoice:
        """What the rule chooses from a pool; `worth`: as the recipe states it."""
        bare = self.bare
        if bare is None:
            best = max(pool, key=self.quality)
            return RuleChoice(chosen=best, rule=Rule(Reason.BEST_ESTIMATE, self.limit))
        best = max(pool, key=lambda c: (self._promise(c), c is not bare))
        if not self._likely(best):
            return self._nothing_likely(pool, best, bare)
        return self._of_those_that_help(pool, best, bare, self._worth(best, worth))

    def _nothing_likely(
        self, pool: Sequence[Contender], best: Contender, bare: Contender
    ) -> RuleChoice:
        slower = [c.latency.ratio for c in self.contenders if not c.is_bare and c.latency]
        if self.limit is not None and list(pool) == [bare] and slower:
            rule = Rule(Reason.OUT_OF_REACH, self.limit, fastest=min(slower))
            return RuleChoice(chosen=bare, rule=rule)
        chosen = bare if bare in pool else best
        return RuleChoice(
            chosen=chosen,
            rule=Rule(Reason.NOTHING_LIKELY, self.limit, required=self.required),
            best_bet=best if best is not bare else self._likeliest(),
            promising=best,
        )

    def _of_those_that_help(
        self, pool: Sequence[Contender], best: Contender, bare: Contender, worth: Worth
    ) -> RuleChoice:
        if expected_loss(self.evidence, best, bare) < worth.size and bare in pool:
            rule = Rule(Reason.TOO_SMALL, self.limit)
            return RuleChoice(chosen=bare, rule=rule, best_bet=best, worth=worth)
        able = [c for c in pool if self._likely(c)]
        chosen = _fastest(self.evidence, best, able, worth.size) or best
        fast = [
            c for c in able if c.latency and chosen.latency and faster(c.latency, chosen.latency)
        ]
        cheaper = _fastest(self.evidence, best, fast, 2 * worth.size)
        reason = Reason.LARGEST_GAIN if chosen is best else Reason.FASTEST
        return RuleChoice(
            chosen=chosen,
            rule=Rule(reason, self.limit),
            dearer=best,
            cheaper=cheaper or max(fast, key=self._promise, default=None),
            worth=worth,
        )

    def _promise(self, contender: Contender) -> float:
        gain = self.gain(contender)
        return gain.worth if gain else 0.0

    def _likely(self, contender: Contender) -> bool:
        """Whether it is likely enough to be better than the bare backbone."""
        gain = self.gain(contender)
        return gain is not None and gain.probability >= self.required

    def _likeliest(self) -> Contender | None:
        """The placement within the limit that is most likely better than the bare backbone, on the
        front or not; None without one.
        """
        limit = self.limit or math.inf
        odds = dict[str, float]()
        for contender in self.contenders:
            gain = self.gain(contender)
            if gain is not None and (not contender.latency or contender.latency.ratio <= limit):
                odds[contender.key] = gain.probability
        judged = [c for c in self.contenders if c.key in odds]
        return max(judged, key=lambda c: odds[c.key], default=None)

    def slower(self, chosen: Contender) -> Contender | None:
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

    def _worth(self, best: Contender, stated: float | None) -> Worth:
        if stated is not None:
            return Worth(stated, stated=bool(stated))
        gain = self.gain(best)
        of_gain = 0.0
        if gain:
            of_gain = OF_GAIN * max(gain.mean, 0.0)
        of_noise = OF_NOISE * (self.evidence.noise.paired_sd or 0.0)
        return Worth(max(of_gain, of_noise), stated=False)


def _bet(evidence: Evidence, bet: Contender | None, chosen: Contender) -> Comparison | None:
    """A placement that may be better, against the recommended one; it gives the comparison its
    name.
    """
    if bet is None or bet is chosen:
        return None
    against = compared(evidence, bet, chosen)
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
