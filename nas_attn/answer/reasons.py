"""The reasons behind a recommendation, and what is said beside an answer."""

from __future__ import annotations

from collections.abc import Iterator

from nas_attn.answer.answer import Answer
from nas_attn.answer.candidates import short_name
from nas_attn.answer.means import SURE_ENOUGH, margin_of
from nas_attn.answer.recommending import (
    Comparison,
    Reason,
    Recommendation,
    Worth,
)
from nas_attn.answer.snapshot import CandidateView, Means, Snapshot
from nas_attn.errors import several
from nas_attn.latency.ratios import Elsewhere
from nas_attn.model import Noise
from nas_attn.recipe import units

# least probabilities that are said in these words
ALMOST_SURE = 0.95
PROBABLE = 0.8
LIKELY = 0.6
WHAT_COUNTS = "a tenth of the best gain or of one run's noise"


def rule_text(best: Recommendation) -> str:
    """How the recommended network was chosen, as a clause."""
    rule = best.rule
    within = "" if rule.limit is None else f" within {rule.limit:g} times the latency"
    among = "on the front"
    if rule.limit is not None:
        among = f"at no more than {rule.limit:g} times the backbone's latency"
    match rule.reason:
        case Reason.BEST_ESTIMATE:
            return (
                f"the best estimated {best.metric} {among} (the bare backbone has not been scored)"
            )
        case Reason.NOTHING_LIKELY:
            return (
                f"no placement{within} is better with a probability of {100 * rule.required:.0f} %"
            )
        case Reason.OUT_OF_REACH:
            fastest = f"the fastest takes {rule.fastest:.2f} times as long"
            return f"no scored placement is{within}: {fastest}"
        case Reason.TOO_SMALL:
            small = _below(best.metric, best.worth) if best.worth else ""
            return f"the gain of the best bet is too small to count, {small}"
        case Reason.LARGEST_GAIN:
            return f"the largest likely gain over the bare backbone {among}"
        case Reason.FASTEST:
            return f"the fastest {among} that gives up too little against the best bet to count"


def reasons(answer: Answer) -> list[str]:
    """Why the answer is what it is, in sentences; none without a recommendation."""
    best = answer.best
    if best is None:
        return []
    first = _other_means(answer, best)
    if first and answer.means is not Means.NOTHING:
        first.append("What follows is about placements of attention.")
    return [*first, *placement_reasons(best)]


def placement_reasons(best: Recommendation) -> list[str]:
    """Why this one of the placements, in sentences."""
    verb = "Keep the bare backbone" if best.is_bare else "Take this placement"
    sentences = [f"{verb}: {rule_text(best)}.", _estimates(best)]
    if best.against_none is not None:
        sentences.append(_against("the bare backbone", best.against_none, best.metric))
    if best.against_uniform is not None:
        sentences.append(_against_uniform(best.against_uniform, best.metric))
    if best.is_best_uniform:
        sentences.append("It is the best uniform baseline: it needed no search.")
    if best.worth is not None:
        sentences.append(f"Differences {_below(best.metric, best.worth)} do not count.")
    return [*sentences, *_about(best), _noise(best.metric, best.noise)]


def _other_means(answer: Answer, best: Recommendation) -> list[str]:
    """Why another means than attention is taken, or is not although it may help."""
    needs = f"Other means than attention need {100 * SURE_ENOUGH:.1f} %."
    if answer.means is Means.LONGER and answer.longer is not None:
        odds = units.probability(answer.longer.gain.probability)
        why = f"A longer training helps with a probability of {odds}"
        if answer.now.brief is not None:
            return [f"{why}. The search trains for fewer epochs than the target."]
        return [f"{why}, and gains most. {needs}"]
    control = best.capacity
    key = best.instead or (control.key if control is not None and control.in_reach else "")
    view = answer.now.find(key)
    gain = None if view is None else view.gains.get(best.metric)
    if view is None or gain is None:
        return []
    odds = units.probability(gain.probability)
    if best.instead is not None and answer.means is Means.SMALLER and gain.low <= 0:
        margin = units.size(best.metric, margin_of(answer.now))
        return [f"{short_name(view)} is surely faster, and surely loses less than {margin}."]
    helps = f"{short_name(view)} helps with a probability of {odds}"
    if best.instead is not None:
        return [f"{helps}, and nothing gains more for its latency. {needs}"]
    return [f"{helps}. {needs}"] if gain.mean > 0 else []


def sureness(better: float, worse: float) -> str:
    """The probabilities of being better and of being worse, in a word or two."""
    word = "worse" if better < worse else "better"
    probability = max(better, worse)
    if probability >= ALMOST_SURE:
        return f"almost surely {word}"
    if probability >= PROBABLE:
        return f"probably {word}"
    if probability >= LIKELY:
        return f"more likely {word} than not"
    return "no visible difference"


