"""The headline of an answer: what to do, by whichever means, in a sentence or two."""

from __future__ import annotations

from nas_attn.answer.answer import (
    Answer,
    AnswerVerdict,
    Brought,
    NamedNetwork,
)
from nas_attn.answer.candidates import placed, short_name
from nas_attn.answer.length import LengthGain
from nas_attn.answer.means import loses_nothing
from nas_attn.answer.next_step import Lacking, Purpose
from nas_attn.answer.pooled import PooledTest
from nas_attn.answer.recommending import Reason, Recommendation
from nas_attn.answer.snapshot import CandidateView, Means
from nas_attn.errors import several
from nas_attn.model import Gain
from nas_attn.recipe import units
from nas_attn.space.placement import BARE
from nas_attn.space.search_space import other_of


def headline(answer: Answer) -> str:
    """What to do; after a test, also what it has shown."""
    best = answer.best
    now = answer.now
    if answer.verdict is AnswerVerdict.LONGER and answer.longer is not None:
        return _longer_headline(answer, answer.longer)
    if best is None or answer.taken is None:
        sentence = nothing_recommended(answer)
        if now.exhausted and answer.next is None:
            return (
                f"{sentence} The search cannot go on: every placement of its space has been tried,"
                " or is probably over the limits. Give a new study a larger space (--from), or"
                " higher limits."
            )
        return sentence
    test = None if answer.certainty is None else answer.certainty.test
    shown = _tested(answer, test) or _size_at(answer)
    view = now.find(answer.taken.key)
    if view is not None and answer.verdict in (AnswerVerdict.CONTROL, AnswerVerdict.SMALLER):
        bare = "" if view.attends else " without attention"
        if answer.verdict is AnswerVerdict.SMALLER:
            shown = _as_accurate(answer, test)
        return f"Take {network_name(view)}{bare}{shown}.{_or_smaller(answer)}"
    if answer.keeps_bare:
        return _keep(answer, best, test)
    # the name of a baseline says again what stands before it
    label = "" if view is not None and view.baseline else f" ({answer.taken.label})"
    placement = placed(answer.drawing, answer.taken.placement)
    return f"Take {placement}{label}{shown}.{_or_smaller(answer)}"


def _keep(answer: Answer, best: Recommendation, test: PooledTest | None) -> str:
    """To keep the bare backbone, and what may help after all."""
    now = answer.now
    purpose = None if answer.next is None else answer.next.purpose
    sure = answer.certainty
    if purpose is Purpose.TRY_TESTED:
        tested = "another placement" if sure is None else called(sure.of)
        return (
            f"Keep the bare backbone for now: a test has shown that {tested} helps, and the search"
            " has not tried it."
        )
    decided = None if sure is None else now.find(sure.of.key)
    if purpose is Purpose.DECIDE and sure and sure.probability and decided and decided.control:
        odds = units.probability(sure.probability)
        what = f"{network_name(decided)}{_size_at(answer)} ({odds} likely to help)"
        return f"Keep the bare backbone until a test has decided on {what}."
    kept = f"Keep the bare backbone: {_why_bare(answer, best, test)}."
    longer = answer.longer
    if purpose is not Purpose.LONGER or longer is None:
        return kept
    odds = units.probability(longer.gain.probability)
    instead = f"{longer.longer} epochs instead of {longer.shorter}"
    return f"{kept} {instead} may bring {_size(now.metric, longer.gain)} ({odds} likely)."


def _or_smaller(answer: Answer) -> str:
    """` Or resnet14: +1.9 points at 0.70 ×.`, where a smaller network gains, too."""
    for option in answer.also:
        view = answer.now.find(option.key)
        if option.means is Means.SMALLER and view is not None and option.ratio is not None:
            size = _size(answer.now.metric, option.gain)
            return f" Or {network_name(view)}: {size} at {units.times(option.ratio)}."
    return ""


def _longer_headline(answer: Answer, longer: LengthGain) -> str:
    """That a longer training gains most, and what is known beside it."""
    metric = answer.now.metric
    size = _size(metric, longer.gain)
    lead = f"Train {longer.longer} epochs instead of {longer.shorter}: {size}, no latency."
    brief = answer.now.brief
    if brief is not None and longer.longer <= brief.searched:
        return (
            f"Train {longer.longer} epochs or more: {size} over {longer.shorter}, no latency. They"
            " may not be enough, and nothing is known of attention at the right length."
        )
    if brief is not None:
        so_far = "" if brief.target == longer.longer else f" by {longer.longer}"
        lead = (
            f"Train {brief.target} epochs instead of {brief.searched}: {size}{so_far}, no latency."
        )
        return f"{lead} Nothing is known of attention at that length yet."
    best = answer.best
    view = None if best is None else answer.now.find(best.taken)
    gain = None if view is None or view.is_bare else view.gains.get(metric)
    if best is None or view is None or gain is None:
        return lead if answer.attention is None else f"{lead} No attention is shown to help."
    at = "" if view.latency is None else f" at {units.times(view.latency.ratio)}"
    what = _size(metric, gain)
    if view.means is Means.SMALLER and gain.low <= 0:
        what = _level(metric, gain)
    return f"{lead} Also shown, not measured together: {network_name(view)}, {what}{at}."


