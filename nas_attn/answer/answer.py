"""The answer of a study: what to do, what it brings, what it costs, how sure that is, what follows.

It is computed once; terminal, report, notebook, dashboard and JSON are rendered from it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum, auto
from statistics import fmean

from nas_attn.answer.length import LengthGain, may_bring_much
from nas_attn.answer.means import (
    AttentionVerdict,
    Option,
    attention_verdict,
    leading_length,
    longer_training,
    options,
    recommended,
)
from nas_attn.answer.next_step import (
    MOST_RUNS,
    Lacking,
    NextCommand,
    Purpose,
    after_a_test,
    after_the_search,
    continued,
    deciding_test,
    long_enough,
    longer_study,
)
from nas_attn.answer.pooled import PooledTest
from nas_attn.answer.recommending import (
    NO_CHANCE,
    REQUIRED,
    Comparison,
    Recommendation,
)
from nas_attn.answer.snapshot import CandidateView, Means, Snapshot
from nas_attn.model import Gain
from nas_attn.model.features import BackboneStage, features, is_other
from nas_attn.recipe.recipe import TrainingSection
from nas_attn.space.placement import BARE, Placement


class AnswerVerdict(Enum):
    """What to do."""

    TAKE = auto()
    """Take a placement of attention."""
    KEEP = auto()
    """Keep the bare backbone."""
    CONTROL = auto()
    """Take a larger network without attention."""
    SMALLER = auto()
    """Take a smaller network, bare or with attention, that loses nothing that counts."""
    LONGER = auto()
    """Train the bare backbone longer."""
    EARLY = auto()
    """The search trained too briefly to recommend anything."""
    NOTHING = auto()
    """Nothing is recommended, or not yet."""


MEANS = {
    AnswerVerdict.TAKE: Means.ATTENTION,
    AnswerVerdict.CONTROL: Means.LARGER,
    AnswerVerdict.SMALLER: Means.SMALLER,
    AnswerVerdict.LONGER: Means.LONGER,
}
"""What a user does who follows an answer."""


@dataclass(frozen=True, slots=True)
class PlacedModule:
    """A module at a stage."""

    type: str
    choice: str
    """In notation, with its knobs."""
    block: str = ""
    """`block2`; empty: the whole stage."""


@dataclass(frozen=True, slots=True)
class DrawnStage:
    """A stage of the network, with what goes where."""

    name: str
    role: str
    """`backbone`, `neck` or `head`."""
    modules: tuple[PlacedModule, ...]


@dataclass(frozen=True, slots=True)
class NamedNetwork:
    """A network by the label that all tables use, and its placement."""

    key: str
    label: str
    """`uniform eca`, `trial 12`, `control dwconv`; `none` for the bare backbone; the placement
    of what is no candidate.
    """
    placement: Placement


@dataclass(frozen=True, slots=True)
class Brought:
    """What a network brings over the bare backbone, in the metric's unit; positive is better."""

    of: NamedNetwork
    metric: str
    mean: float
    low: float
    """Of the 95 % interval."""
    high: float
    before: float | None
    """The bare backbone's value."""
    after: float | None
    """The network's value."""
    on_test_images: bool


@dataclass(frozen=True, slots=True)
class Paid:
    """What a network costs."""

    of: NamedNetwork
    ratio: float
    """Latency, in times of the bare backbone's."""
    low: float
    high: float
    before_ms: float
    after_ms: float
    machine: str
    measured: bool
    """False: predicted from other placements."""


