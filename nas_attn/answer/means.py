"""What a user can do for a better network, by whichever means, and which of them is best.

The rule. Only candidates within the recipe's limits count.
1. Attention: the placement that `recommending` chooses, or the bare backbone.
2. A larger network, in reach: known to be within the limit of the latency; without one, at no more
   latency than attention that is chosen, else at up to twice the bare backbone's. It is taken if it
   gains with a probability of 99.5 %, by enough to count, and if it is likely better than the
   attention that is chosen. Of several, with a limit, the fastest of those that give up too little
   against the best to count; without one, the one that gains most for its latency.
3. A smaller network, the fastest one that is surely faster than the bare backbone: where nothing
   above is likely, if it is not worse by more than what counts; else if it gains as a larger one
   has to, and gives up too little against the network above to count.
4. A longer training, if it gains with a probability of 99.5 %, by enough to count. It leads where
   it gains more than the network above; nothing tells what both together gain.
5. Else the bare backbone is kept.
A test decides on a network of 2 or 3: one that shows a gain stands for the 99.5 %, one that shows a
loss that counts rules it out.
Attention's own verdict is said whatever leads.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from nas_attn.answer.length import LengthGain
from nas_attn.answer.pooled import PooledTest
from nas_attn.answer.recommending import (
    NO_CHANCE,
    REQUIRED,
    Capacity,
    Contender,
    Recommendation,
    compared,
    recommend,
    required_from,
)
from nas_attn.answer.snapshot import CandidateView, Means, Snapshot
from nas_attn.model import TARGET_RUNG, Evidence, Gain
from nas_attn.model.hypotheses import cdf
from nas_attn.recipe.recipe import Recipe
from nas_attn.recipe.tables import is_cost, is_share

# a control with at most so many times a placement's latency costs the same
LIKE_LATENCY = 1.05
# times of the bare backbone's latency that a network may take where nothing says what is too much:
# who would pay more has a larger backbone to begin with
MOST_LATENCY = 2.0
# share of the latency that a user does not feel: to be cheaper than that brings nothing
UNFELT = 0.1
# probability of a gain that a means other than attention needs; attention is what was asked for.
# With 95 % for each, some means were taken in 19 % of simulated studies from scratch in which none
# gains (research/notes/trust.md)
SURE_ENOUGH = 0.995
# of an accuracy or the like: a smaller loss does not count where the recipe does not say what does
EQUAL_WITHIN = 0.005


@dataclass(frozen=True, slots=True)
class Option:
    """Something that is likely to help, beside what the answer takes."""

    means: Means
    # key and label of a candidate; empty for a longer training
    key: str
    label: str
    # over the bare backbone
    gain: Gain
    # times of the bare backbone's latency; None: not known
    ratio: float | None
    # of a longer training
    epochs: int | None = None


@dataclass(frozen=True, slots=True)
class AttentionVerdict:
    """What is known of attention, whichever means the answer takes."""

    # key and label of the placement that is chosen, or of the most promising one
    key: str
    label: str
    # whether it is likely enough to help
    helps: bool
    # over the bare backbone
    gain: Gain | None
    # times of the bare backbone's latency; None: not known
    ratio: float | None


def recommended(now: Snapshot) -> Recommendation | None:
    """Recommends a network of a study as of now: a placement, with the best larger network beside
    it, or a larger or smaller network instead.

    Returns:
        The recommendation; None if nothing tells candidates apart, if the bare backbone is not
        scored yet, or if attention that is likely to help only lacks its latency.
    """
    model = now.evidence.get(now.primary or "")
    constant = any(same.metric == now.primary for same in now.constants)
    bare_runs = any(view.is_bare and view.state == "running" for view in now.candidates)
    if model is None or constant or bare_runs:
        return None
    recipe = now.recipe
    last = len(recipe.training.rungs) - 1
    placements = []
    controls = []
    for view in now.candidates:
        if view.state != "scored" or view.rung != last or model.metric not in view.estimates:
            continue
        contender = _contender(recipe, view, model.metric)
        gain = view.gains.get(model.metric)
        if not view.control:
            placements.append(contender)
        elif gain is not None and view.means is Means.LARGER and not _shown_to_lose(now, view.key):
            controls.append((contender, gain))
    training = recipe.target_training if model.rung >= TARGET_RUNG else recipe.training
    required = required_from(training.start)
    limit = now.latency_limit
    worth = recipe.answer.worth
    best = recommend(
        placements,
        model,
        max_latency_ratio=limit,
        training=training,
        worth=worth,
        required=required,
    )
    best = with_capacity(
        best,
        placements,
        controls,
        model,
        max_latency_ratio=limit,
        worth=worth,
        tested=[test.key for test in now.pooled if _shows_gain(now, test)],
    )
    if best is not None:
        best = replace(best, instead=_smaller(now, best) or best.instead)
    waiting = (view.beats_none or 0.0 for view in now.lacks_latency if not view.control)
    if best is not None and best.is_bare and max(waiting, default=0.0) >= required:
        return None
    return best


def _smaller(now: Snapshot, best: Recommendation) -> str | None:
    """Key of the fastest of the smaller networks that are as good as what is taken; None without
    one.
    """
    within = now.latency_limit or math.inf
    level = {}
    for view in now.finished:
        if view.latency is None or view.latency.high >= 1 or view.latency.ratio > within:
            continue
        if _as_good(now, best, view) and not _shown_to_lose(now, view.key):
            level[view.key] = view.latency.ratio
    return min(level, key=lambda key: level[key], default=None)


def _as_good(now: Snapshot, best: Recommendation, view: CandidateView) -> bool:
    """Whether a smaller network gives up nothing that counts against the network that is taken."""
    gain = view.gains.get(best.metric)
    if view.means is not Means.SMALLER or gain is None:
        return False
    if best.keeps_bare:
        return loses_nothing(now, view.key, gain.low)
    taken = now.find(best.taken)
    other = None if taken is None else taken.gains.get(best.metric)
    counts = _least_gain(best, now.recipe.answer.worth)
    return other is not None and _gains(now, view, counts) and other.mean - gain.mean < counts


def _gains(now: Snapshot, view: CandidateView, counts: float) -> bool:
    """Whether a smaller network is surely faster, and gains as a larger one has to."""
    gain = view.gains.get(now.metric)
    faster = view.latency is not None and view.latency.high < 1
    if view.means is not Means.SMALLER or gain is None or not faster:
        return False
    tested = any(test.key == view.key and _shows_gain(now, test) for test in now.pooled)
    return _helps(gain, counts, tested=tested) and not _shown_to_lose(now, view.key)


def _shows_gain(now: Snapshot, test: PooledTest) -> bool:
    """Whether a test shows a gain in the metric of the recommendation."""
    return test.word == "better" and test.metric == now.primary


def _shown_to_lose(now: Snapshot, key: str) -> bool:
    """Whether a test shows that a network is worse than the bare backbone by what counts."""
    tests = (test for test in now.pooled if test.key == key and test.metric == now.primary)
    return any(test.word == "worse" and test.between[0] <= -margin_of(now) for test in tests)


def loses_nothing(now: Snapshot, key: str, low: float) -> bool:
    """Whether a smaller network loses nothing that counts; `low`: of the interval of its gain over
    the bare backbone. Where nobody says what counts, it is known of an accuracy or the like only.
    """
    view = now.find(key)
    return view is not None and view.means is Means.SMALLER and low > -margin_of(now)


def margin_of(now: Snapshot) -> float:
    """The loss that does not count, in the metric's unit; 0 where nobody says it of a metric that
    is no accuracy or the like.
    """
    return now.recipe.answer.worth or (EQUAL_WITHIN if is_share(now.metric) else 0.0)


def chance_of_no_loss(now: Snapshot, gain: Gain) -> float:
    """The probability that a network of this gain over the bare backbone loses nothing that
    counts.
    """
    return float(cdf((gain.mean + margin_of(now)) / max(gain.sd, 1e-12)))


def longer_training(
    now: Snapshot, best: Recommendation, required: float = SURE_ENOUGH
) -> LengthGain | None:
    """The longer training of the bare backbone, if it gains with the required probability, and by
    enough to count.
    """
    longer = now.longer
    if longer is None and now.brief is not None:
        longer = now.brief.gain
    least = _least_gain(best, now.recipe.answer.worth)
    if longer is None or longer.gain.probability < required or longer.gain.mean < least:
        return None
    return longer


def leading_length(now: Snapshot, best: Recommendation) -> LengthGain | None:
    """The longer training, if it gains more than the network that is recommended, or if the search
    has ended before it found the length, what it has found so far.
    """
    longer = longer_training(now, best)
    brief = now.brief
    if longer is None and brief is not None and not brief.known and brief.reached is not None:
        return brief.reached if brief.reached.gain.probability >= NO_CHANCE else None
    taken = now.find(best.taken)
    gain = None if taken is None or taken.is_bare else taken.gains.get(best.metric)
    if longer is None or (now.brief is None and gain and gain.mean >= longer.gain.mean):
        return None
    return longer


def attention_verdict(now: Snapshot, best: Recommendation) -> AttentionVerdict | None:
    """What is known of attention; None where no placement was scored."""
    key = best.key
    if best.is_bare:
        judged = [view for view in now.able_to_win if view.means is Means.ATTENTION]
        if not judged:
            return None
        bet = best.best_bet.key if best.best_bet else ""
        key = bet or now.ordered(judged)[0].key
    view = now.find(key)
    if view is None:
        return None
    ratio = None if view.latency is None else view.latency.ratio
    gain = view.gains.get(best.metric)
    return AttentionVerdict(key, view.label, not best.is_bare, gain, ratio)


def options(now: Snapshot, best: Recommendation) -> tuple[Option, ...]:
    """What else is likely to help beside the network that is recommended, the largest gain first;
    of each means one.
    """
    found = []
    keys = {Means.ATTENTION: "" if best.is_bare else best.key}
    control = best.capacity
    allowed = best.in_reach or now.latency_limit is None
    least = _least_gain(best, now.recipe.answer.worth)
    if control is not None and allowed and _helps(control.gain, least):
        keys[Means.LARGER] = control.key
    quicker = [view for view in now.finished if _gains(now, view, least)]
    if quicker:
        keys[Means.SMALLER] = max(quicker, key=lambda view: view.gains[best.metric].mean).key
    for means, key in keys.items():
        view = now.find(key)
        gain = None if view is None else view.gains.get(best.metric)
        if view is not None and gain is not None:
            ratio = None if view.latency is None else view.latency.ratio
            found.append(Option(means, key, view.label, gain, ratio))
    longer = longer_training(now, best)
    if longer is not None:
        found.append(Option(Means.LONGER, "", "", longer.gain, 1.0, longer.longer))
    return tuple(sorted(found, key=lambda option: -option.gain.mean))


def _contender(recipe: Recipe, view: CandidateView, metric: str) -> Contender:
    others: tuple[float, ...] = ()
    if view.cost is not None:
        cost = view.cost
        names = (name for name in recipe.objectives if is_cost(name) and name != "latency")
        others = tuple(cost[name] for name in names)
    return Contender(
        view.key,
        view.placement,
        view.baseline,
        view.estimates[metric],
        view.latency,
        view.on_front_of_placements,
        others,
    )


def with_capacity(  # noqa: PLR0913 - public; the last ones have a name
    recommendation: Recommendation | None,
    contenders: Sequence[Contender],
    controls: Sequence[tuple[Contender, Gain]],
    evidence: Evidence,
    *,
    max_latency_ratio: float | None = None,
    worth: float | None = None,
    tested: Collection[str] = (),
) -> Recommendation | None:
    """Adds the best control to a recommendation, which the answer may take instead.

    Args:
        recommendation: of a placement; None: there is none.
        contenders: the placements that were judged.
        controls: larger networks without attention, each with its gain over the bare backbone.
        evidence: the model of the placements' runs.
        max_latency_ratio: the recipe's limit, in times of the bare backbone's latency.
        worth: the smallest gain that counts, in the metric's unit.
        tested: keys of controls of which a test shows that they gain.
    """
    if recommendation is None:
        return None
    bare = next((c for c in contenders if c.is_bare), None)
    chosen = next((c for c in contenders if c.key == recommendation.key), None)
    if bare is None or chosen is None:
        return recommendation
    alike = math.inf
    reach = MOST_LATENCY
    if chosen is not bare and chosen.latency is not None:
        alike = LIKE_LATENCY * chosen.latency.ratio
        reach = alike
    if max_latency_ratio is not None:
        reach = max_latency_ratio
    counts = _least_gain(recommendation, worth)
    affordable = [pair for pair in controls if _takes_at_most(reach, pair[0])]
    some = affordable or controls
    likely = [pair for pair in some if _helps(pair[1], counts, tested=pair[0].key in tested)]
    best = _best(some, likely, counts, limited=max_latency_ratio is not None)
    if best is None:
        return recommendation
    control, gain = best
    lead = compared(evidence, chosen, control)
    # it is not in the model of the placements
    if lead.gain is None:
        lead = replace(lead, gain=_lead(evidence.gain(chosen.key, bare.key), gain))
    most = alike if max_latency_ratio is None else min(alike, max_latency_ratio)
    capacity = Capacity(
        key=control.key,
        latency=control.latency,
        gain=gain,
        lead=lead,
        dearer=control.latency is not None and control.latency.ratio > most,
        in_reach=bool(affordable),
    )
    taken = capacity.in_reach and best in likely
    if taken and chosen is not bare:
        ahead = lead.gain
        taken = ahead is not None and ahead.worse >= REQUIRED and -ahead.mean >= counts
    return replace(recommendation, capacity=capacity, instead=control.key if taken else None)


def _least_gain(best: Recommendation, stated: float | None) -> float:
    """The smallest gain that counts; `stated`: by the recipe, which holds where no placement is
    likely to help.
    """
    return best.worth.size if best.worth is not None else stated or 0.0


def _helps(gain: Gain, counts: float, *, tested: bool = False) -> bool:
    """Whether a means other than attention is likely enough to help, by enough to count; `tested`:
    whether a test shows it.
    """
    return (tested or gain.probability >= SURE_ENOUGH) and gain.mean >= counts


def _takes_at_most(limit: float, network: Contender) -> bool:
    """Whether a network's latency is known, and within a limit."""
    return network.latency is not None and network.latency.ratio <= limit


