"""Which placement to take, and how sure that is. From search-time estimates: a suggestion, not a claim.

The rule. Candidates are those scored at the last rung, baselines included: of the front, or with a latency limit in the
recipe, those whose estimated ratio is within the limit. Once there is one with attention that has run twice, nobody is
recommended on a single run.
1. The largest gain over no attention, weighted with the probability that there is one. A tie is no gain.
2. Whatever is not better than no attention with at least 70 % gives way to no attention: attention costs latency, and
   the best-looking of many is partly lucky.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nas_attn.analysis.evidence import Estimate, Evidence, Gain
from nas_attn.records import Latency
from nas_attn.tasks import SHARES

WORTH_IT = 0.70
"""Probability of being better from which a slower candidate is worth its latency."""
TOLD_APART = 0.95
"""Probability of being better from which the recommended one is not said to be level with another."""
NAMED = 3
"""Placements that are written out in a sentence; the others are counted."""


@dataclass(frozen=True, slots=True)
class Contender:
    """What the rule needs to know about a candidate scored at the last rung."""

    key: str
    placement: str
    baseline: str | None
    estimate: Estimate
    latency: Latency | None
    on_front: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """The recommended placement held against another."""

    key: str
    name: str
    """The other's name: `none`, `uniform se(reduction=16)`, or its placement."""
    gain: float | None
    """Posterior mean of how much better the placement is, in the metric's units; None while the noise is unknown."""
    low: float | None
    """95 % interval of that, on these validation images."""
    high: float | None
    probability: float | None
    """That it is better at all, at this training budget. A tie is not better."""
    worse: float | None
    """Probability that it is worse; the rest is a tie."""
    new_low: float | None
    """95 % interval of the gain on new images of the same kind; None without results per image, and"""
    new_high: float | None
    new_probability: float | None
    """the probability of being better there."""
    latency_ratio: float | None
    """The placement's latency over the other's."""


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
    """None where it is itself no attention, or that has not been scored."""
    against_uniform: Comparison | None
    """Against the best uniform baseline, by posterior mean; None where it is that one, or none has been scored."""
    cheaper: Comparison | None
    """The recommendation against the fastest of the front that it does not beat with 70 %, but that itself so beats no
    attention; None where there is none, or latency is not known."""
    level_with: tuple[str, ...]
    """Keys of others on the front that it is not better than with 95 %, the most level first; empty for no attention."""
    sentences: tuple[str, ...]
    """The same in plain words."""


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
        rule = f"the largest gain over no attention {among}, weighted with the probability that there is a gain"
    else:
        chosen = max(pool, key=quality, default=None)
        rule = f"the best estimated {evidence.metric} {among} (no attention has not been scored)"
    if chosen is None:
        return None
    promising = chosen
    if bare is not None and bare in pool and (chosen is bare or _odds(evidence, chosen, bare) < WORTH_IT):
        within = "" if max_latency_ratio is None else f" within {max_latency_ratio:g} times the latency"
        chosen, rule = bare, f"no placement{within} is better with a probability of {100 * WORTH_IT:.0f} %"
    cheaper = _cheaper(contenders, chosen, bare, evidence)
    about = _about(evidence, promising, chosen, own_backbone)
    return _recommendation(contenders, chosen, bare, uniform, cheaper, evidence, rule, about, trained)


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
        if c.on_front and c.latency is not None and c.latency.ratio < chosen.latency.ratio
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


