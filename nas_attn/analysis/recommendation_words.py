"""A recommendation in plain words, and how its figures are written."""

from __future__ import annotations

from collections.abc import Sequence

from nas_attn.analysis import units
from nas_attn.analysis.contenders import Comparison, Contender
from nas_attn.model import Evidence, Gain

SURE = 0.95
"""Probability from which a difference is not put down to chance."""
NAMED = 3
"""Placements that are written out in a sentence; the others are counted."""


def format_probability(probability: float) -> str:
    """`93 %`; never 0 or 100."""
    if probability > 0.99:
        return "over 99 %"
    return "under 1 %" if probability < 0.01 else f"{100 * probability:.0f} %"


def sureness(better: float, worse: float) -> str:
    """The probabilities of being better and of being worse, in a word or two."""
    if better < worse:
        return sureness(worse, better).replace("better", "worse")
    steps = ((0.95, "almost surely better"), (0.8, "probably better"), (0.6, "more likely better than not"))
    return next((words for least, words in steps if better >= least), "no visible difference")


def costs(chosen: Contender, metric: str, trained: str) -> str:
    """What the recommended one scores, and what latency it has."""
    low, high = chosen.estimate.interval
    seeds = f"{chosen.estimate.seeds} run{'s' if chosen.estimate.seeds != 1 else ''}"
    between = f"{units.value(metric, low)} to {units.value(metric, high)}"
    its = f"{trained[:1].upper()}{trained[1:]}, its" if trained else "Its"
    text = f"{its} {metric} is estimated at {units.value(metric, chosen.estimate.mean)} ({between}, {seeds})"
    if chosen.latency is None or chosen.baseline == "none":
        return f"{text}."
    latency = chosen.latency
    how = "" if latency.measured else ", predicted, not measured"
    between = f"{latency.low:.3f} to {latency.high:.3f}{how}"
    return f"{text}, its latency at {latency.ratio:.3f} times the backbone's ({between})."


def against(comparison: Comparison | None, metric: str) -> list[str]:
    """The recommended one held against a baseline."""
    if comparison is None:
        return []
    name = "the bare backbone" if comparison.name == "none" else f"the best uniform baseline ({comparison.name})"
    if comparison.gain is None or comparison.probability is None or comparison.worse is None:
        return [f"Whether it beats {name} is unknown: the noise has not been measured yet."]
    assert comparison.low is not None
    assert comparison.high is not None
    cost = "" if comparison.latency_ratio is None else f", at {comparison.latency_ratio:.2f} times its latency"
    return [
        f"Against {name}: {sureness(comparison.probability, comparison.worse)} (probability of being better "
        f"{format_probability(comparison.probability)}; estimated difference {units.difference(metric, comparison.gain)}, "
        f"{units.difference_range(metric, comparison.low, comparison.high)}){cost}."
    ]


def on_new_images(comparison: Comparison | None, metric: str) -> list[str]:
    """The same on other images of their kind, where that can be said."""
    if comparison is None or comparison.new_probability is None:
        return []
    assert comparison.new_low is not None
    assert comparison.new_high is not None
    return [
        "This holds for these validation images. On new images of the same kind, it is better than the bare backbone with a "
        f"probability of {format_probability(comparison.new_probability)} "
        f"({units.difference_range(metric, comparison.new_low, comparison.new_high)})."
    ]


def level_with(level: Sequence[Contender], metric: str) -> list[str]:
    """Others that the recommended one is not surely better than."""
    if not level:
        return []
    names = ", ".join(f"`{c.placement}`" for c in level[:NAMED])
    more = f" and {len(level) - NAMED} more" if len(level) > NAMED else ""
    return [f"Members of the front that may have the same {metric}: {names}{more}."]


def headline(chosen: Contender, bare: Contender | None, metric: str) -> str:
    """What to take, beside the bare backbone."""
    at = "" if chosen.latency is None else f" at {chosen.latency.ratio:.2f} × latency"
    if chosen is bare:
        return f"Keep the bare backbone: {units.value(metric, chosen.estimate.mean)} at 1.00 × latency."
    beside = "" if bare is None else f" (bare backbone: {units.value(metric, bare.estimate.mean)})"
    return f"Take {chosen.placement}: {units.value(metric, chosen.estimate.mean)}{at}{beside}."


def gain_line(comparison: Comparison | None, metric: str, trained: str) -> list[str]:
    """The gain over the bare backbone, and that it is an estimate."""
    if comparison is None:
        return []
    how = f"estimated {trained}, not tested" if trained else "estimated, not tested"
    if comparison.gain is None or comparison.probability is None:
        return [f"Gain      unknown: the noise has not been measured yet; {how}"]
    return [f"Gain      {_gain(comparison, metric)}; {how}"]


