"""The headline of an answer: what to do, by whichever means, in a sentence or two."""

from __future__ import annotations

from nas_attn.answer.answer import Answer, Lacking, Option, Reason, margin_of
from nas_attn.answer.candidates import called, network_name, placed
from nas_attn.answer.length import LengthGain
from nas_attn.answer.shown import Shown, shown
from nas_attn.answer.snapshot import Means
from nas_attn.errors import several
from nas_attn.model import Gain
from nas_attn.recipe import units
from nas_attn.storage.records import Latency

EXHAUSTED = (
    "The search cannot go on: every placement of its space has been tried, or is probably over the"
    " limits. Give a new study a larger space (--from), or higher limits."
)


def headline(answer: Answer) -> str:
    """What to do; after a test, also what it has shown."""
    taken = answer.taken
    if taken is not None and taken.length is not None:
        return _train_longer(answer, taken.length)
    if answer.lacking is not None:
        # where the search is not exhausted, it can go on
        stuck = answer.now.exhausted and answer.lacking is Lacking.ONLY_BARE
        return f"{nothing_recommended(answer)}{f' {EXHAUSTED}' if stuck else ''}"
    if taken is None:
        return f"Keep the bare backbone: {_why_bare(answer)}.{_may_be_longer(answer)}"
    found = shown(answer)
    if taken.means is Means.ATTENTION:
        # the name of a baseline says again what stands before it
        label = "" if taken.view.baseline else f" ({taken.view.label})"
        return (
            f"Take {placed(answer.drawing, taken.view.placement)}{label}{_brings(answer, found)}."
        )
    bare = "" if taken.view.attends else " without attention"
    brings = _brings(answer, found)
    if taken.means is Means.SMALLER and found is not None and found.low <= 0:
        brings = _as_good(answer, taken, found)
    return f"Take {network_name(taken.view)}{bare}{brings}."


def _train_longer(answer: Answer, longer: LengthGain) -> str:
    """That a longer training gains most, and what is known beside it."""
    metric = answer.now.metric
    lead = (
        f"Train {longer.longer} epochs instead of {longer.shorter}: {_size(metric, longer.gain)},"
        " no latency."
    )
    if answer.also:
        best = answer.also[0]
        brings = _size(metric, best.gain, best.view.latency)
        name = network_name(best.view)
        return f"{lead} Also shown, not measured together: {name}, {brings}."
    return lead if answer.attention is None else f"{lead} No attention is shown to help."


def _may_be_longer(answer: Answer) -> str:
    """` Training it longer is 94 % likely to help: +2.4 points by 80 epochs.`; empty where it is
    not likely.
    """
    one = answer.longer
    if one is None or one.length is None or not one.may_help(answer.counts):
        return ""
    size = _size(answer.now.metric, one.gain)
    odds = units.probability(one.gain.probability)
    return f" Training it longer is {odds} likely to help: {size} by {one.length.longer} epochs."


def _brings(answer: Answer, found: Shown | None) -> str:
    """`: +2.3 points at 1.38 ×`, and what a test says of it."""
    metric = answer.now.metric
    if found is None:
        return ""
    if answer.confirmed:
        return f": tested, {_size(metric, found)}"
    if answer.test is None:
        return f": {_size(metric, found, found.latency)}"
    against = answer.test.word == "worse"
    return "; a test speaks against it" if against else "; a test has not shown its gain"


def _as_good(answer: Answer, taken: Option, found: Shown) -> str:
    """`: as accurate (−0.3 to +0.4 points), 0.78 × the latency`; after a test that leaves it open,
    or shows a loss, that instead.
    """
    metric = answer.now.metric
    level = units.difference_range(metric, found.low, found.high)
    tested = ""
    if found.low > -margin_of(answer.now):
        level = f"as {'accurate' if units.is_implied(metric) else f'good in {metric}'} ({level})"
    elif answer.test is not None:
        tested = "; a test has not shown that it loses nothing"
    return f": {level}, {units.times(taken.ratio)} the latency{tested}"


def _size(metric: str, gain: Gain | Shown, latency: Latency | None = None) -> str:
    """`+6.4 points at 1.38 ×`; a metric that the unit does not name is named."""
    at = "" if latency is None else f" at {units.times(latency.ratio)}"
    size = units.signed_within(metric, gain.mean, (gain.high - gain.low) / 2)
    about = "" if units.is_implied(metric) else f" in {units.title(metric)}"
    return f"{f'{size} {units.unit(metric).of_differences}'.rstrip()}{about}{at}"


def _why_bare(answer: Answer) -> str:
    test = answer.test
    if test is not None:
        view = answer.now.find(test.key)
        tested = called(view, test.placement)
        if view is not None and view.control:
            tested = network_name(view)
        return {
            "worse": f"a test has shown that {tested} is worse",
            "better": f"a test has shown that {tested} helps, and the search has not tried it",
        }.get(test.word, f"a test of {tested} shows no gain")
    limit = answer.now.latency_limit
    within = "" if limit is None else f" within {limit:g} × its latency"
    if answer.reason is Reason.TOO_SMALL:
        return "the likely gain is too small to count"
    if answer.reason is Reason.OUT_OF_REACH:
        return f"no placement is{within} (the fastest: {units.times(fastest(answer))})"
    return f"no attention{within} is likely enough to help"


def fastest(answer: Answer) -> float:
    """The least latency ratio of attention."""
    return min(one.ratio for one in answer.options if one.means is Means.ATTENTION)


def nothing_recommended(answer: Answer) -> str:
    """Why there is no recommendation, or only a bare backbone that was compared with nothing; one
    sentence.
    """
    now = answer.now
    trained = several(now.recipe.training.rungs[-1], "epoch")
    not_yet = "No recommendation yet: the bare backbone, with which all others are compared, has"
    match answer.lacking:
        case Lacking.CONSTANT:
            return f"Nothing is recommended: {now.primary} is the same for all candidates."
        case Lacking.BARE_NOT_ENDED:
            return f"{not_yet} not ended all its runs."
        case Lacking.BARE_NOT_SCORED:
            return f"{not_yet} not been scored at {trained}."
        case Lacking.NOT_MEASURED:
            waiting = several(len(now.lacks_latency), "trained candidate")
            return f"No recommendation yet: {waiting} without a latency."
        case Lacking.ONLY_BARE:
            count = now.counts["infeasible"]
            over = f"; {count} are over the limits" if count else ""
            return f"Nothing is recommended: only the bare backbone has been scored{over}."
        case Lacking.NONE_WITHIN:
            limit = now.recipe.limits.latency_text(now.reference_ms)
            return f"Nothing is recommended: no scored candidate is within {limit}."
    return f"No recommendation yet: nothing has been scored at {trained}."
