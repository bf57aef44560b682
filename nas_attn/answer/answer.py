"""The answer of a study: what to do for a better network, by whichever means. It uses estimates
from the search: a suggestion, not a claim.

The rule. Options are the networks scored at the last rung with a known gain over the bare backbone,
and a longer training of that. Only networks within the recipe's limits count.
1. Attention: of the placements on the front (with a latency limit: of all within it; where one has
   run twice, without those that ran once), the best bet has the largest gain, weighted with its
   probability. If the gain is less likely than 70 %, from scratch than 80 %, or if the expected
   loss of keeping the bare backbone does not count, none is chosen. Else it is the fastest one that
   is likely enough, and whose estimate is less than what counts (`worth`) below the best bet's.
   `worth` is the recipe's, else a tenth of the best bet's gain or of one run's noise.
2. A larger network, in reach: within the limit of the latency; without one, at no more latency than
   attention that is chosen, else at up to twice the bare backbone's. It is taken if it gains with a
   probability of 99.5 %, by enough to count, and if it is likely better than the attention that is
   chosen. Of several, with a limit, the fastest of those that give up too little against the best
   to count; without one, the one that gains most for its latency.
3. A smaller network, the fastest one that is surely faster than the bare backbone: where nothing
   above is likely, if it is not worse by more than what counts; else if it gains as a larger one
   has to, and gives up too little against the network above to count.
4. A longer training, if it gains with a probability of 99.5 %, by enough to count. It leads where
   it gains more than the network above; nothing tells what both together gain.
5. Else the bare backbone is kept.
A test decides on a network of 2 or 3: one that shows a gain stands for the 99.5 %, one that shows a
loss that counts rules it out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto

from nas_attn.answer.drawing import DrawnStage, drawing_of
from nas_attn.answer.length import LengthGain
from nas_attn.answer.pair_tests import PairTest
from nas_attn.answer.snapshot import CandidateView, Means, Snapshot
from nas_attn.model import TARGET_RUNG, Evidence, Gain
from nas_attn.model.hypotheses import cdf
from nas_attn.recipe.recipe import TrainingSection
from nas_attn.recipe.tables import is_cost, is_share
from nas_attn.space.placement import BARE, Placement
from nas_attn.storage.records import Latency

# probability of being better than the bare backbone that a placement needs
REQUIRED = 0.70
# the same from scratch: with 70 %, attention is taken in 7 % of simulated studies in which nothing
# gains (research/notes/trust.md)
REQUIRED_FROM_SCRATCH = 0.80
# probability of a gain that a means other than attention needs; attention is what was asked for.
# With 95 % for each, some means were taken in 19 % of simulated studies from scratch in which none
# gains (research/notes/trust.md)
SURE_ENOUGH = 0.995
# probability of being better that a best bet needs
PROMISING = 0.5
# share of the best gain, or of one run's noise, that is the smallest difference that counts
COUNTS = 0.1
# a control with at most so many times a placement's latency costs the same
LIKE_LATENCY = 1.05
# times of the bare backbone's latency that a network may take where nothing says what is too much:
# who would pay more has a larger backbone to begin with
MOST_LATENCY = 2.0
# share of the latency that a user does not feel: to be cheaper than that brings nothing
UNFELT = 0.1
# of an accuracy or the like: a smaller loss does not count where the recipe does not say what does
EQUAL_WITHIN = 0.005


class Lacking(Enum):
    """Why nothing is recommended."""

    CONSTANT = auto()
    """The metric is the same for all candidates."""
    BARE_NOT_SCORED = auto()
    """The bare backbone, with which all are compared, has no score at the last rung yet."""
    BARE_NOT_ENDED = auto()
    """It has not ended all its runs."""
    NOT_MEASURED = auto()
    """Candidates that were trained lack their latencies."""
    ONLY_BARE = auto()
    """Nothing but the bare backbone has been scored."""
    NONE_WITHIN = auto()
    """No scored candidate is within the recipe's limit of the latency."""
    NOTHING_SCORED = auto()


class Reason(Enum):
    """Why a placement of attention is chosen, or none."""

    NOTHING_LIKELY = auto()
    """No placement is likely enough to be better than the bare backbone."""
    OUT_OF_REACH = auto()
    """No scored placement is within the latency limit."""
    TOO_SMALL = auto()
    """The gain of the best bet does not count."""
    LARGEST_GAIN = auto()
    FASTEST = auto()
    """The fastest of those that give up too little against the best bet to count."""