def target_line(said: str, study: str, seconds: float) -> str:
    """That no run trained as the target does, and what it takes to know more."""
    cost = f" in about {units.duration(seconds)}" if seconds else ""
    return f"Target    the gain {said} is not known yet: `nas-attn validate {study}` finds out{cost}"


def best_bet_line(bet: Contender | None, comparison: Comparison | None, metric: str) -> list[str]:
    """The most promising placement, where none is convincing."""
    if bet is None or comparison is None or comparison.gain is None:
        return []
    name = bet.baseline or bet.placement
    at = "" if bet.latency is None else f", at {bet.latency.ratio:.2f} ×"
    return [f"Best bet  {name}: {_gain(comparison, metric)}{at}"]


def other_line(title: str, other: Contender | None, comparison: Comparison | None, metric: str) -> list[str]:
    """A dearer or a cheaper one: what it gains or loses, and at which latency."""
    if other is None or comparison is None or comparison.gain is None or other.latency is None:
        return []
    assert comparison.probability is not None
    assert comparison.worse is not None
    chance = ", may be chance" if max(comparison.probability, comparison.worse) < SURE else ""
    difference = units.difference(metric, -comparison.gain)
    return [f"{title:<10}{other.baseline or other.placement}: {difference}{chance}, at {other.latency.ratio:.2f} ×"]


def counted(worth: float | None, metric: str) -> list[str]:
    """What counts as a difference."""
    if worth is None:
        return []
    size = f"{units.size(metric, worth)} {units.unit(metric).of_differences}".rstrip()
    return [f"Differences below {size} do not count: a tenth of the best gain or half of one run's noise."]


def _gain(comparison: Comparison, metric: str) -> str:
    assert comparison.gain is not None
    assert comparison.low is not None
    assert comparison.high is not None
    assert comparison.probability is not None
    between = f"{units.signed(metric, comparison.low)} to {units.signed(metric, comparison.high)}"
    return f"{units.difference(metric, comparison.gain)} ({between}), {format_probability(comparison.probability)} likely to help"


def about(evidence: Evidence, promising: Contender, chosen: Contender, own_backbone: bool) -> list[str]:
    """What was promising and not enough, what could not have been seen, and what backbones the answer holds for."""
    found = []
    gain = evidence.gain(promising.key, chosen.key)
    if promising is not chosen and gain is not None:
        found += [_said_promising(promising, gain), _unseen(evidence, promising, chosen)]
    if own_backbone and evidence.backbones > 1:
        found.append(
            f"Differences are estimates for another backbone of the same kind; {evidence.backbones} were tried, and a placement's "
            "gain differs between them."
        )
    elif own_backbone:
        found.append("Differences hold for this one trained backbone; on another one they may differ.")
    return found


def _said_promising(promising: Contender, gain: Gain) -> str:
    return (
        f"The most promising placement, `{promising.placement}`, is better with a probability of "
        f"only {format_probability(gain.probability)}."
    )


def _unseen(evidence: Evidence, promising: Contender, bare: Contender) -> str:
    pairs = max(evidence.pairs(promising.key, bare.key), 1)
    size = evidence.detectable(pairs)
    one = "run" if pairs == 1 else "runs"
    return (
        f"This budget, {pairs} {one} of each with the same seed, cannot show a difference below "
        f"±{units.size(evidence.metric, size)}; {4 * pairs} runs of each would show half of that."
    )


def noise(evidence: Evidence) -> str:
    """How much runs differ by chance, and where that is known from."""
    found, metric = evidence.noise, evidence.metric
    if found.seed_sd is None or found.paired_sd is None:
        return "One candidate scored once tells nothing about the noise."

    source = {
        "seeds": measured_on(found.repeated),
        "images": "from the size of the validation set and the spread of scores within a seed; no candidate has run twice yet",
        "assumed": "from the spread of scores within a seed; no candidate has run twice yet",
        "none": "",
    }[found.source]
    return (
        f"One run's {metric} varies by {units.size(metric, found.seed_sd)}, the difference of two with the same seed by "
        f"{units.size(metric, 2**0.5 * found.paired_sd)} ({source}). All this is estimated, not tested."
    )


def measured_on(candidates: int) -> str:
    """Where the noise of runs is known from, where candidates ran with several seeds."""
    return f"measured on {candidates} candidate{'' if candidates == 1 else 's'} that ran more than once"