def _best(
    gained: Sequence[tuple[Contender, Gain]],
    likely: Sequence[tuple[Contender, Gain]],
    counts: float,
    *,
    limited: bool,
) -> tuple[Contender, Gain] | None:
    """The best network of those that are likely enough to help, else the one with the largest gain.

    Args:
        gained: networks, each with its gain over the bare backbone.
        likely: those of them that are likely enough to help.
        counts: the smallest difference that counts, in the metric's unit.
        limited: whether the recipe limits the latency.

    Returns:
        A network and its gain; None without any.
    """
    most = max(gained, key=lambda pair: pair[1].mean, default=None)
    likely = [pair for pair in likely if pair[0].latency]
    if not likely or most is None:
        return most

    def price(pair: tuple[Contender, Gain]) -> float:
        return pair[0].latency.ratio if pair[0].latency else math.inf

    if limited:
        largest = max(gain.mean for _, gain in likely)
        return min((pair for pair in likely if largest - pair[1].mean <= counts), key=price)
    return max(likely, key=lambda pair: pair[1].mean / (max(price(pair) - 1, 0.0) + UNFELT))


def _lead(one: Gain | None, other: Gain) -> Gain | None:
    """How much better one network is than another, from what each gains over a third, as if these
    were independent.
    """
    if one is None:
        return None
    mean = one.mean - other.mean
    sd = math.hypot(one.high - one.low, other.high - other.low) / (2 * 1.96)
    better = float(cdf(mean / max(sd, 1e-300)))
    return Gain(mean, sd, mean - 1.96 * sd, mean + 1.96 * sd, better, 1 - better)
