"""The reasons behind an answer: a table of all means, and what is said beside it."""

from __future__ import annotations

from nas_attn.answer.answer import Answer, Option, Reason
from nas_attn.answer.candidates import network_name
from nas_attn.answer.headline import fastest
from nas_attn.answer.snapshot import Means
from nas_attn.errors import several
from nas_attn.model import Noise
from nas_attn.recipe import units

WHY_COLUMNS = ("means", "network", "latency", "gain", "likely to help", "needs", "")
"""The last one says why it is taken, or why not."""


def rule_text(answer: Answer) -> str:
    """How the placement of attention was chosen, as a clause."""
    limit = answer.now.latency_limit
    among = "on the front"
    within = ""
    if limit is not None:
        among = f"at no more than {limit:g} times the backbone's latency"
        within = f" within {limit:g} times the latency"
    needed = answer.attention.needed if answer.attention else 0.0
    match answer.reason:
        case Reason.OUT_OF_REACH:
            return f"no scored placement is{within}: the fastest takes {fastest(answer):.2f} times"
        case Reason.TOO_SMALL:
            return "the gain of the best bet is too small to count"
        case Reason.LARGEST_GAIN:
            return f"the largest likely gain over the bare backbone {among}"
        case Reason.FASTEST:
            return f"the fastest {among} that gives up too little against the best bet to count"
    if answer.chosen is not None:
        return "it is surely cheaper than the bare backbone"
    return f"no placement{within} is better with a probability of {100 * needed:.0f} %"


def why_rows(answer: Answer) -> list[list[str]]:
    """The best option of each means below `WHY_COLUMNS`, attention first."""
    best = {Means.ATTENTION: answer.attention, Means.LARGER: answer.larger}
    smaller = [one for one in answer.options if one.means is Means.SMALLER]
    best[Means.SMALLER] = max(smaller, key=lambda one: one.gain.worth, default=None)
    best[Means.LONGER] = answer.longer
    if answer.taken is not None:
        best[answer.means] = answer.taken
    return [_why_row(answer, one) for one in best.values() if one is not None]


def _why_row(answer: Answer, one: Option) -> list[str]:
    gain = one.gain
    name = network_name(one.view)
    if one.length is not None:
        name = f"{one.length.longer} epochs instead of {one.length.shorter}"
    return [
        str(one.means),
        name,
        units.NO_VALUE if one.ratio == float("inf") else units.times(one.ratio),
        units.gained(answer.now.metric, gain.mean, gain.low, gain.high),
        units.probability(gain.probability),
        f"{100 * one.needed:.3g} %",
        _why(answer, one),
    ]


def _why(answer: Answer, one: Option) -> str:
    """Why an option is taken, or why not."""
    if one is answer.taken:
        return "taken"
    if one is answer.attention and answer.chosen is None:
        return rule_text(answer)
    if one.tested is not None and one.tested.word == "worse":
        return "a test speaks against it"
    if one.gain.mean < answer.counts:
        return "gains too little to count"
    if not one.helps(answer.counts):
        return "not likely enough"
    if one is answer.larger and not answer.in_reach:
        return "costs more latency than the answer may take"
    return "another means is better"


def reasons(answer: Answer) -> list[str]:
    """Why the answer is what it is: a line for each means, then what is said below their table."""
    lines = [
        f"{means}: {name}, {latency}, {gain}, {likely} likely to help, needs {needs}: {why}."
        for means, name, latency, gain, likely, needs, why in why_rows(answer)
    ]
    return [*lines, *why_sentences(answer)] if answer.reason else []


def why_sentences(answer: Answer) -> list[str]:
    """What counts, and the noise."""
    lines = []
    if answer.worth is not None:
        size = units.size(answer.now.metric, answer.worth)
        lines.append(f"Differences below {size} do not count.")
    noise = answer.now.noise.get(answer.now.metric)
    return lines if noise is None else [*lines, _noise(noise)]


def measured_on(candidates: int) -> str:
    """The source of the noise, if candidates ran with several seeds."""
    return f"measured on {several(candidates, 'candidate')} that ran more than once"


def _noise(noise: Noise) -> str:
    if noise.seed_sd is None or noise.paired_sd is None:
        return "The noise is unknown: one candidate with one score does not show it."
    source = "estimated from the spread of scores within a seed; no candidate has run twice yet"
    if noise.source == "seeds":
        source = measured_on(noise.repeated)
    one, two = (units.size(noise.metric, sd) for sd in (noise.seed_sd, 2**0.5 * noise.paired_sd))
    return (
        f"One run's {units.title(noise.metric)} varies by {one}, the difference of two with the"
        f" same seed by {two}. This is {source}."
    )


def remarks(answer: Answer) -> list[str]:
    """Sentences about what separates no candidates, and about latencies on other devices."""
    now = answer.now
    said = [constant.sentence for constant in now.constants]
    for device in now.elsewhere:
        parts = []
        for view in now.ordered(now.candidates):
            latency = device.latencies.get(view.key)
            if latency is not None:
                between = f"({latency.low:.3f} to {latency.high:.3f})"
                parts.append(f"{view.label} {latency.ratio:.3f} {between}")
        if parts:
            said.append(
                f"On {device.machine} ({device.mode}), relative to the bare backbone there:"
                f" {', '.join(parts)}."
            )
    return said