def _size(metric: str, gain: Gain | Brought) -> str:
    """`+6.4 points`; a metric that the unit does not name is named."""
    size = units.signed_within(metric, gain.mean, (gain.high - gain.low) / 2)
    about = "" if units.is_implied(metric) else f" in {units.title(metric)}"
    return f"{f'{size} {units.unit(metric).of_differences}'.rstrip()}{about}"


def _size_at(answer: Answer) -> str:
    """`: +2.3 points at 1.38 ×`; empty where the gain is not known."""
    if answer.gain is None:
        return ""
    at = "" if answer.cost is None else f" at {units.times(answer.cost.ratio)}"
    return f": {_size(answer.gain.metric, answer.gain)}{at}"


def _as_accurate(answer: Answer, test: PooledTest | None) -> str:
    """`: as accurate (−0.3 to +0.4 points), 0.78 × the latency`; after a test that leaves it open,
    or shows a loss, that instead.
    """
    gain = answer.gain
    if gain is None or answer.cost is None:
        return ""
    ratio = f"{units.times(answer.cost.ratio)} the latency"
    if gain.low > 0:
        return _tested(answer, test) or _size_at(answer)
    difference = units.difference_range(gain.metric, gain.low, gain.high)
    if not loses_nothing(answer.now, gain.of.key, gain.low):
        return f": {difference}, {ratio}{_tested(answer, test)}"
    return f": {_level(gain.metric, gain)}, {ratio}"


def _level(metric: str, gain: Gain | Brought) -> str:
    """`as accurate (−0.3 to +0.4 points)`."""
    word = "accurate" if units.is_implied(metric) else f"good in {units.title(metric)}"
    return f"as {word} ({units.difference_range(metric, gain.low, gain.high)})"


def network_name(view: CandidateView) -> str:
    """`dwconv everywhere`, `resnet14`, `resnet8 with eca at stage2`, `eca at stage1 and stage2`."""
    if view.baseline is not None or other_of(view.placement) is not None:
        return short_name(view)
    return placed((), view.placement)


def called(network: NamedNetwork) -> str:
    """A network's label, as tables have it; of one that is no candidate, what goes where."""
    if network.placement == BARE:
        return "the bare backbone"
    # another backbone is its own name
    if network.label == str(network.placement) and other_of(network.placement) is None:
        return placed((), network.placement)
    return network.label


def _why_bare(answer: Answer, best: Recommendation, test: PooledTest | None) -> str:
    rule = best.rule
    if test is not None and test.word != "better" and answer.certainty is not None:
        tested = called(answer.certainty.of)
        view = answer.now.find(test.key)
        if view is not None and view.control:
            tested = network_name(view)
        if test.word == "worse":
            return f"a test has shown that {tested} is worse"
        return f"a test of {tested} shows no gain"
    if rule.reason is Reason.OUT_OF_REACH and rule.fastest is not None and rule.limit is not None:
        limit = f"no placement is within {rule.limit:g} × its latency"
        return f"{limit} (the fastest: {units.times(rule.fastest)})"
    if rule.reason is Reason.TOO_SMALL:
        return "the likely gain is too small to count"
    within = "" if rule.limit is None else f" within {rule.limit:g} × its latency"
    return f"no attention{within} is likely enough to help"


def _tested(answer: Answer, test: PooledTest | None) -> str:
    """What the tests say of the network, after the headline's clause."""
    gain = answer.gain
    if test is None or answer.certainty is None:
        return ""
    if answer.certainty.confirmed and gain is not None:
        return f": tested, {_size(gain.metric, gain)}"
    if answer.taken is not None and test.key != answer.taken.key:
        return ""
    if test.word == "worse":
        return "; a test speaks against it"
    smaller = answer.verdict is AnswerVerdict.SMALLER
    return f"; a test has not shown {'that it loses nothing' if smaller else 'its gain'}"


def nothing_recommended(answer: Answer) -> str:
    """Why there is no recommendation, or only a bare backbone that was compared with nothing; one
    sentence.
    """
    now = answer.now
    trained = several(now.recipe.training.rungs[-1], "epoch")
    not_yet = "No recommendation yet: the bare backbone, with which all others are compared, has"
    match answer.lacking:
        case Lacking.TOO_BRIEF if now.brief is not None:
            needed = f", the target for {now.brief.target}"
            if not now.brief.known:
                needed = "; how many the network needs is not known"
            epochs = several(now.brief.searched, "epoch")
            return f"Nothing is recommended: the search trained for {epochs} only{needed}."
        case Lacking.CONSTANT:
            return f"Nothing is recommended: {now.primary} is the same for all candidates."
        case Lacking.BARE_NOT_ENDED:
            return f"{not_yet} not ended all its runs."
        case Lacking.BARE_NOT_SCORED:
            return f"{not_yet} not been scored at {trained}."
        case Lacking.NOT_MEASURED:
            waiting = len(now.lacks_latency)
            lack = f"{waiting} trained candidates lack their latencies"
            if waiting == 1:
                lack = "1 trained candidate lacks its latency"
            return f"No recommendation yet: {lack}."
        case Lacking.ONLY_BARE:
            count = now.counts["infeasible"]
            over = f"; {count} are over the limits" if count else ""
            return f"Nothing is recommended: only the bare backbone has been scored{over}."
        case Lacking.NONE_WITHIN:
            limit = now.recipe.limits.latency_text(now.reference_ms)
            return f"Nothing is recommended: no scored candidate is within {limit}."
    return f"No recommendation yet: nothing has been scored at {trained}."
