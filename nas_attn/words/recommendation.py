"""A recommendation: its lines in the answer, and its reasons."""

from __future__ import annotations

from collections.abc import Iterator

from nas_attn.analysis.recommendation import (
    NO_CHANCE,
    REQUIRED,
    Capacity,
    Comparison,
    Reason,
    Recommendation,
    Worth,
    promising,
)
from nas_attn.errors import several
from nas_attn.model import Gain, Noise
from nas_attn.space import other_of
from nas_attn.words import units
from nas_attn.words.lines import Line

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
            return f"no placement{within} is better with a probability of {100 * REQUIRED:.0f} %"
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


def answer_lines(best: Recommendation, *, tested: int | None = None) -> list[Line]:
    """The recommendation in at most six lines, the headline first.

    `tested`: trainings of each network in the tests that show its gain; 0 if they do not show one,
    None without a test.
    """
    lines = [Line(headline(best))]
    if best.against_none is not None:
        lines.append(_gain_line(best, best.against_none, tested=tested))
    if not best.is_bare:
        lines += _other_line("Slower", best, best.slower)
        lines += _other_line("Faster", best, best.cheaper)
    elif best.best_bet is not None and best.best_bet.gain is not None:
        lines.append(_bet_line(best, best.best_bet, best.best_bet.gain))
    elif best.rule.reason is Reason.OUT_OF_REACH:
        lines.append(Line(rule_text(best), "Limit"))
    if best.capacity is not None:
        lines.append(_capacity_line(best, best.capacity))
    return lines


def reasons(best: Recommendation) -> list[str]:
    """Why this network, in sentences."""
    verb = "Keep the bare backbone" if best.is_bare else f"Take `{best.placement}`"
    sentences = [f"{verb}: {rule_text(best)}.", _estimates(best)]
    if best.against_none is not None:
        sentences.append(_against("the bare backbone", best.against_none, best.metric))
    if best.against_uniform is not None:
        sentences.append(_against_uniform(best.against_uniform, best.metric))
    if best.is_best_uniform:
        sentences.append("It is the best uniform baseline: it needed no search.")
    if best.worth is not None:
        sentences.append(f"Differences {_below(best.metric, best.worth)} do not count.")
    noise = _noise(best.metric, best.noise)
    if not best.tested and best.noise.seed_sd is not None:
        noise += " All this is estimated, not tested."
    sentences += [*_about(best), noise]
    if best.instead is not None and best.capacity is not None:
        sentences.insert(
            0,
            f"{_take_control(best.capacity)}: it is likely to gain more. What follows is about"
            " placements.",
        )
    return sentences


def headline(best: Recommendation) -> str:
    """What to take, with its estimate, its latency and the bare backbone's estimate."""
    value = units.worded(best.metric, best.estimate.mean)
    at = "" if best.latency is None else f" at {best.latency.ratio:.2f} × latency"
    control = None
    if best.instead is not None and best.capacity is not None:
        control = _take_control(best.capacity)
    if best.is_bare:
        kept = f"the bare backbone: {value}{at}."
        return (
            f"Keep {kept}"
            if control is None
            else f"{control}. If your network must stay, keep {kept}"
        )
    bare = (
        "" if best.bare is None else f" (bare backbone: {units.value(best.metric, best.bare.mean)})"
    )
    placed = f"{best.placement}: {value}{at}{bare}."
    return (
        f"Take {placed}"
        if control is None
        else f"{control}. Of the placements, the best is {placed}"
    )


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


def between(metric: str, gain: Gain) -> str:
    """`+0.31 to +1.20`."""
    return f"{units.signed(metric, gain.low)} to {units.signed(metric, gain.high)}"


def _below(metric: str, worth: Worth) -> str:
    source = "" if worth.stated else f" ({WHAT_COUNTS})"
    return f"below {units.size(metric, worth.size)}{source}"


def _trained(best: Recommendation) -> str:
    return "" if best.training is None else best.training.said


def _gain(gain: Gain, metric: str) -> str:
    return (
        f"{units.difference(metric, gain.mean)} ({between(metric, gain)}),"
        f" {units.probability(gain.probability)} likely to help"
    )


def _gain_line(best: Recommendation, against: Comparison, *, tested: int | None) -> Line:
    trained = _trained(best)
    how = f"estimated {trained}" if trained else "estimated"
    if tested is None:
        how = f"{how}, not tested"
    elif tested:
        how = f"{how}, tested in {several(tested, 'training')} each"
    if against.gain is None:
        return Line(f"unknown: the noise has not been measured yet; {how}", "Gain")
    return Line(f"{_gain(against.gain, best.metric)}; {how}", "Gain")


