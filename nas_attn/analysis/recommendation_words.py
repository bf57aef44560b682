"""A recommendation in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nas_attn.analysis import units
from nas_attn.model import Evidence, Gain

if TYPE_CHECKING:
    from nas_attn.analysis.recommendation import Comparison, Contender

SURE = 0.95
"""Probability from which a difference is not put down to chance."""
NAMED = 3
"""Placements that are written out in a sentence; the others are counted."""


def sureness(better: float, worse: float) -> str:
    """The probabilities of being better and of being worse, in a word or two."""
    if better < worse:
        return sureness(worse, better).replace("better", "worse")
    steps = ((0.95, "almost surely better"), (0.8, "probably better"), (0.6, "more likely better than not"))
    return next((words for least, words in steps if better >= least), "no visible difference")


# ------------------------------------------------------------------------------------------- the answer


def headline(chosen: Contender, bare: Contender | None, metric: str) -> str:
    """What to take, beside the bare backbone."""
    value = units.value(metric, chosen.estimate.mean)
    if chosen is bare:
        return f"Keep the bare backbone: {value} at 1.00 × latency."
    at = "" if chosen.latency is None else f" at {chosen.latency.ratio:.2f} × latency"
    beside = "" if bare is None else f" (bare backbone: {units.value(metric, bare.estimate.mean)})"
    return f"Take {chosen.placement}: {value}{at}{beside}."


def gain_line(comparison: Comparison | None, metric: str, trained: str) -> list[str]:
    """The gain over the bare backbone, and that it is an estimate."""
    if comparison is None:
        return []
    how = f"estimated {trained}, not tested" if trained else "estimated, not tested"
    if comparison.gain is None:
        return [f"Gain      unknown: the noise has not been measured yet; {how}"]
    return [f"Gain      {_gain(comparison.gain, metric)}; {how}"]


def best_bet_line(comparison: Comparison | None, bet: Contender | None, metric: str) -> list[str]:
    """The most promising placement, where none is convincing."""
    if bet is None or comparison is None or comparison.gain is None:
        return []
    at = "" if bet.latency is None else f", at {bet.latency.ratio:.2f} ×"
    return [f"Best bet  {bet.name}: {_gain(comparison.gain, metric)}{at}"]


def other_line(title: str, other: Contender | None, comparison: Comparison | None, metric: str) -> list[str]:
    """A dearer or a cheaper one: what it gains or loses, and at which latency."""
    if other is None or comparison is None or comparison.gain is None or other.latency is None:
        return []
    gain = comparison.gain
    chance = ", may be chance" if max(gain.probability, gain.worse) < SURE else ""
    return [f"{title:<10}{other.name}: {units.difference(metric, -gain.mean)}{chance}, at {other.latency.ratio:.2f} ×"]


def _gain(gain: Gain, metric: str) -> str:
    between = f"{units.signed(metric, gain.low)} to {units.signed(metric, gain.high)}"
    return f"{units.difference(metric, gain.mean)} ({between}), {units.probability(gain.probability)} likely to help"


# ------------------------------------------------------------------------------------------- the reasons


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
    between = f"{latency.low:.3f} to {latency.high:.3f}{'' if latency.measured else ', predicted, not measured'}"
    return f"{text}, its latency at {latency.ratio:.3f} times the backbone's ({between})."


def against(comparison: Comparison | None, metric: str) -> list[str]:
    """The recommended one compared with a baseline."""
    if comparison is None:
        return []
    name = "the bare backbone" if comparison.name == "none" else f"the best uniform baseline ({comparison.name})"
    gain = comparison.gain
    if gain is None:
        return [f"Whether it beats {name} is unknown: the noise has not been measured yet."]
    cost = "" if comparison.latency_ratio is None else f", at {comparison.latency_ratio:.2f} times its latency"
    return [
        f"Against {name}: {sureness(gain.probability, gain.worse)} (probability of being better "
        f"{units.probability(gain.probability)}; estimated difference {units.difference(metric, gain.mean)}, "
        f"{units.difference_range(metric, gain.low, gain.high)}){cost}."
    ]


def on_new_images(comparison: Comparison | None, metric: str) -> list[str]:
    """The same on other images of their kind, where that can be said."""
    gain = None if comparison is None else comparison.gain
    if gain is None or gain.new_probability is None or gain.new_low is None or gain.new_high is None:
        return []
    return [
        "This holds for these validation images. On new images of the same kind, it is better than the bare backbone with a "
        f"probability of {units.probability(gain.new_probability)} "
        f"({units.difference_range(metric, gain.new_low, gain.new_high)})."
    ]


def counted(worth: float | None, metric: str) -> list[str]:
    """What counts as a difference."""
    if worth is None:
        return []
    return [
        f"Differences below {units.size(metric, worth)} do not count: a tenth of the best gain or half of one run's noise."
    ]


def level_with(level: Sequence[Contender], metric: str) -> list[str]:
    """Others that the recommended one is not surely better than."""
    if not level:
        return []
    names = ", ".join(f"`{c.placement}`" for c in level[:NAMED])
    more = f" and {len(level) - NAMED} more" if len(level) > NAMED else ""
    return [f"Members of the front that may have the same {metric}: {names}{more}."]


def about(evidence: Evidence, promising: Contender, chosen: Contender, own_backbone: bool) -> list[str]:
    """What was promising and not enough, what could not have been seen, and what backbones the answer holds for."""
    found = []
    gain = evidence.gain(promising.key, chosen.key)
    if promising is not chosen and gain is not None:
        pairs = max(evidence.pairs(promising.key, chosen.key), 1)
        found += [
            f"The most promising placement, `{promising.placement}`, is better with a probability of only "
            f"{units.probability(gain.probability)}.",
            f"This budget, {pairs} {'run' if pairs == 1 else 'runs'} of each with the same seed, cannot show a difference below "
            f"±{units.size(evidence.metric, evidence.detectable(pairs))}; {4 * pairs} runs of each would show half of that.",
        ]
    if own_backbone and evidence.backbones > 1:
        found.append(
            f"Differences are estimates for another backbone of the same kind; {evidence.backbones} were tried, and a placement's "
            "gain differs between them."
        )
    elif own_backbone:
        found.append("Differences hold for this one trained backbone; on another one they may differ.")
    return found


def noise(evidence: Evidence) -> str:
    """How much runs differ by chance, and where that is known from."""
    found, metric = evidence.noise, evidence.metric
    if found.seed_sd is None or found.paired_sd is None:
        return "One candidate scored once tells nothing about the noise."
    spread = "from the spread of scores within a seed; no candidate has run twice yet"
    source = {
        "seeds": measured_on(found.repeated),
        "images": f"from the size of the validation set and {spread.removeprefix('from ')}",
        "assumed": spread,
        "none": "",
    }[found.source]
    return (
        f"One run's {metric} varies by {units.size(metric, found.seed_sd)}, the difference of two with the same seed by "
        f"{units.size(metric, 2**0.5 * found.paired_sd)} ({source}). All this is estimated, not tested."
    )


def measured_on(candidates: int) -> str:
    """Where the noise of runs is known from, where candidates ran with several seeds."""
    return f"measured on {candidates} candidate{'' if candidates == 1 else 's'} that ran more than once"
