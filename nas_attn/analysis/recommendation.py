"""Recommends a placement and says how sure that is. It uses estimates from the search: a
suggestion, not a claim.

The rule. Candidates are those scored at the last rung, baselines included: the front, or with a
latency limit in the recipe, those whose estimated ratio is within the limit. If one of them with
attention has run twice, candidates with a single run are left out, except the bare backbone.
1. The best bet is the placement with the largest gain over the bare backbone, weighted with the
  probability of a gain.
2. If the probability that it is better than the bare backbone is below 70 %, the bare backbone is
  recommended. If it is more likely
   to harm than to help, the bare backbone is also the best bet.
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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from nas_attn.analysis import units
from nas_attn.errors import several
from nas_attn.model import Estimate, Evidence, Gain
from nas_attn.model.variances import cdf
from nas_attn.records import Latency, Placement
from nas_attn.space import other_of

REQUIRED = 0.70  # probability of being better than the bare backbone that a placement needs
PROMISING = 0.5  # probability of being better that a best bet needs
SURE = 0.95  # least probability of a difference that is not called chance
OF_GAIN, OF_NOISE = (
    0.1,
    0.1,
)  # smallest difference that counts: shares of the best gain and of one run's noise
WHAT_COUNTS = "a tenth of the best gain or of one run's noise"
ALIKE = 1.05  # a control with at most so many times a placement's latency costs the same


@dataclass(frozen=True, slots=True)
class Contender:
    """The facts about a candidate scored at the last rung that the rule needs."""

    key: str
    placement: Placement
    baseline: str | None
    estimate: Estimate
    latency: Latency | None
    on_front: bool
    costs: tuple[float, ...] = ()  # its other costs that are objectives, in the recipe's order

    @property
    def name(self) -> str:
        """`none`, `uniform se(reduction=16)`, or its placement."""
        return self.baseline or str(self.placement)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The recommended placement compared with another, of this key and name."""

    key: str
    name: str
    gain: Gain | None  # of the recommended one over the other; None while the noise is unknown
    latency_ratio: float | None  # latency of the recommended one, divided by the other's


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The recommended placement, with the reasons."""

    key: str
    placement: Placement
    metric: str
    estimate: Estimate
    latency: Latency | None
    rule: str  # how it was chosen, as a clause
    against_none: Comparison | None  # None: it is the bare backbone, or that has not been scored
    against_uniform: (
        Comparison | None
    )  # against the best uniform baseline; None: it is that one, or none was scored
    worth: (
        float | None
    )  # the smallest difference that counts, in the metric's unit; None: nothing is likely to help
    best_bet: (
        Comparison | None
    )  # the placement most likely to help, if the bare backbone is recommended
    more_accurate: (
        Comparison | None
    )  # against the one with the largest likely gain, if slower; None: it is that one
    cheaper: Comparison | None
    """Against the fastest one that loses less than twice the difference that counts, else the most
    promising of the faster ones that are likely to help; None without one.
    """
    answer: tuple[
        str, ...
    ]  # the answer in at most six lines; the first is a sentence, the others are `Label  text`
    why: tuple[str, ...]  # the reasons, in sentences
    capacity: Comparison | None = None
    """Against the best control, of those in reach if there are any; None if no control was
    scored.
    """
    in_reach: bool = False
    """Whether the answer could take this control: it is within the limit, or without one, not
    slower than attention.
    """
    instead: str | None = (
        None  # key of the control that the answer takes, since no placement helps as much
    )

    @property
    def taken(self) -> str:
        """Key of the network that the answer takes: the recommended placement, or a control
        instead.
        """
        return self.instead or self.key


def recommend(
    contenders: Sequence[Contender],
    evidence: Evidence,
    *,
    max_latency_ratio: float | None,
    own_backbone: bool = False,
    trained: str = "",
    worth: float | None = None,
) -> Recommendation | None:
    """The rule above, with the evidence at the last rung; None if nothing has been scored there
    (within the limit).

    `own_backbone`: runs start from a trained backbone; the answer holds for it, or, if there are
        several, for the next one.
    `trained`: how the runs were trained, `after 2 epochs from this study's backbones`. `worth`: the
        smallest gain worth having.
    """
    judge = _Judge(contenders, evidence, own_backbone, trained)
    pool, among = _pool(contenders, max_latency_ratio, judge.quality)
    bare = judge.bare
    if not pool:
        return None
    if bare is None:
        rule = (
            f"the best estimated {evidence.metric} {among} (the bare backbone has not been scored)"
        )
        return judge.recommendation(max(pool, key=judge.quality), rule)
    gains = {c.key: evidence.gain(c.key, bare.key) for c in pool}
    promise = {key: gain.worth if gain else 0.0 for key, gain in gains.items()}
    likely = {
        key for key, gain in gains.items() if gain is not None and gain.probability >= REQUIRED
    } - {bare.key}
    best = max(pool, key=lambda c: (promise[c.key], c is not bare))
    if best.key not in likely:
        within = (
            "" if max_latency_ratio is None else f" within {max_latency_ratio:g} times the latency"
        )
        rule = f"no placement{within} is better with a probability of {100 * REQUIRED:.0f} %"
        chosen = bare if bare in pool else best
        slower = [c.latency.ratio for c in contenders if c is not bare and c.latency is not None]
        if max_latency_ratio is not None and pool == [bare] and slower:
            rule = (
                f"no scored placement is{within}: the fastest takes {min(slower):.2f} times as long"
            )
            return judge.recommendation(bare, rule, alone=True)
        bet = best if best is not bare else judge.likeliest(max_latency_ratio)
        return judge.recommendation(
            chosen, rule, best_bet=bet if bet is not chosen else None, promising=best
        )
    gain = gains[best.key]
    usual = max(
        OF_GAIN * max(gain.mean, 0.0) if gain else 0.0, OF_NOISE * (evidence.noise.paired_sd or 0.0)
    )
    counts = usual if worth is None else worth
    what = f"below {units.size(evidence.metric, counts)}" + ("" if worth else f" ({WHAT_COUNTS})")
    judge.what_counts = f"Differences {what} do not count."
    if expected_loss(evidence, best, bare) < counts and bare in pool:
        rule = f"the gain of the best bet is too small to count, {what}"
        return judge.recommendation(bare, rule, best_bet=best, worth=counts)
    able = [c for c in pool if c.key in likely]
    chosen = _fastest(evidence, best, able, counts) or best
    rule = f"the fastest {among} that gives up too little against the best bet to count"
    if chosen is best:
        rule = f"the largest likely gain over the bare backbone {among}"
    faster = [
        c for c in able if c.latency and chosen.latency and _faster(c.latency, chosen.latency)
    ]
    cheaper = _fastest(evidence, best, faster, 2 * counts) or max(
        faster, key=lambda c: promise[c.key], default=None
    )
    return judge.recommendation(chosen, rule, dearer=best, cheaper=cheaper, worth=counts)


def given_up(evidence: Evidence, best: Contender, other: Contender) -> float:
    """The difference of the estimates of the best one and another; infinite if nothing is known of
    it.
    """
    if best is other:
        return 0.0
    gain = evidence.gain(best.key, other.key)
    return math.inf if gain is None else gain.mean


def expected_loss(evidence: Evidence, best: Contender, other: Contender) -> float:
    """The mean loss from taking `other` instead of the best one, over the cases in which the best
    one is better.
    """
    gain = None if best is other else evidence.gain(best.key, other.key)
    if gain is None or gain.sd == 0:
        return max(gain.mean, 0.0) if gain else 0.0
    z = gain.mean / gain.sd
    return gain.mean * float(cdf(z)) + gain.sd * math.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)


def with_capacity(
    found: Recommendation | None,
    contenders: Sequence[Contender],
    controls: Sequence[Contender],
    evidence: Evidence,
    gains: Mapping[str, Gain] | None = None,
    *,
    max_latency_ratio: float | None = None,
    worth: float | None = None,
) -> Recommendation | None:
    """Is it attention, or just more network? Adds a line to the recommendation with the gain of the
    best control.

    `gains`: key of a control -> its gain over the bare backbone; of others, that of `evidence`
        counts.
    """
    bare = next((c for c in contenders if c.baseline == "none"), None)
    chosen = next((c for c in contenders if found is not None and c.key == found.key), None)
    if found is None or bare is None or chosen is None:
        return found
    alike = math.inf if chosen is bare or chosen.latency is None else ALIKE * chosen.latency.ratio
    limit = alike if max_latency_ratio is None else max_latency_ratio
    affordable = [c for c in controls if c.latency is None or c.latency.ratio <= limit]
    known = {c.key: (gains or {}).get(c.key) or evidence.gain(c.key, bare.key) for c in controls}
    gained = [
        (gain.mean, c, gain) for c in affordable or controls if (gain := known[c.key]) is not None
    ]
    if not gained:
        return found
    _, control, gain = max(gained, key=lambda one: one[0])
    against = _compared(evidence, chosen, control)
    if against.gain is None:  # it is not in the model of the placements
        against = replace(against, gain=_lead(evidence.gain(chosen.key, bare.key), gain))
    dearer = not affordable or (control.latency is not None and control.latency.ratio > alike)
    said = _on_controls(gain, None if chosen is bare else against.gain, dearer=dearer)
    at = "" if control.latency is None else f" at {control.latency.ratio:.2f} ×"
    name = (
        str(control.placement)
        if control.baseline is None
        else f"{control.baseline.rpartition(' ')[2]} everywhere"
    )
    other = other_of(control.placement)
    size = units.plus_minus(found.metric, gain.mean, (gain.high - gain.low) / 2)
    first, *rest = found.answer
    taken = f"Take {other or name} rather than attention (line Capacity)"
    counts = gain.probability >= REQUIRED and gain.mean >= (worth or 0.0)
    better = (
        against.gain is not None
        and against.gain.worse >= REQUIRED
        and -against.gain.mean >= (found.worth or 0.0)
    )
    in_reach = bool(affordable) and (chosen is not bare or max_latency_ratio is not None)
    instead = in_reach and (counts if chosen is bare else better)
    if instead and chosen is bare:
        first = f"{taken}. If your network must stay, keep{first.removeprefix('Keep')}"
    elif instead:
        first = f"{taken}. Of the placements, the best is {first.removeprefix('Take ')}"
    line = f"Capacity  {f'{other} instead' if other else name}: {size}{at}. {said}"
    found = replace(found, capacity=against, in_reach=in_reach, answer=(first, *rest, line))
    why = f"{taken}: it is likely to gain more. What follows is about placements."
    return replace(found, instead=control.key, why=(why, *found.why)) if instead else found


def _lead(one: Gain | None, other: Gain) -> Gain | None:
    """How much better one network is than another, from what each gains over a third, as if these
    were independent.
    """
    if one is None:
        return None
    mean, sd = (
        one.mean - other.mean,
        math.hypot(one.high - one.low, other.high - other.low) / (2 * 1.96),
    )
    better = float(cdf(mean / max(sd, 1e-300)))
    return Gain(mean, sd, mean - 1.96 * sd, mean + 1.96 * sd, better, 1 - better)


def _on_controls(gain: Gain, lead: Gain | None, *, dearer: bool) -> str:
    """Explains a control's gain over the bare backbone. `lead`: of attention over the control;
    None: the bare one is recommended.
    """
    if lead is None:
        if gain.probability < REQUIRED:
            return "A larger network is not shown to help either."
        above, odds = ", above the limit" if dearer else "", units.probability(gain.probability)
        return (
            f"A larger network {_helps(gain.probability)} here{above} ({odds}); attention is not"
            " shown to help."
        )
    if lead.worse >= REQUIRED:
        slower = ", at more latency" if dearer else ""
        return (
            f"This {_helps(lead.worse)} more than attention{slower}"
            f" ({units.probability(lead.worse)})."
        )
    odds = units.probability(lead.probability)
    if lead.probability < REQUIRED:
        return (
            f"This may help as much as attention{', at more latency' if dearer else ''} (attention"
            f" better: {odds})."
        )
    verb = "buys" if lead.probability >= SURE else "probably buys"
    return f"Attention {verb} more{', at less latency' if dearer else ''} ({odds})."


def _helps(probability: float) -> str:
    return "helps" if probability >= SURE else "probably helps"


def _faster(one: Latency, other: Latency) -> bool:
    """Whether `one` is faster with 95 % certainty."""
    half = math.hypot(one.high - one.low, other.high - other.low) / 2
    return other.ratio - one.ratio > 1.64 / 1.96 * half


def _surely_cheaper(one: Contender, other: Contender) -> bool:
    """Whether `one` is faster with 95 % certainty, or has less of another cost."""
    faster = one.latency and other.latency and _faster(one.latency, other.latency)
    return bool(faster) or any(a < b for a, b in zip(one.costs, other.costs, strict=False))


def _fastest(
    evidence: Evidence, best: Contender, able: Sequence[Contender], counts: float
) -> Contender | None:
    """The fastest whose estimate is less than `counts` below the best one's; None without one, or
    if the best one's latency is unknown.
    """
    level = [
        (c.latency.ratio, c)
        for c in able
        if c.latency is not None and given_up(evidence, best, c) < counts
    ]
    return min(level, key=lambda found: found[0])[1] if level and best.latency is not None else None


def _pool(
    contenders: Sequence[Contender],
    max_latency_ratio: float | None,
    quality: Callable[[Contender], float],
) -> tuple[list[Contender], str]:
    if max_latency_ratio is None:
        pool, among = [c for c in contenders if c.on_front], "on the front"
        bare = next((c for c in contenders if c.baseline == "none"), None)
        if bare is not None and not any(
            quality(c) >= quality(bare) and _surely_cheaper(c, bare) for c in pool
        ):
            pool = list(dict.fromkeys([*pool, bare]))
    else:
        pool = [
            c for c in contenders if c.latency is not None and c.latency.ratio <= max_latency_ratio
        ]
        among = f"at no more than {max_latency_ratio:g} times the backbone's latency"
    if any(c.estimate.seeds > 1 and c.baseline != "none" for c in pool):
        pool = [c for c in pool if c.estimate.seeds > 1 or c.baseline == "none"]
    return pool, among


def _compared(evidence: Evidence, one: Contender, other: Contender) -> Comparison:
    ratio = one.latency.ratio / other.latency.ratio if one.latency and other.latency else None
    return Comparison(other.key, other.name, evidence.gain(one.key, other.key), ratio)


class _Judge:
    """Compares the chosen contender with the others, and writes the answer."""

    def __init__(
        self, contenders: Sequence[Contender], evidence: Evidence, own_backbone: bool, trained: str
    ) -> None:
        self.contenders, self.evidence, self.own_backbone, self.trained = (
            contenders,
            evidence,
            own_backbone,
            trained,
        )
        self.metric, self.what_counts = evidence.metric, ""
        self.bare = next((c for c in contenders if c.baseline == "none"), None)
        uniform = [c for c in contenders if c.baseline not in (None, "none")]
        self.uniform = max(uniform, key=self.quality, default=None)

    def quality(self, contender: Contender) -> float:
        return (-1.0 if self.evidence.lower_is_better else 1.0) * contender.estimate.mean

    def likeliest(self, max_latency_ratio: float | None) -> Contender | None:
        """The placement that is most likely better than the bare backbone, on the front or not;
        None without one.
        """
        limit, odds = max_latency_ratio or math.inf, {}
        for c in self.contenders:
            gain = (
                self.evidence.gain(c.key, self.bare.key)
                if self.bare is not None and c is not self.bare
                else None
            )
            if gain is not None and (c.latency.ratio if c.latency else 0.0) <= limit:
                odds[c.key] = gain.probability
        return max(
            (c for c in self.contenders if c.key in odds), key=lambda c: odds[c.key], default=None
        )

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
        alone: bool = False,
    ) -> Recommendation:
        metric, bare = self.metric, self.bare
        against_none, against_uniform = (
            self._compare(chosen, bare),
            self._compare(chosen, self.uniform),
        )
        slower = None if chosen is bare else self._most_accurate(chosen)
        bet = None if best_bet is None else self._compare(best_bet, chosen)
        bet = bet and replace(bet, key=best_bet.key, name=best_bet.name) if best_bet else None
        why = [
            (
                f"{'Keep the bare backbone' if chosen is bare else f'Take `{chosen.placement}`'}:"
                f" {rule}."
            ),
            self._costs(chosen),
            *_against(against_none, metric),
            *_against(against_uniform, metric),
            *(
                ["It is the best uniform baseline: it needed no search."]
                if chosen is self.uniform
                else []
            ),
            *filter(None, [self.what_counts]),
            *(self._about(promising or chosen, chosen) if bare else []),
            self._noise(),
        ]
        answer = [self._headline(chosen), *self._gain_line(against_none)]
        if chosen is not bare:
            answer += self._other_line("Slower", chosen, slower)
            answer += self._other_line("Faster", chosen, cheaper)
        elif best_bet is not None and bet is not None and bet.gain is not None:
            answer.append(self._bet_line(best_bet, bet.gain, worth))
        elif alone:
            answer.append(f"Limit     {rule}")
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
            more_accurate=self._compare(chosen, dearer),
            cheaper=self._compare(chosen, cheaper),
            answer=tuple(answer),
            why=tuple(why),
        )

    def _compare(self, one: Contender, other: Contender | None) -> Comparison | None:
        return None if other is None or other is one else _compared(self.evidence, one, other)

    def _most_accurate(self, chosen: Contender) -> Contender | None:
        """Of those on the front that are certainly slower, the one with the largest gain; None if
        none gains.
        """
        at = chosen.latency
        slower = [
            c
            for c in self.contenders
            if c.on_front and at is not None and c.latency and _faster(at, c.latency)
        ]
        best = max(slower, key=self.quality, default=None)
        return best if best is not None and self.quality(best) > self.quality(chosen) else None

    def _headline(self, chosen: Contender) -> str:
        value = units.value(self.metric, chosen.estimate.mean)
        at = "" if chosen.latency is None else f" at {chosen.latency.ratio:.2f} × latency"
        if chosen is self.bare:
            return f"Keep the bare backbone: {value}{at}."
        bare = (
            ""
            if self.bare is None
            else f" (bare backbone: {units.value(self.metric, self.bare.estimate.mean)})"
        )
        return f"Take {chosen.placement}: {value}{at}{bare}."

    def _bet_line(self, bet: Contender, gain: Gain, worth: float | None) -> str:
        """The most promising placement, with its odds and its price, or that there is none."""
        odds = units.probability(gain.probability)
        if not promising(gain):
            return (
                f"Best bet  the bare backbone: no placement is likely to help ({bet.name}: {odds})"
            )
        at = "" if bet.latency is None else f", at {bet.latency.ratio:.2f} ×"
        small = (
            "" if worth is None else f"; less than {units.size(self.metric, worth)} does not count"
        )
        return f"Best bet  {bet.name}: {_gain(gain, self.metric)}{at}{small}"

    def _gain_line(self, comparison: Comparison | None) -> list[str]:
        if comparison is None:
            return []
        how = f"estimated {self.trained}, not tested" if self.trained else "estimated, not tested"
        if comparison.gain is None:
            return [f"Gain      unknown: the noise has not been measured yet; {how}"]
        return [f"Gain      {_gain(comparison.gain, self.metric)}; {how}"]

    def _other_line(self, title: str, chosen: Contender, other: Contender | None) -> list[str]:
        """A line about a slower or faster one: its gain or loss, and its latency."""
        comparison = self._compare(chosen, other)
        if other is None or comparison is None or comparison.gain is None or other.latency is None:
            return []
        gain, at = comparison.gain, f"at {other.latency.ratio:.2f} ×"
        chance = ", may be chance" if max(gain.probability, gain.worse) < SURE else ""
        return [
            f"{title:<10}{other.name}: {units.difference(self.metric, -gain.mean)}{chance}, {at}"
        ]

    def _costs(self, chosen: Contender) -> str:
        low, high = chosen.estimate.low, chosen.estimate.high
        seeds = several(chosen.estimate.seeds, "run")
        between = f"{units.value(self.metric, low)} to {units.value(self.metric, high)}"
        its = f"{self.trained[:1].upper()}{self.trained[1:]}, its" if self.trained else "Its"
        value = units.value(self.metric, chosen.estimate.mean)
        text = f"{its} {self.metric} is estimated at {value} ({between}, {seeds})"
        if chosen.latency is None or chosen.baseline == "none":
            return f"{text}."
        latency = chosen.latency
        between = (
            f"{latency.low:.3f} to"
            f" {latency.high:.3f}{'' if latency.measured else ', predicted, not measured'}"
        )
        return f"{text}, its latency at {latency.ratio:.3f} times the backbone's ({between})."

    def _about(self, promising: Contender, chosen: Contender) -> list[str]:
        evidence, found = self.evidence, []
        gain = evidence.gain(promising.key, chosen.key)
        if promising is not chosen and gain is not None:
            found.append(
                f"The most promising placement, `{promising.placement}`, is better with a"
                f" probability of only {units.probability(gain.probability)}."
            )
        if self.own_backbone and evidence.backbones > 1:
            found.append(
                "Differences are estimates for another backbone of the same kind;"
                f" {evidence.backbones} were tried, and a placement's gain differs between them."
            )
        elif self.own_backbone:
            found.append(
                "Differences hold for this one trained backbone; another training of it may give"
                " others."
            )
        return found

    def _noise(self) -> str:
        found, metric = self.evidence.noise, self.metric
        if found.seed_sd is None or found.paired_sd is None:
            return "The noise is unknown: one candidate with one score does not show it."
        spread = "the spread of scores within a seed; no candidate has run twice yet"
        source = measured_on(found.repeated) if found.source == "seeds" else f"from {spread}"
        if found.source == "images":
            source = f"from the size of the validation set and {spread}"
        return (
            f"One run's {metric} varies by {units.size(metric, found.seed_sd)}, the difference of"
            f" two with the same seed by {units.size(metric, 2**0.5 * found.paired_sd)} ({source})."
            " All this is estimated, not tested."
        )


def promising(gain: Gain) -> bool:
    """Whether a placement is more likely to help than not."""
    return gain.mean > 0 and gain.probability >= PROMISING


def sureness(better: float, worse: float) -> str:
    """The probabilities of being better and of being worse, in a word or two."""
    if better < worse:
        return sureness(worse, better).replace("better", "worse")
    steps = (
        (0.95, "almost surely better"),
        (0.8, "probably better"),
        (0.6, "more likely better than not"),
    )
    return next((words for least, words in steps if better >= least), "no visible difference")


def measured_on(candidates: int) -> str:
    """The source of the noise, if candidates ran with several seeds."""
    return f"measured on {several(candidates, 'candidate')} that ran more than once"


def _gain(gain: Gain, metric: str) -> str:
    between = f"{units.signed(metric, gain.low)} to {units.signed(metric, gain.high)}"
    return (
        f"{units.difference(metric, gain.mean)} ({between}), {units.probability(gain.probability)}"
        " likely to help"
    )


def _against(comparison: Comparison | None, metric: str) -> list[str]:
    if comparison is None:
        return []
    name = (
        "the bare backbone"
        if comparison.name == "none"
        else f"the best uniform baseline ({comparison.name})"
    )
    gain = comparison.gain
    if gain is None:
        return [f"Whether it beats {name} is unknown: the noise has not been measured yet."]
    cost = (
        ""
        if comparison.latency_ratio is None
        else f", at {comparison.latency_ratio:.2f} times its latency"
    )
    return [
        (
            f"Against {name}: {sureness(gain.probability, gain.worse)} (probability of being better"
            f" {units.probability(gain.probability)}, worse {units.probability(gain.worse)}, else"
            f" equal; estimated difference {units.difference(metric, gain.mean)},"
            f" {units.difference_range(metric, gain.low, gain.high)}){cost}."
        )
    ]