def _other_line(label: str, best: Recommendation, other: Comparison | None) -> list[Line]:
    """A line about a slower or faster one: its gain or loss, and its latency."""
    if other is None or other.gain is None or other.latency is None:
        return []
    gain = other.gain
    chance = ", may be chance" if max(gain.probability, gain.worse) < NO_CHANCE else ""
    gained = units.difference(best.metric, -gain.mean)
    return [Line(f"{other.name}: {gained}{chance}, at {other.latency.ratio:.2f} ×", label)]


def _bet_line(best: Recommendation, bet: Comparison, gain: Gain) -> Line:
    """The most promising placement, with its odds and its price, or that there is none."""
    odds = units.probability(gain.probability)
    if not promising(gain):
        text = f"the bare backbone: no placement is likely to help ({bet.name}: {odds})"
        return Line(text, "Best bet")
    at = "" if bet.latency is None else f", at {bet.latency.ratio:.2f} ×"
    small = ""
    if best.worth is not None:
        small = f"; less than {units.size(best.metric, best.worth.size)} does not count"
    return Line(f"{bet.name}: {_gain(gain, best.metric)}{at}{small}", "Best bet")


def _take_control(control: Capacity) -> str:
    taken = other_of(control.placement) or _everywhere(control)
    return f"Take {taken} rather than attention (line Capacity)"


def _everywhere(control: Capacity) -> str:
    """`dwconv everywhere`, or the control's placement."""
    if control.baseline is None:
        return str(control.placement)
    return f"{control.baseline.rpartition(' ')[2]} everywhere"


def _capacity_line(best: Recommendation, control: Capacity) -> Line:
    other = other_of(control.placement)
    name = f"{other} instead" if other else _everywhere(control)
    gain = control.gain
    size = units.plus_minus(best.metric, gain.mean, (gain.high - gain.low) / 2)
    at = "" if control.latency is None else f" at {control.latency.ratio:.2f} ×"
    lead = None if best.is_bare else control.lead.gain
    return Line(f"{name}: {size}{at}. {_on_control(control, lead)}", "Capacity")


def _on_control(control: Capacity, lead: Gain | None) -> str:
    """Explains a control's gain over the bare backbone. `lead`: of attention over the control;
    None: the bare one is recommended.
    """
    gain = control.gain
    if lead is None:
        if gain.probability < REQUIRED:
            return "A larger network is not shown to help either."
        above = ", above the limit" if control.dearer else ""
        odds = units.probability(gain.probability)
        return (
            f"A larger network {_helps(gain.probability)} here{above} ({odds}); attention is not"
            " shown to help."
        )
    slower = ", at more latency" if control.dearer else ""
    if lead.worse >= REQUIRED:
        odds = units.probability(lead.worse)
        return f"This {_helps(lead.worse)} more than attention{slower} ({odds})."
    odds = units.probability(lead.probability)
    if lead.probability < REQUIRED:
        return f"This may help as much as attention{slower} (attention better: {odds})."
    verb = "buys" if lead.probability >= NO_CHANCE else "probably buys"
    return f"Attention {verb} more{', at less latency' if control.dearer else ''} ({odds})."


def _helps(probability: float) -> str:
    return "helps" if probability >= NO_CHANCE else "probably helps"


def _estimates(best: Recommendation) -> str:
    """The estimates of the recommended network, with their intervals."""
    trained = _trained(best)
    its = f"{trained[:1].upper()}{trained[1:]}, its" if trained else "Its"
    low, high = (units.value(best.metric, end) for end in (best.estimate.low, best.estimate.high))
    seeds = several(best.estimate.seeds, "run")
    value = units.value(best.metric, best.estimate.mean)
    text = f"{its} {best.metric} is estimated at {value} ({low} to {high}, {seeds})"
    latency = best.latency
    if latency is None or best.is_bare:
        return f"{text}."
    predicted = "" if latency.measured else ", predicted, not measured"
    interval = f"{latency.low:.3f} to {latency.high:.3f}{predicted}"
    return f"{text}, its latency at {latency.ratio:.3f} times the backbone's ({interval})."


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
        f"Against {name}: {sureness(gain.probability, gain.worse)} (probability of being better"
        f" {units.probability(gain.probability)}, worse {units.probability(gain.worse)}, else"
        f" equal; estimated difference {units.difference(metric, gain.mean)},"
        f" {units.difference_range(metric, gain.low, gain.high)}){cost}."
    )


def _about(best: Recommendation) -> Iterator[str]:
    """The most promising placement, and for which backbone the answer holds."""
    bet = best.most_promising
    if bet is not None and bet.gain is not None:
        yield (
            f"The most promising placement, `{bet.placement}`, is better with a probability of only"
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
    source = measured_on(noise.repeated) if noise.source == "seeds" else f"from {spread}"
    if noise.source == "images":
        source = f"from the size of the validation set and {spread}"
    return (
        f"One run's {metric} varies by {units.size(metric, noise.seed_sd)}, the difference of two"
        f" with the same seed by {units.size(metric, 2**0.5 * noise.paired_sd)} ({source})."
    )