@dataclass(frozen=True, slots=True)
class Option:
    """Something that a user can do: take a network, or train the bare backbone longer."""

    means: Means
    view: CandidateView
    """The network; of a longer training, the bare backbone."""
    gain: Gain
    """Over the bare backbone."""
    needed: float
    """Probability of a gain that the means needs."""
    tested: PairTest | None = None
    length: LengthGain | None = None

    @property
    def key(self) -> str:
        return self.view.key

    @property
    def label(self) -> str:
        return self.view.label

    @property
    def placement(self) -> Placement:
        return self.view.placement

    @property
    def ratio(self) -> float:
        """Latency, in times of the bare backbone's; infinite where it is not known."""
        return 1.0 if self.length else self.view.latency_ratio

    @property
    def shown_to_gain(self) -> bool:
        """Whether a test shows it."""
        return self.tested is not None and self.tested.word == "better"

    def helps(self, counts: float) -> bool:
        """Whether it is likely enough to help, by enough to count, or is shown to."""
        likely = self.shown_to_gain or self.gain.probability >= self.needed
        return likely and self.gain.mean >= counts

    def may_help(self, counts: float) -> bool:
        """Whether it is as likely to help as attention has to be."""
        return self.gain.probability >= REQUIRED and self.gain.mean >= counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer of a study. Texts look the rest up in its snapshot."""

    now: Snapshot
    lacking: Lacking | None = None
    """Why nothing is recommended."""
    taken: Option | None = None
    """None: the bare backbone is kept, or nothing is recommended."""
    options: tuple[Option, ...] = ()
    """All networks with a known gain, and the longer training."""
    chosen: Option | None = None
    """Of the placements of attention, whichever means leads; None: none is likely enough."""
    bet: Option | None = None
    """The best bet of them."""
    larger: Option | None = None
    """The best larger network, of those in reach if there are any."""
    in_reach: bool = False
    """Whether the answer could take that one."""
    reason: Reason | None = None
    """Why a placement is chosen, or none; None where none was judged."""
    worth: float | None = None
    """The smallest difference that counts; None: nothing is likely to help."""

    @property
    def means(self) -> Means:
        """What a user does who follows the headline."""
        return Means.NOTHING if self.taken is None else self.taken.means

    @property
    def keeps_bare(self) -> bool:
        return self.lacking is None and self.taken is None

    @property
    def verdict(self) -> str:
        """What to do, in a word, as JSON has it."""
        if self.means is Means.NOTHING and self.lacking is not None:
            return "nothing"
        return {
            Means.NOTHING: "keep",
            Means.ATTENTION: "take",
            Means.LARGER: "control",
        }.get(self.means, str(self.means))

    @property
    def drawing(self) -> tuple[DrawnStage, ...]:
        """The stages of the network to take, as they are executed; empty for another backbone."""
        if self.lacking is not None:
            return ()
        return drawing_of(self.now, BARE if self.taken is None else self.taken.placement)

    @property
    def attention(self) -> Option | None:
        """The placement that is chosen, or promises most; None where none was scored."""
        return self.chosen or self.bet

    @property
    def longer(self) -> Option | None:
        """The longer training of the bare backbone; None: not tried."""
        return next((one for one in self.options if one.means is Means.LONGER), None)

    @property
    def counts(self) -> float:
        """The smallest gain that counts."""
        return self.worth if self.worth is not None else self.now.recipe.answer.worth or 0.0

    @property
    def judged(self) -> bool:
        """Whether placements were compared with the bare backbone."""
        return self.reason is not None

    @property
    def taken_key(self) -> str | None:
        """Key of the network that the answer takes, or of the bare backbone where nothing else was
        scored; None without one.
        """
        if not self.judged or self.now.bare is None:
            return None
        return self.now.bare.key if self.taken is None else self.taken.key

    @property
    def test(self) -> PairTest | None:
        """All tests of the network that is taken; if that is the bare backbone, of the best of the
        networks that were tested. Of several lengths of the training, the longest.
        """
        tests = [test for test in self.now.pooled if test.metric == self.now.primary]
        mine = [test for test in tests if test.key == self.taken_key]
        if mine:
            return max(mine, key=lambda test: test.epochs)
        if self.keeps_bare:
            return max(tests, key=lambda test: test.difference, default=None)
        return None

    @property
    def confirmed(self) -> bool:
        """Whether a test shows that the network that is taken helps."""
        test = self.test
        return test is not None and test.key == self.taken_key and test.word == "better"

    @property
    def training(self) -> TrainingSection | None:
        """How the runs were trained that the estimates are of."""
        model = self.now.evidence.get(self.now.metric)
        return None if model is None else _training(self.now, model)

    def over(self, one: Option, other: Option) -> Gain | None:
        """The gain of one network over another."""
        return _difference(self.now.evidence[self.now.metric], one, other)

    @property
    def faster(self) -> Option | None:
        """Beside the placement that is chosen: the fastest one that is surely faster, likely to
        help and loses less than twice what counts, else the most promising of these.
        """
        if self.chosen is None or self.bet is None:
            return None
        quick = [
            one
            for one in self._placements
            if one.gain.probability >= one.needed and _surely_faster(one, self.chosen)
        ]
        level = [one for one in quick if self._given_up(one) < 2 * self.counts]
        if level:
            return min(level, key=lambda one: one.ratio)
        return max(quick, key=lambda one: one.gain.worth, default=None)

    @property
    def slower(self) -> Option | None:
        """Beside the placement that is chosen: of those on the front that are surely slower, the
        one with the largest gain; None if none gains more.
        """
        if self.chosen is None:
            return None
        slow = [
            one
            for one in self.options
            if one.view.on_front_of_placements and _surely_faster(self.chosen, one)
        ]
        best = max(slow, key=lambda one: one.gain.mean, default=None)
        return best if best is not None and best.gain.mean > self.chosen.gain.mean else None

    @property
    def also(self) -> tuple[Option, ...]:
        """What else is likely to help, the largest gain first; of each means one."""
        found = [self.chosen, self.longer, *self._quicker[:1]]
        if self.in_reach or self.now.latency_limit is None:
            found.append(self.larger)
        likely = [
            one
            for one in found
            if one is not None
            and one.means is not self.means
            and (one is self.chosen or one.helps(self.counts))
        ]
        return tuple(sorted(likely, key=lambda one: -one.gain.mean))

    @property
    def _placements(self) -> list[Option]:
        return [one for one in _pool(self.now, self.options) if one.means is Means.ATTENTION]

    @property
    def _quicker(self) -> list[Option]:
        """Smaller networks that help, the largest gain first."""
        found = [one for one in _smaller(self.now, self.options) if one.helps(self.counts)]
        return sorted(found, key=lambda one: -one.gain.mean)

    def _given_up(self, one: Option) -> float:
        assert self.bet is not None
        return _given_up(self.now, self.bet, one)

    @property
    def compared_keys(self) -> tuple[str, ...]:
        """The network that the answer takes, the bare backbone and the best of the others, as far
        as they exist, each once.
        """
        now = self.now
        if self.taken_key is None or now.bare is None:
            return ()
        first = list(dict.fromkeys([self.taken_key, now.bare.key]))
        scored = [view for view in now.candidates if view.state == "scored"]
        able = [view for view in scored if now.metric in view.estimates and view.key not in first]
        return (*first, *(view.key for view in now.ordered(able)[:1]))


def answer_of(now: Snapshot) -> Answer:
    """Computes the answer of a study as of now."""
    bare = now.bare
    model = now.evidence.get(now.primary or "")
    constant = any(same.metric == now.primary for same in now.constants)
    if model is None or constant or bare is None or bare.key not in {v.key for v in now.finished}:
        return Answer(now=now, lacking=_lacking(now))
    options = _options(now, model, bare)
    found = _attention(now, Answer(now=now, options=options), model)
    if found.reason is None:
        return Answer(now=now, lacking=_lacking(now))
    waiting = (view.beats_none or 0.0 for view in now.lacks_latency if not view.control)
    if found.chosen is None and max(waiting, default=0.0) >= _bar(now, model):
        return Answer(now=now, lacking=Lacking.NOT_MEASURED)
    found = _with_larger(found)
    found = replace(found, taken=_smaller_instead(found) or found.taken)
    return _with_length(found)


def required_from(start: str) -> float:
    """The probability of being better than the bare backbone that a placement needs, by what
    training starts from.
    """
    return REQUIRED_FROM_SCRATCH if start == "scratch" else REQUIRED


def promising(gain: Gain) -> bool:
    """Whether a placement is more likely to help than not."""
    return gain.mean > 0 and gain.probability >= PROMISING


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


# ---------------------------------------------------------------------------------- options


def _options(now: Snapshot, model: Evidence, bare: CandidateView) -> tuple[Option, ...]:
    bar = _bar(now, model)
    tests = {test.key: test for test in now.pooled if test.metric == now.primary}
    options = []
    for view in now.finished:
        gain = view.gains.get(model.metric)
        if gain is not None and not view.is_bare:
            needed = bar if view.means is Means.ATTENTION else SURE_ENOUGH
            options.append(Option(view.means, view, gain, needed, tests.get(view.key)))
    if now.longer:
        gain = now.longer.gain
        options.append(Option(Means.LONGER, bare, gain, SURE_ENOUGH, length=now.longer))
    return tuple(options)


def _training(now: Snapshot, model: Evidence) -> TrainingSection:
    recipe = now.recipe
    return recipe.target_training if model.rung >= TARGET_RUNG else recipe.training


def _bar(now: Snapshot, model: Evidence) -> float:
    return required_from(_training(now, model).start)


def _lacking(now: Snapshot) -> Lacking:
    """Why there is no recommendation."""
    if any(constant.metric == now.primary for constant in now.constants):
        return Lacking.CONSTANT
    bare = now.bare
    if bare is not None and bare.state == "running":
        at_last = bare.rung == now.recipe.training.last_rung
        return Lacking.BARE_NOT_ENDED if at_last else Lacking.BARE_NOT_SCORED
    if now.lacks_latency:
        return Lacking.NOT_MEASURED
    if now.recipe.limits.bounds_latency and (now.counts["scored"] or now.counts["infeasible"]):
        return Lacking.NONE_WITHIN
    return Lacking.BARE_NOT_SCORED if now.finished else Lacking.NOTHING_SCORED


# -------------------------------------------------------------------------------- attention


def _pool(now: Snapshot, options: Sequence[Option]) -> list[Option]:
    """The placements that may be taken."""
    limit = now.latency_limit
    pool = [
        one
        for one in options
        if one.means is Means.ATTENTION
        and (one.view.on_front_of_placements if limit is None else one.ratio <= limit)
    ]
    repeated = [one for one in pool if one.view.estimates[now.metric].seeds > 1]
    return repeated or pool


def _may_keep(now: Snapshot, pool: Sequence[Option]) -> bool:
    """Whether the bare backbone may be kept: with a limit, which it always meets; without one,
    unless a placement that is surely cheaper dominates it: one that costs the same and was luckier
    does not push it out.
    """
    assert now.bare is not None
    if now.latency_limit is not None or now.bare.on_front_of_placements:
        return True
    bare = Option(Means.NOTHING, now.bare, Gain(), 0.0)
    return not any(one.gain.mean >= 0 and _surely_cheaper(now, one, bare) for one in pool)


def _attention(now: Snapshot, answer: Answer, model: Evidence) -> Answer:
    """The answer with what is chosen of the placements; without a reason if nothing may be
    taken.
    """
    pool = _pool(now, answer.options)
    keeps = _may_keep(now, pool)
    best = max(pool, key=lambda one: one.gain.worth, default=None)
    if best is None and not keeps:
        return answer
    limit = now.latency_limit
    if best is None or best.gain.worth < 0 or best.gain.probability < best.needed:
        tried = [one for one in answer.options if one.means is Means.ATTENTION]
        within = [one for one in tried if one.ratio <= (limit or math.inf) or not one.view.latency]
        if best is None or best.gain.worth < 0:
            best = max(within, key=lambda one: one.gain.probability, default=None)
        out_of_reach = limit is not None and not pool and any(one.view.latency for one in tried)
        chosen = None if keeps else best
        reason = Reason.OUT_OF_REACH if out_of_reach else Reason.NOTHING_LIKELY
        return replace(answer, bet=best, chosen=chosen, taken=chosen, reason=reason)
    worth = now.recipe.answer.worth
    if worth is None:
        worth = COUNTS * max(best.gain.mean, model.noise.paired_sd or 0.0)
    answer = replace(answer, bet=best, worth=worth)
    if keeps and _expected_loss(best.gain) < worth:
        return replace(answer, reason=Reason.TOO_SMALL)
    able = [one for one in pool if one.gain.probability >= one.needed and one.view.latency]
    level = [one for one in able if _given_up(now, best, one) < worth]
    chosen = best
    if level and best.view.latency:
        chosen = min(level, key=lambda one: one.ratio)
    reason = Reason.LARGEST_GAIN if chosen is best else Reason.FASTEST
    return replace(answer, chosen=chosen, taken=chosen, reason=reason)


def _given_up(now: Snapshot, best: Option, other: Option) -> float:
    """The difference of the estimates of the best one and another; infinite if nothing is known of
    it.
    """
    gain = now.evidence[now.metric].gain(best.key, other.key)
    return 0.0 if best is other else math.inf if gain is None else gain.mean


def _expected_loss(gain: Gain) -> float:
    """The mean loss from not taking a network, over the cases in which it is better."""
    if gain.sd == 0:
        return max(gain.mean, 0.0)
    z = gain.mean / gain.sd
    return gain.mean * float(cdf(z)) + gain.sd * math.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)


def surely_faster(one: Latency, other: Latency) -> bool:
    """Whether `one` is faster with 95 % certainty."""
    half = math.hypot(one.high - one.low, other.high - other.low) / 2
    return other.ratio - one.ratio > 1.64 / 1.96 * half


def _surely_faster(one: Option, other: Option) -> bool:
    mine = one.view.latency
    its = other.view.latency
    return mine is not None and its is not None and surely_faster(mine, its)


def _surely_cheaper(now: Snapshot, one: Option, other: Option) -> bool:
    """Whether `one` is faster with 95 % certainty, or has less of another cost."""
    costs = one.view.cost, other.view.cost
    names = [name for name in now.objectives if is_cost(name) and name != "latency"]
    less = costs[0] and costs[1] and any(costs[0][name] < costs[1][name] for name in names)
    return bool(less) or _surely_faster(one, other)


# ------------------------------------------------------------------------------- other means


def _shown_to_lose(now: Snapshot, one: Option) -> bool:
    """Whether a test shows that a network is worse than the bare backbone by what counts."""
    test = one.tested
    return test is not None and test.word == "worse" and test.between[0] <= -margin_of(now)


def _with_larger(answer: Answer) -> Answer:
    """The answer with the best larger network, which it takes if that is likely better."""
    now = answer.now
    limit = now.latency_limit
    chosen = answer.chosen
    reach = MOST_LATENCY
    if limit is not None:
        reach = limit
    elif chosen is not None:
        reach = LIKE_LATENCY * chosen.ratio
    larger = [
        one for one in answer.options if one.means is Means.LARGER and not _shown_to_lose(now, one)
    ]
    affordable = [one for one in larger if one.view.latency and one.ratio <= reach]
    some = affordable or larger
    best = max(some, key=lambda one: one.gain.mean, default=None)
    likely = [one for one in some if one.view.latency and one.helps(answer.counts)]
    if likely and limit is not None:
        largest = max(one.gain.mean for one in likely)
        level = [one for one in likely if largest - one.gain.mean <= answer.counts]
        best = min(level, key=lambda one: one.ratio)
    elif likely:
        best = max(likely, key=lambda one: one.gain.mean / (max(one.ratio - 1, 0.0) + UNFELT))
    answer = replace(answer, larger=best, in_reach=bool(affordable))
    if best is None or not affordable or best not in likely:
        return answer
    if chosen is not None:
        ahead = answer.over(best, chosen)
        if ahead is None or ahead.probability < REQUIRED or ahead.mean < answer.counts:
            return answer
    return replace(answer, taken=best)


def _smaller(now: Snapshot, options: Sequence[Option]) -> list[Option]:
    """The smaller networks that are surely faster, and are not shown to lose."""
    return [
        one
        for one in options
        if one.means is Means.SMALLER
        and one.view.latency is not None
        and one.view.latency.high < 1
        and not _shown_to_lose(now, one)
    ]


def _smaller_instead(answer: Answer) -> Option | None:
    """The fastest of the smaller networks that are as good as what is taken; None without one."""
    now = answer.now
    taken = answer.taken
    level = []
    for one in _smaller(now, answer.options):
        if taken is None:
            good = one.gain.low > -margin_of(now)
        else:
            good = one.helps(answer.counts) and taken.gain.mean - one.gain.mean < answer.counts
        if good and one.ratio <= (now.latency_limit or math.inf):
            level.append(one)
    return min(level, key=lambda one: one.ratio, default=None)


def _with_length(answer: Answer) -> Answer:
    """The answer with a longer training, if it gains more than what is taken; without any where
    nothing but the bare backbone was scored.
    """
    now = answer.now
    longer = answer.longer
    taken = answer.taken
    most = -math.inf if taken is None else taken.gain.mean
    if longer is not None and longer.helps(answer.counts) and longer.gain.mean > most:
        return replace(answer, taken=longer)
    if all(view.placement == BARE for view in now.finished):
        lacking = Lacking.NOT_MEASURED if now.lacks_latency else Lacking.ONLY_BARE
        return replace(answer, taken=None, lacking=lacking)
    return answer


def _difference(model: Evidence, one: Option, other: Option) -> Gain | None:
    """How much better one network is than another; where they are not in one model, from what each
    gains over the bare backbone, as if these were independent.
    """
    gain = model.gain(one.key, other.key)
    if gain is not None:
        return gain
    mean = one.gain.mean - other.gain.mean
    widths = (of.gain.high - of.gain.low for of in (one, other))
    return Gain.normal(mean, math.hypot(*widths) / (2 * 1.96))
