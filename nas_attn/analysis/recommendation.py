"""Which placement to take, and how sure that is. From search-time estimates: a suggestion, not a claim.

The rule. Candidates are those scored at the last rung, baselines included.
1. With a latency limit in the recipe: the best posterior mean among those whose estimated ratio is within the limit.
2. Without: of the front, the largest gain over no attention weighted with the probability that there is a gain.
3. Whatever is not better than no attention with at least two to one gives way to no attention: attention costs latency,
   and even odds are no reason to pay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nas_attn.analysis.estimates import Estimate, NoiseModel
from nas_attn.records import Latency

WORTH_IT = 2 / 3
"""Probability of being better from which a slower candidate is worth its latency: two to one."""


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
    probability: float | None
    """That it is better at all, at this training budget."""
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
    """The recommendation against the fastest of the front that it does not beat with two to one, but that itself so
    beats no attention; None where there is none, or latency is not known."""
    sentences: tuple[str, ...]
    """The same in plain words."""


def recommend(
    contenders: Sequence[Contender], model: NoiseModel, *, lower_is_better: bool, max_latency_ratio: float | None
) -> Recommendation | None:
    """The rule above; None where nothing has been scored at the last rung (within the limit)."""
    sign = -1.0 if lower_is_better else 1.0

    def quality(contender: Contender) -> float:
        return sign * contender.estimate.mean

    bare = next((c for c in contenders if c.baseline == "none"), None)
    uniform = max((c for c in contenders if c.baseline not in (None, "none")), key=quality, default=None)
    if max_latency_ratio is not None:
        pool = [c for c in contenders if c.latency is not None and c.latency.ratio <= max_latency_ratio]
        bare = bare if bare in pool else None
        chosen = max(pool, key=quality, default=None)
        rule = f"the best estimated {model.metric} at no more than {max_latency_ratio:g} times the backbone's latency"
    elif bare is not None:
        chosen = max((c for c in contenders if c.on_front), key=lambda c: _worth(model, c, bare), default=None)
        rule = "the largest gain over no attention on the front, weighted with the probability that there is a gain"
    else:
        chosen = max((c for c in contenders if c.on_front), key=quality, default=None)
        rule = f"the best estimated {model.metric} on the front (no attention has not been scored)"
    if chosen is None:
        return None
    promising = chosen
    if bare is not None and (chosen is bare or _odds(model, chosen, bare) < WORTH_IT):
        within = "" if max_latency_ratio is None else f" within {max_latency_ratio:g} times the latency"
        chosen, rule = bare, f"no placement{within} is better with at least two to one"
    cheaper = _cheaper(contenders, chosen, bare, model)
    return _recommendation(chosen, promising, bare, uniform, cheaper, model, rule)


def _odds(model: NoiseModel, a: Contender, b: Contender) -> float:
    """Probability that `a` is better than `b`; even where nothing is known about the noise."""
    probability = model.probability(a.key, b.key)
    return 0.5 if probability is None else probability


def _worth(model: NoiseModel, contender: Contender, bare: Contender) -> float:
    gain = model.gain(contender.key, bare.key)
    return float("-inf") if gain is None else gain[0] * gain[1]


def _cheaper(
    contenders: Sequence[Contender], chosen: Contender, bare: Contender | None, model: NoiseModel
) -> Contender | None:
    """The fastest contender on the front that is faster than the chosen one and hardly worse."""
    if bare is None or chosen.latency is None:
        return None
    faster = [
        (c.latency.ratio, c)
        for c in contenders
        if c.on_front and c.latency is not None and c.latency.ratio < chosen.latency.ratio
        if _odds(model, chosen, c) < WORTH_IT <= _odds(model, c, bare)
    ]
    return min(faster, key=lambda found: found[0], default=(0.0, None))[1]


def _recommendation(
    chosen: Contender,
    promising: Contender,
    bare: Contender | None,
    uniform: Contender | None,
    cheaper: Contender | None,
    model: NoiseModel,
    rule: str,
) -> Recommendation:
    against_none = _compare(model, chosen, bare)
    against_uniform = _compare(model, chosen, uniform)
    against_cheaper = _compare(model, chosen, cheaper)
    sentences = [
        f"{'Leave the backbone without attention' if chosen is bare else f'Take `{chosen.placement}`'}: {rule}.",
        _costs(chosen, model.metric),
        *(_said(c, model.metric) for c in (against_none, against_uniform) if c is not None),
        *(["It is itself the best uniform baseline: nobody had to search for it."] if chosen is uniform else []),
        *([_said_promising(promising, _odds(model, promising, chosen))] if promising is not chosen else []),
        *([_said_cheaper(cheaper, against_cheaper)] if cheaper and against_cheaper else []),
        _noise(model),
    ]
    return Recommendation(
        key=chosen.key,
        placement=chosen.placement,
        metric=model.metric,
        estimate=chosen.estimate,
        latency=chosen.latency,
        rule=rule,
        against_none=against_none,
        against_uniform=against_uniform,
        cheaper=against_cheaper,
        sentences=tuple(sentences),
    )


def _compare(model: NoiseModel, chosen: Contender, other: Contender | None) -> Comparison | None:
    if other is None or other is chosen:
        return None
    gain, probability = model.gain(chosen.key, other.key) or (None, None)
    ratio = None
    if chosen.latency is not None and other.latency is not None:
        ratio = chosen.latency.ratio / other.latency.ratio
    return Comparison(other.key, other.baseline or other.placement, gain, probability, ratio)


# ------------------------------------------------------------------------------------------- in plain words


def format_metric(metric: str, value: float) -> str:
    """`72.4 %` for an accuracy, four digits for the rest."""
    return f"{100 * value:.2f} %" if metric == "accuracy" else f"{value:.4g}"


def format_probability(probability: float) -> str:
    """`93 %`; never 0 or 100."""
    if probability > 0.99:
        return "over 99 %"
    return "under 1 %" if probability < 0.01 else f"{100 * probability:.0f} %"


def sureness(probability: float) -> str:
    """The probability of being better, in a word or two."""
    if probability < 0.5:
        return sureness(1 - probability).replace("better", "worse")
    steps = ((0.95, "almost surely better"), (0.8, "probably better"), (0.6, "better, more likely than not"))
    return next((words for least, words in steps if probability >= least), "no difference to be seen")


def _costs(chosen: Contender, metric: str) -> str:
    low, high = chosen.estimate.interval
    seeds = f"{chosen.estimate.seeds} run{'s' if chosen.estimate.seeds != 1 else ''}"
    between = f"{format_metric(metric, low)} to {format_metric(metric, high)}"
    text = f"Its {metric} is estimated at {format_metric(metric, chosen.estimate.mean)} ({between}, {seeds})"
    if chosen.latency is None or chosen.baseline == "none":
        return f"{text}."
    latency = chosen.latency
    how = "" if latency.measured else ", predicted, not measured"
    between = f"{latency.low:.3f} to {latency.high:.3f}{how}"
    return f"{text}, its latency at {latency.ratio:.3f} times the backbone's ({between})."


def _said(comparison: Comparison, metric: str) -> str:
    name = "no attention" if comparison.name == "none" else f"the best uniform baseline ({comparison.name})"
    if comparison.gain is None or comparison.probability is None:
        return f"Whether it beats {name} cannot be said: nothing is known about the noise yet."
    size = f"{100 * comparison.gain:+.2f} points" if metric == "accuracy" else f"{comparison.gain:+.3g} in {metric}"
    text = (
        f"Against {name}: {sureness(comparison.probability)} "
        f"(probability of being better {format_probability(comparison.probability)}; estimated difference {size})"
    )
    return (
        f"{text}."
        if comparison.latency_ratio is None
        else f"{text}, at {comparison.latency_ratio:.2f} times its latency."
    )


def _said_promising(promising: Contender, odds: float) -> str:
    return (
        f"The most promising placement, `{promising.placement}`, is better with a probability of {format_probability(odds)} "
        "only."
    )


def _said_cheaper(cheaper: Contender, comparison: Comparison) -> str:
    assert cheaper.latency is not None  # else it would not have been found cheaper
    assert comparison.probability is not None
    return (
        f"For less latency: `{cheaper.placement}` at {cheaper.latency.ratio:.3f} times the backbone's; that it is worse "
        f"than the recommended one has a probability of {format_probability(comparison.probability)} only."
    )


def _noise(model: NoiseModel) -> str:
    floor = model.floor
    if floor.seed_sd is None:
        return "One candidate scored once says nothing about the noise."
    noise = f"{100 * floor.seed_sd:.2f} points" if model.metric == "accuracy" else f"{floor.seed_sd:.3g}"
    source = {
        "seeds": f"measured on {floor.repeated} candidates that ran more than once",
        "images": "from the finite validation set; no candidate has run twice yet",
        "assumed": "assumed to be half of the variance seen; no candidate has run twice yet",
        "none": "",
    }[floor.source]
    return f"One run's {model.metric} is uncertain by {noise} ({source}). All this is estimated, not tested."