def measured_on(candidates: int) -> str:
    """The source of the noise, if candidates ran with several seeds."""
    return f"measured on {several(candidates, 'candidate')} that ran more than once"


def _below(metric: str, worth: Worth) -> str:
    source = "" if worth.stated else f" ({WHAT_COUNTS})"
    return f"below {units.size(metric, worth.size)}{source}"


def _trained(best: Recommendation) -> str:
    return "" if best.training is None else best.training.said


def _estimates(best: Recommendation) -> str:
    """The estimates of the recommended network, with their intervals."""
    trained = _trained(best)
    its = f"{trained[:1].upper()}{trained[1:]}, its" if trained else "Its"
    estimate = best.estimate
    interval = units.value_range(best.metric, estimate.low, estimate.high)
    value = units.value_within(best.metric, estimate.mean, estimate.low, estimate.high)
    seeds = several(estimate.seeds, "run")
    text = f"{its} {units.title(best.metric)} is estimated at {value} ({interval}, {seeds})."
    latency = best.latency
    if latency is None or best.is_bare:
        return text
    predicted = "" if latency.measured else ", predicted, not measured"
    between = f"{latency.low:.2f} to {latency.high:.2f}{predicted}"
    return f"{text} Its latency is {latency.ratio:.2f} times the backbone's ({between})."


def _against_uniform(comparison: Comparison, metric: str) -> str:
    return _against(f"the best uniform baseline ({comparison.name})", comparison, metric)


def _against(name: str, comparison: Comparison, metric: str) -> str:
    gain = comparison.gain
    if gain is None:
        return f"Whether it beats {name} is unknown: the noise has not been measured yet."
    cost = ""
    if comparison.latency_ratio is not None:
        cost = f", at {comparison.latency_ratio:.2f} times its latency"
    return (
        f"Against {name}: {sureness(gain.probability, gain.worse)}{cost}."
        f" It is better with a probability of {units.probability(gain.probability)}, worse with"
        f" {units.probability(gain.worse)}, else equal. The difference is estimated at"
        f" {units.gained(metric, gain.mean, gain.low, gain.high)}."
    )


def _about(best: Recommendation) -> Iterator[str]:
    """The most promising placement, and for which backbone the answer holds."""
    bet = best.most_promising
    if bet is not None and bet.gain is not None:
        yield (
            f"The most promising placement, {bet.name}, is better with a probability of only"
            f" {units.probability(bet.gain.probability)}."
        )
    if best.backbones > 1:
        yield (
            f"Differences are estimates for another backbone of the same kind; {best.backbones}"
            " were tried, and a placement's gain differs between them."
        )
    elif best.backbones:
        yield (
            "Differences hold for this one trained backbone; another training of it may give"
            " others."
        )


def _noise(metric: str, noise: Noise) -> str:
    if noise.seed_sd is None or noise.paired_sd is None:
        return "The noise is unknown: one candidate with one score does not show it."
    spread = "the spread of scores within a seed; no candidate has run twice yet"
    source = measured_on(noise.repeated) if noise.source == "seeds" else f"estimated from {spread}"
    if noise.source == "images":
        source = f"estimated from the size of the validation set and {spread}"
    return (
        f"One run's {units.title(metric)} varies by {units.size(metric, noise.seed_sd)}, the"
        " difference of two with the same seed by"
        f" {units.size(metric, 2**0.5 * noise.paired_sd)}. This is {source}."
    )


RECOMMENDED = "the recommended network"


def remarks(answer: Answer) -> list[str]:
    """Sentences about what separates no candidates, and about what else is known of them."""
    now = answer.now
    best = None if answer.best is None else now.find(answer.best.key)
    return [
        *(constant.sentence for constant in now.constants),
        *_on_other_devices(now, best),
    ]


def _on_other_devices(now: Snapshot, best: CandidateView | None) -> Iterator[str]:
    for device in now.elsewhere:
        timed = [view for view in now.ordered(now.candidates) if view.key in device.latencies]
        parts = []
        for view in timed:
            name = RECOMMENDED if view is best else view.label
            latency = device.latencies[view.key]
            parts.append(f"{name} {latency.ratio:.3f} ({latency.low:.3f} to {latency.high:.3f})")
        if parts:
            conditions = ", ".join([device.mode, *_differing(now, device)])
            yield (
                f"On {device.machine} ({conditions}), relative to the bare backbone there:"
                f" {', '.join(parts)}."
            )


def _differing(now: Snapshot, device: Elsewhere) -> list[str]:
    """What tells another device of the same name from the one that measures now: `torch 2.14`."""
    if now.latency is None or now.latency.machine != device.machine:
        return []
    return [
        f"{name} {value}"
        for name, value in device.details.items()
        if now.latency.details.get(name) != value
    ]