def _recommendation(
    contenders: Sequence[Contender],
    chosen: Contender,
    bare: Contender | None,
    uniform: Contender | None,
    cheaper: Contender | None,
    evidence: Evidence,
    rule: str,
    about: Sequence[str],
    trained: str,
) -> Recommendation:
    against_none = _compare(evidence, chosen, bare)
    against_uniform = _compare(evidence, chosen, uniform)
    against_cheaper = _compare(evidence, chosen, cheaper)
    level = [] if chosen is bare else _level_with(contenders, chosen, (bare, cheaper), evidence)
    sentences = [
        f"{'Leave the backbone without attention' if chosen is bare else f'Take `{chosen.placement}`'}: {rule}.",
        _costs(chosen, evidence.metric, trained),
        *_said(against_none, evidence.metric),
        *_said_new(against_none, evidence.metric),
        *_said(against_uniform, evidence.metric),
        *(["It is itself the best uniform baseline: nobody had to search for it."] if chosen is uniform else []),
        *([_said_cheaper(cheaper, against_cheaper)] if cheaper and against_cheaper else []),
        *_said_level(level, evidence.metric),
        *about,
        _noise(evidence),
    ]
    return Recommendation(
        key=chosen.key,
        placement=chosen.placement,
        metric=evidence.metric,
        estimate=chosen.estimate,
        latency=chosen.latency,
        rule=rule,
        against_none=against_none,
        against_uniform=against_uniform,
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


# ------------------------------------------------------------------------------------------- in plain words


def format_metric(metric: str, value: float) -> str:
    """`72.40 %` for an accuracy (of an interval that reaches beyond, 100.00 %), four digits for the rest."""
    return f"{100 * min(max(value, 0.0), 1.0):.2f} %" if metric in SHARES else f"{value:.4g}"


def format_difference(metric: str, value: float, *, signed: bool = True) -> str:
    """`+0.50 points` for an accuracy, `+0.012 in loss` for the rest."""
    sign = "+" if signed else ""
    if metric in SHARES:
        return f"{100 * value:{sign}.2f} points{'' if metric == 'accuracy' else f' of {metric}'}"
    return f"{value:{sign}.3g} in {metric}"


def format_probability(probability: float) -> str:
    """`93 %`; never 0 or 100."""
    if probability > 0.99:
        return "over 99 %"
    return "under 1 %" if probability < 0.01 else f"{100 * probability:.0f} %"


def sureness(better: float, worse: float) -> str:
    """The probabilities of being better and of being worse, in a word or two."""
    if better < worse:
        return sureness(worse, better).replace("better", "worse")
    steps = ((0.95, "almost surely better"), (0.8, "probably better"), (0.6, "better, more likely than not"))
    return next((words for least, words in steps if better >= least), "no difference to be seen")


def _costs(chosen: Contender, metric: str, trained: str) -> str:
    low, high = chosen.estimate.interval
    seeds = f"{chosen.estimate.seeds} run{'s' if chosen.estimate.seeds != 1 else ''}"
    between = f"{format_metric(metric, low)} to {format_metric(metric, high)}"
    its = f"{trained[:1].upper()}{trained[1:]}, its" if trained else "Its"
    text = f"{its} {metric} is estimated at {format_metric(metric, chosen.estimate.mean)} ({between}, {seeds})"
    if chosen.latency is None or chosen.baseline == "none":
        return f"{text}."
    latency = chosen.latency
    how = "" if latency.measured else ", predicted, not measured"
    between = f"{latency.low:.3f} to {latency.high:.3f}{how}"
    return f"{text}, its latency at {latency.ratio:.3f} times the backbone's ({between})."


def _said(comparison: Comparison | None, metric: str) -> list[str]:
    if comparison is None:
        return []
    name = "no attention" if comparison.name == "none" else f"the best uniform baseline ({comparison.name})"
    if comparison.gain is None or comparison.probability is None or comparison.worse is None:
        return [f"Whether it beats {name} cannot be said: nothing is known about the noise yet."]
    cost = "" if comparison.latency_ratio is None else f", at {comparison.latency_ratio:.2f} times its latency"
    return [
        f"Against {name}: {sureness(comparison.probability, comparison.worse)} (probability of being better "
        f"{format_probability(comparison.probability)}; estimated difference {format_difference(metric, comparison.gain)}, "
        f"{_range(metric, comparison.low, comparison.high)}){cost}."
    ]


def _range(metric: str, low: float | None, high: float | None) -> str:
    assert low is not None
    assert high is not None
    scale, digits = (100, ".2f") if metric in SHARES else (1, ".3g")
    return f"{scale * low:+{digits}} to {scale * high:+{digits}}"


def _said_new(comparison: Comparison | None, metric: str) -> list[str]:
    if comparison is None or comparison.new_probability is None:
        return []
    return [
        "That holds for these validation images; on new ones of the same kind it is better than no attention with a "
        f"probability of {format_probability(comparison.new_probability)} "
        f"({_range(metric, comparison.new_low, comparison.new_high)})."
    ]


def _said_level(level: Sequence[Contender], metric: str) -> list[str]:
    if not level:
        return []
    names = ", ".join(f"`{c.placement}`" for c in level[:NAMED])
    more = f" and {len(level) - NAMED} more" if len(level) > NAMED else ""
    return [f"Not surely better in {metric} than others of the front: {names}{more}."]


def _said_cheaper(cheaper: Contender, comparison: Comparison) -> str:
    assert cheaper.latency is not None  # else it would not have been found cheaper
    assert comparison.probability is not None
    return (
        f"For less latency: `{cheaper.placement}` at {cheaper.latency.ratio:.3f} times the backbone's; that it is worse "
        f"than the recommended one has a probability of {format_probability(comparison.probability)} only."
    )


def _about(evidence: Evidence, promising: Contender, chosen: Contender, own_backbone: bool) -> list[str]:
    """What was promising and not enough, what could not have been seen, and what backbones the answer holds for."""
    found = []
    gain = evidence.gain(promising.key, chosen.key)
    if promising is not chosen and gain is not None:
        found += [_said_promising(promising, gain), _unseen(evidence, promising, chosen)]
    if evidence.backbones > 1:
        found.append(
            f"Differences are what is to be expected on another backbone: {evidence.backbones} were tried, and a placement's "
            "gain on one of them is not the gain on the next."
        )
    elif own_backbone:
        found.append("Differences hold for this one trained backbone; on another one they may be others.")
    return found


def _said_promising(promising: Contender, gain: Gain) -> str:
    return (
        f"The most promising placement, `{promising.placement}`, is better with a probability of "
        f"{format_probability(gain.probability)} only."
    )


def _unseen(evidence: Evidence, promising: Contender, bare: Contender) -> str:
    pairs = max(evidence.pairs(promising.key, bare.key), 1)
    size = evidence.detectable(pairs)
    one = "run" if pairs == 1 else "runs"
    return (
        f"This budget, {pairs} {one} of each with the same seed, cannot show a difference below "
        f"±{format_difference(evidence.metric, size, signed=False)}; {4 * pairs} runs of each would show half of that."
    )


def _noise(evidence: Evidence) -> str:
    noise, metric = evidence.noise, evidence.metric
    if noise.seed_sd is None or noise.paired_sd is None:
        return "One candidate scored once says nothing about the noise."

    def size(sd: float) -> str:
        return f"{100 * sd:.2f} points" if metric in SHARES else f"{sd:.3g}"

    source = {
        "seeds": f"measured on {noise.repeated} candidates that ran more than once",
        "images": "from the finite validation set and how the scores of one seed spread; no candidate has run twice yet",
        "assumed": "from how the scores of one seed spread; no candidate has run twice yet",
        "none": "",
    }[noise.source]
    return (
        f"One run's {metric} is uncertain by {size(noise.seed_sd)}, the difference of two with the same seed by "
        f"{size(2**0.5 * noise.paired_sd)} ({source}). All this is estimated, not tested."
    )