@dataclass(frozen=True, slots=True)
class Certainty:
    """How sure the gain is."""

    of: NamedNetwork
    probability: float | None
    """That it helps; None: not known."""
    runs: int
    """Of this network, behind the estimate."""
    training: TrainingSection | None
    """How these runs were trained."""
    test: PooledTest | None
    """All tests of the network, or, if the bare backbone is kept, of the best that was tested."""
    confirmed: bool
    """Whether the test shows the gain that the answer states."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another network beside the one that is taken."""

    of: NamedNetwork
    ratio: float
    """Latency, in times of the bare backbone's."""
    instead_of: float
    """That of the network that is taken."""
    gain: Gain
    """Over the network that is taken; in most cases a loss."""

    @property
    def may_be_chance(self) -> bool:
        return max(self.gain.probability, self.gain.worse) < NO_CHANCE


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer of a study. What is not known, or does not apply, is None."""

    now: Snapshot
    verdict: AnswerVerdict
    lacking: Lacking | None = None
    """Why nothing is recommended."""
    best: Recommendation | None = None
    """The placement that the reasons are about; what is recommended early, too, if only the bare
    backbone was scored, or if the search trained too briefly.
    """
    taken: NamedNetwork | None = None
    """The network to take; the bare backbone if that is to be kept."""
    drawing: tuple[DrawnStage, ...] = ()
    """Of that network, its stages as they are executed; empty for another backbone."""
    gain: Brought | None = None
    """Of the network to take. If the bare backbone is kept: of the most promising placement."""
    cost: Paid | None = None
    """Of the same network as the gain."""
    certainty: Certainty | None = None
    next: NextCommand | None = None
    faster: Alternative | None = None
    slower: Alternative | None = None
    attention: AttentionVerdict | None = None
    """None where no placement was scored."""
    also: tuple[Option, ...] = ()
    """What else is likely to help, the largest gain first."""
    longer: LengthGain | None = None
    """What a longer training brings the bare backbone, if it is likely to bring something."""
    longer_open: LengthGain | None = None
    """The same, if it may bring much and the images are too few to tell."""
    too_many_runs: bool = False
    """Whether a test of the most promising placement takes more than MOST_RUNS trainings."""

    @property
    def means(self) -> Means:
        """What a user does who follows the headline."""
        return MEANS.get(self.verdict, Means.NOTHING)

    @property
    def keeps_bare(self) -> bool:
        return self.verdict is AnswerVerdict.KEEP

    @property
    def taken_key(self) -> str | None:
        """Key of the network that the answer takes, or of the bare backbone where nothing else was
        scored; None without one.
        """
        if self.best is None or self.now.brief is not None:
            return None
        if self.verdict is AnswerVerdict.LONGER and self.taken is not None:
            return self.taken.key
        return self.best.taken

    @property
    def compared_keys(self) -> tuple[str, ...]:
        """The network that the answer takes, the bare backbone and the best of the others, as far
        as they exist, each once.
        """
        now = self.now
        metric = now.primary or ""
        if self.taken_key is None or metric not in now.evidence:
            return ()
        bare = [] if now.bare is None else [now.bare.key]
        able = []
        for v in now.candidates:
            if v.state == "scored" and metric in v.estimates:
                able.append(v)
        first = list(dict.fromkeys([self.taken_key, *bare]))
        others = [view.key for view in now.ordered(able) if view.key not in first]
        return (*first, *others[:1])


def answer_of(now: Snapshot) -> Answer:
    """Computes the answer of a study as of now."""
    return answer_with(now, recommended(now))


def answer_with(now: Snapshot, best: Recommendation | None) -> Answer:
    """Computes the answer of a study that recommends `best`."""
    leading = None if best is None else leading_length(now, best)
    if best is None or (leading is None and _only_bare(now, best)):
        why = _lacking(now, best)
        return Answer(
            now=now,
            verdict=AnswerVerdict.NOTHING,
            lacking=why,
            best=best,
            next=continued(now, why),
        )
    if leading is not None:
        return _longer_first(now, best, leading)
    if now.brief is not None:
        return _early(now, best)
    test = _test_that_counts(now, best)
    bet = None
    if test is None and best.worth is None and best.instead is None:
        bet = deciding_test(now, best)
    if test is not None:
        step = after_a_test(now, best, test)
    elif bet is not None and bet.runs <= MOST_RUNS:
        step = bet
    else:
        step = after_the_search(now, best)
    longer = longer_training(now, best, REQUIRED)
    if step is None and longer is not None:
        # what is left that may help
        step = longer_study(now, longer.longer)
    taken = _named(now, best.taken)
    shown = _shown(now, best, test, step)
    verdict = _verdict(now, best)
    may = longer is None and may_bring_much(now.longer, now.metric)
    means = MEANS.get(verdict, Means.NOTHING)
    return Answer(
        now=now,
        verdict=verdict,
        best=best,
        taken=taken,
        drawing=drawing_of(now, taken.placement),
        gain=_gain(now, best, shown, test),
        cost=_cost(now, shown),
        certainty=_certainty(now, best, shown, test),
        next=step,
        faster=_alternative(now, best, best.cheaper),
        slower=_alternative(now, best, best.slower),
        attention=attention_verdict(now, best),
        also=tuple(option for option in options(now, best) if option.means is not means),
        longer=longer,
        longer_open=now.longer if may else None,
        too_many_runs=bet is not None and bet.runs > MOST_RUNS,
    )


def _longer_first(now: Snapshot, best: Recommendation, longer: LengthGain) -> Answer:
    """A longer training gains more than any network of the study."""
    gain = longer.gain
    # nothing is recommended without it
    assert now.bare is not None
    bare = _named(now, now.bare.key)
    brief = now.brief is not None
    return Answer(
        now=now,
        verdict=AnswerVerdict.LONGER,
        lacking=Lacking.TOO_BRIEF if brief else None,
        best=best,
        taken=None if brief else bare,
        drawing=() if brief else drawing_of(now, BARE),
        gain=Brought(bare, best.metric, gain.mean, gain.low, gain.high, None, None, False),
        cost=_cost(now, bare),
        certainty=Certainty(bare, gain.probability, longer.seeds, None, None, confirmed=False),
        next=long_enough(now) if brief else longer_study(now, longer.longer),
        attention=attention_verdict(now, best),
        also=tuple(one for one in options(now, best) if one.means is not Means.LONGER),
        longer=longer,
    )


def _early(now: Snapshot, best: Recommendation) -> Answer:
    """The best-looking placement after a training that is too short for a recommendation."""
    looking_best = next((view for view in now.ordered(now.able_to_win) if not view.is_bare), None)
    early = Answer(
        now=now,
        verdict=AnswerVerdict.EARLY,
        lacking=Lacking.TOO_BRIEF,
        best=best,
        attention=attention_verdict(now, best),
        next=long_enough(now),
    )
    if looking_best is None or best.metric not in looking_best.gains:
        return early
    shown = _named(now, looking_best.key)
    return replace(
        early,
        gain=_estimated(now, shown),
        cost=_cost(now, shown),
        certainty=_certainty(now, best, shown, None),
    )


# ------------------------------------------------------------------------- what is recommended


def _only_bare(now: Snapshot, best: Recommendation) -> bool:
    """Whether nothing but bare backbones was compared."""
    return best.placement == BARE and all(view.placement == BARE for view in now.finished)


def _lacking(now: Snapshot, best: Recommendation | None) -> Lacking:
    """Why there is no recommendation, or only a bare backbone that was compared with nothing."""
    if now.brief is not None and best is not None:
        return Lacking.TOO_BRIEF
    if any(constant.metric == now.primary for constant in now.constants):
        return Lacking.CONSTANT
    if now.bare is not None and now.bare.state == "running":
        if now.bare.rung == len(now.recipe.training.rungs) - 1:
            return Lacking.BARE_NOT_ENDED
        return Lacking.BARE_NOT_SCORED
    if now.lacks_latency:
        return Lacking.NOT_MEASURED
    if best is not None:
        return Lacking.ONLY_BARE
    limited = now.recipe.limits.bounds_latency
    if limited and (now.counts["scored"] or now.counts["infeasible"]):
        return Lacking.NONE_WITHIN
    return Lacking.NOTHING_SCORED


def _verdict(now: Snapshot, best: Recommendation) -> AnswerVerdict:
    if best.instead is not None:
        view = now.find(best.instead)
        smaller = view is not None and view.means is Means.SMALLER
        return AnswerVerdict.SMALLER if smaller else AnswerVerdict.CONTROL
    return AnswerVerdict.KEEP if best.is_bare else AnswerVerdict.TAKE


def _test_that_counts(now: Snapshot, best: Recommendation) -> PooledTest | None:
    """All tests of the network that the answer takes; if that is the bare backbone, of the best of
    the networks that were tested.
    """
    tests = [test for test in now.pooled if test.metric == now.primary]
    # of several lengths of the training, the longest
    mine = [test for test in tests if test.key == best.taken]
    if mine:
        return max(mine, key=lambda test: test.epochs)
    if best.keeps_bare:
        return max(tests, key=lambda test: test.difference, default=None)
    return None


def _shows_gain(best: Recommendation, test: PooledTest) -> bool:
    """Whether a test shows that the network that is taken helps."""
    return test.key == best.taken and test.word == "better"


def _shown(
    now: Snapshot, best: Recommendation, test: PooledTest | None, step: NextCommand | None
) -> NamedNetwork:
    """The network whose gain and cost the answer states: where the bare backbone is kept, the one
    that a test is to decide on, or that was tested, else the most promising placement.
    """
    if step is not None and step.purpose is Purpose.DECIDE:
        return _named(now, step.key)
    if not best.keeps_bare:
        return _named(now, best.taken)
    if test is not None and now.find(test.key) is None:
        # any placement can be tested, also one that is no candidate
        return NamedNetwork(test.key, str(test.placement), test.placement)
    if test is not None:
        return _named(now, test.key)
    return _named(now, best.best_bet.key if best.best_bet else best.key)


def _named(now: Snapshot, key: str) -> NamedNetwork:
    view = now.find(key)
    # an answer names candidates of its study
    assert view is not None
    return NamedNetwork(view.key, view.label, view.placement)


# --------------------------------------------------------------------------- gain, cost, certainty


def _gain(
    now: Snapshot, best: Recommendation, shown: NamedNetwork, test: PooledTest | None
) -> Brought | None:
    """What the tests have shown where they decide, else the estimate."""
    if test is None or test.key != shown.key or not (best.is_bare or _shows_gain(best, test)):
        return _estimated(now, shown)
    low, high = test.between
    before, after = _on_test_images(now, test)
    return Brought(shown, test.metric, test.difference, low, high, before, after, True)


def _estimated(now: Snapshot, shown: NamedNetwork) -> Brought | None:
    """The gain as the model of all runs estimates it; None where it is not known."""
    metric = now.metric
    view = now.find(shown.key)
    gain = None if view is None else view.gains.get(metric)
    if view is None or gain is None:
        return None
    before = None if now.bare is None else now.bare.estimates.get(metric)
    after = view.estimates.get(metric)
    return Brought(
        of=shown,
        metric=metric,
        mean=gain.mean,
        low=gain.low,
        high=gain.high,
        before=None if before is None else before.mean,
        after=None if after is None else after.mean,
        on_test_images=False,
    )


def _on_test_images(now: Snapshot, test: PooledTest) -> tuple[float | None, float | None]:
    """(the bare backbone's value, the network's), the means over all tests of the pair."""
    bare: list[float] = []
    network: list[float] = []
    for result in now.validations:
        family = result.family
        alike = family.metric == test.metric and family.epochs == test.epochs
        if alike and family.bare is not None and test.key in result.values:
            bare += result.values[family.bare]
            network += result.values[test.key]
    if not bare or not network:
        return None, None
    return fmean(bare), fmean(network)


def _cost(now: Snapshot, shown: NamedNetwork) -> Paid | None:
    view = now.find(shown.key)
    if view is None or view.latency is None:
        return None
    latency = view.latency
    return Paid(
        of=shown,
        ratio=latency.ratio,
        low=latency.low,
        high=latency.high,
        before_ms=latency.reference_ms,
        after_ms=latency.ms,
        machine="" if now.latency is None else now.latency.machine,
        measured=latency.measured,
    )


def _certainty(
    now: Snapshot, best: Recommendation, shown: NamedNetwork, test: PooledTest | None
) -> Certainty:
    view = now.find(shown.key)
    gain = None if view is None else view.gains.get(best.metric)
    estimate = None if view is None else view.estimates.get(best.metric)
    return Certainty(
        of=shown,
        probability=None if gain is None else gain.probability,
        runs=0 if estimate is None else estimate.seeds,
        training=best.training,
        test=test,
        confirmed=test is not None and _shows_gain(best, test),
    )


def _alternative(
    now: Snapshot, best: Recommendation, other: Comparison | None
) -> Alternative | None:
    """A network beside the recommended placement; None without one, or if its latency is not known,
    or if the answer does not take that placement.
    """
    if other is None or other.gain is None or other.latency is None or best.latency is None:
        return None
    if best.is_bare or best.instead is not None:
        return None
    gain = other.gain
    # the same difference, from the other's side
    turned = Gain(-gain.mean, gain.sd, -gain.high, -gain.low, gain.worse, gain.probability)
    return Alternative(_named(now, other.key), other.latency.ratio, best.latency.ratio, turned)


# ------------------------------------------------------------------------------------- drawing


def drawing_of(now: Snapshot, placement: Placement) -> tuple[DrawnStage, ...]:
    """The stages of the study's backbone, each with the modules of a placement; empty for another
    backbone.
    """
    if is_other(placement):
        return ()
    placed: dict[str, list[PlacedModule]] = {}
    for feature in features(placement):
        stage, _, block = feature.place.partition(".")
        module = PlacedModule(feature.type, feature.choice, block)
        placed.setdefault(stage, []).append(module)
    stages = now.stages or _stages_in_use(now.candidates)
    return tuple(
        DrawnStage(stage.name, stage.role, tuple(placed.get(stage.name, ()))) for stage in stages
    )


def _stages_in_use(views: Iterable[CandidateView]) -> tuple[BackboneStage, ...]:
    """The stages that any candidate names, where the study does not know its network's."""
    names = {
        feature.place.partition(".")[0]
        for view in views
        if not is_other(view.placement)
        for feature in features(view.placement)
    }
    roles = {"neck": "neck", "head": "head"}
    ordered = sorted(names, key=_natural)
    return tuple(BackboneStage(name, roles.get(name[:4], "backbone")) for name in ordered)


def _natural(name: str) -> tuple[str, int]:
    """Orders `stage2` before `stage10`."""
    word = name.rstrip("0123456789")
    return word, int(name[len(word) :] or 0)
