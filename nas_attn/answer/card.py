"""The card: a study's answer in ten seconds, as facts.

It answers five questions, in this order: what to do, what it brings, what it costs, how sure that
is, and what comes next. Below stand the faster alternative, the control and the cautions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from statistics import fmean

from nas_attn.answer.cautions import Caution, HardlyLearned, OnlyBaselines, StillLearning
from nas_attn.answer.decision import (
    BetTest,
    Decision,
    Early,
    Lacking,
    NextStep,
    Tested,
    decide,
    is_open,
    training_s,
)
from nas_attn.answer.finalists import epochs_of_test
from nas_attn.answer.length import LengthGain
from nas_attn.answer.pooled import PooledTest
from nas_attn.answer.recommendation import (
    NO_CHANCE,
    Capacity,
    Comparison,
    Recommendation,
    promising,
)
from nas_attn.answer.snapshot import CandidateView, Snapshot
from nas_attn.model import Gain
from nas_attn.model.features import BackboneStage, features, is_other
from nas_attn.recipe.recipe import TrainingSection
from nas_attn.space.placement import BaselineName, Placement


class CardVerdict(Enum):
    """What to do."""

    TAKE = auto()
    """Take a placement of attention."""
    KEEP = auto()
    """Keep the bare backbone."""
    CONTROL = auto()
    """Take a larger network without attention."""
    EARLY = auto()
    """The search trained too briefly to recommend anything."""
    NOTHING = auto()
    """Nothing is recommended, or not yet."""


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
    baseline: BaselineName | None = field(default=None, compare=False)
    """None: it is none."""


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
    """Whether the test shows the gain that the card states."""


class Purpose(Enum):
    """What the next command is for."""

    TEST = auto()
    """To find out whether the gain holds, trained as the target says."""
    DECIDE = auto()
    """To decide whether the most promising placement helps."""
    MORE_TESTS = auto()
    """To decide what a test left open."""
    TRY_TESTED = auto()
    """To let the search try a placement that only a test has trained, and has shown to help."""
    RETRAIN = auto()
    """To train the network for use."""
    CONTINUE = auto()
    """To continue the search."""
    FIRST_TRIALS = auto()
    """To try placements of the search's own: so far there were only baselines."""
    LONGER_FIRST = auto()
    """To try more placements as they are, although a caution asks to train longer first."""
    LONGER = auto()
    """To train longer, in a new study, as a caution asks."""
    OPEN_TRIALS = auto()
    """To try more placements, where no test with these images decides what the last left open."""
    MORE_TRIALS = auto()
    """To try more placements; nothing else is open."""


@dataclass(frozen=True, slots=True)
class NextCommand:
    """What comes next, and its time."""

    purpose: Purpose
    step: NextStep
    seconds: float | None
    """About so long; None: not known."""
    runs: int = 0
    """Trainings of each network, for a test of a bet; further placements, for more trials; epochs,
    for a longer training.
    """


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
class Card:
    """The answer of a study. What is not known, or does not apply, is None."""

    study: str
    verdict: CardVerdict
    taken: NamedNetwork | None
    """The network to take; the bare backbone if that is to be kept."""
    drawing: tuple[DrawnStage, ...]
    """Of that network, its stages as they are executed; empty for another backbone."""
    gain: Brought | None
    """Of the network to take. If the bare backbone is kept: of the most promising placement."""
    cost: Paid | None
    """Of the same network as the gain."""
    certainty: Certainty | None
    next: NextCommand | None
    faster: Alternative | None
    slower: Alternative | None
    control: Capacity | None
    control_named: NamedNetwork | None
    longer: LengthGain | None
    """What a longer training brings the bare backbone, if it is likely to bring something."""
    longer_open: LengthGain | None
    """The same, if it may bring much and the images are too few to tell."""
    bet_test: BetTest | None
    """What a test of the most promising placement takes, where the bare backbone is kept."""
    lacking: Lacking | None
    early: Early | None
    cautions: tuple[Caution, ...]
    splits: Mapping[str, Sequence[str]] | None
    """Split -> the folders of images that the recipe names for it, as with folds."""
    recommendation: Recommendation | None
    """The placement that the reasons are about."""


def card_of(now: Snapshot) -> Card:
    """The card of a study as of now."""
    decision = decide(now)
    best = decision.recommendation
    if best is None:
        return _without_answer(now, decision)
    taken = _named(now, now.taken or best.key)
    shown = _shown(now, best, decision.tested)
    gain = _gain(now, best, shown, decision.tested)
    return Card(
        study=now.study,
        verdict=_verdict(best),
        taken=taken,
        drawing=drawing_of(now, taken.placement),
        gain=gain,
        cost=_cost(now, shown),
        certainty=_certainty(now, best, shown, decision.tested),
        next=_next(now, best, decision),
        faster=_alternative(now, best, best.cheaper),
        slower=_alternative(now, best, best.slower),
        control=best.capacity,
        control_named=None if best.capacity is None else _named(now, best.capacity.key),
        longer=decision.longer,
        longer_open=decision.longer_open,
        bet_test=decision.bet_test,
        lacking=None,
        early=None,
        cautions=now.cautions,
        splits=_splits(now),
        recommendation=best,
    )


def _without_answer(now: Snapshot, decision: Decision) -> Card:
    early = decision.early
    view = None if early is None else early.best
    shown = None if view is None else _named(now, view.key)
    return Card(
        study=now.study,
        verdict=CardVerdict.NOTHING if early is None else CardVerdict.EARLY,
        taken=None,
        drawing=(),
        gain=None if shown is None else _estimated(now, shown),
        cost=None if shown is None else _cost(now, shown),
        certainty=None if shown is None else _early_certainty(now, shown),
        next=None if decision.lacking is None else _continued(now, decision.lacking),
        faster=None,
        slower=None,
        control=None,
        control_named=None,
        longer=decision.longer,
        longer_open=decision.longer_open,
        bet_test=None,
        lacking=decision.lacking,
        early=early,
        cautions=now.cautions,
        splits=_splits(now),
        recommendation=None,
    )


def _splits(now: Snapshot) -> Mapping[str, Sequence[str]] | None:
    splits = now.recipe.data.splits
    return None if splits is None else splits.by_split


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
    digits = re.search(r"\d+$", name)
    number = int(digits.group()) if digits else 0
    return re.sub(r"\d+$", "", name), number


def _named(now: Snapshot, key: str) -> NamedNetwork:
    view = now.find(key)
    # an answer names candidates of its study
    assert view is not None
    return NamedNetwork(view.key, view.label, view.placement, view.baseline_name)


def _verdict(best: Recommendation) -> CardVerdict:
    if best.instead is not None:
        return CardVerdict.CONTROL
    return CardVerdict.KEEP if best.is_bare else CardVerdict.TAKE


def _shown(now: Snapshot, best: Recommendation, tested: Tested | None) -> NamedNetwork:
    """The network whose gain and cost the card states."""
    if best.instead is not None:
        return _named(now, best.instead)
    if not best.is_bare:
        return _named(now, best.key)
    if tested is not None:
        return _tested_network(now, tested.test)
    if best.best_bet is not None:
        return _named(now, best.best_bet.key)
    return _named(now, best.key)


def _tested_network(now: Snapshot, test: PooledTest) -> NamedNetwork:
    """What was tested: any placement can be, also one that is no candidate."""
    if now.find(test.key) is not None:
        return _named(now, test.key)
    return NamedNetwork(test.key, str(test.placement), test.placement)


def _gain(
    now: Snapshot, best: Recommendation, shown: NamedNetwork, tested: Tested | None
) -> Brought | None:
    if tested is not None and tested.test.key == shown.key and _settles(best, tested):
        return _tested_gain(now, shown, tested.test)
    return _estimated(now, shown)


def _settles(best: Recommendation, tested: Tested) -> bool:
    """Whether the card states what the tests have shown, and not the estimate."""
    if best.is_bare:
        return True
    return tested.is_recommended and tested.test.word == "better"


def _estimated(now: Snapshot, shown: NamedNetwork) -> Brought | None:
    """The gain as the model of all runs estimates it; None where it is not known."""
    metric = now.metric
    view = now.find(shown.key)
    gain = None if view is None else view.gains.get(metric)
    if view is None or gain is None:
        return None
    estimate = view.estimates.get(metric)
    bare = next((one for one in now.baselines if one.is_bare), None)
    before = None if bare is None else bare.estimates.get(metric)
    return Brought(
        of=shown,
        metric=metric,
        mean=gain.mean,
        low=gain.low,
        high=gain.high,
        before=None if before is None else before.mean,
        after=None if estimate is None else estimate.mean,
        on_test_images=False,
    )


def _tested_gain(now: Snapshot, shown: NamedNetwork, test: PooledTest) -> Brought:
    low, high = test.between
    before, after = _on_test_images(now, test)
    return Brought(
        of=shown,
        metric=test.metric,
        mean=test.difference,
        low=low,
        high=high,
        before=before,
        after=after,
        on_test_images=True,
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
    now: Snapshot, best: Recommendation, shown: NamedNetwork, tested: Tested | None
) -> Certainty:
    view = now.find(shown.key)
    gain = None if view is None else view.gains.get(best.metric)
    estimate = None if view is None else view.estimates.get(best.metric)
    test = None if tested is None else tested.test
    return Certainty(
        of=shown,
        probability=None if gain is None else gain.probability,
        runs=0 if estimate is None else estimate.seeds,
        training=best.training,
        test=test,
        confirmed=tested is not None and not best.is_bare and _settles(best, tested),
    )


def _early_certainty(now: Snapshot, shown: NamedNetwork) -> Certainty:
    view = now.find(shown.key)
    metric = now.metric
    gain = None if view is None else view.gains.get(metric)
    estimate = None if view is None else view.estimates.get(metric)
    return Certainty(
        of=shown,
        probability=None if gain is None else gain.probability,
        runs=0 if estimate is None else estimate.seeds,
        training=now.recipe.training,
        test=None,
        confirmed=False,
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
    return Alternative(
        of=_named(now, other.key),
        ratio=other.latency.ratio,
        instead_of=best.latency.ratio,
        gain=_turned(other.gain),
    )


def _turned(gain: Gain) -> Gain:
    """The same difference, from the other's side."""
    return Gain(-gain.mean, gain.sd, -gain.high, -gain.low, gain.worse, gain.probability)


def _next(now: Snapshot, best: Recommendation, decision: Decision) -> NextCommand | None:
    if decision.tested is not None:
        return _after_a_test(now, best, decision.tested)
    bet = decision.bet_test
    if bet is not None and not bet.too_many:
        return NextCommand(Purpose.DECIDE, bet.step, bet.seconds, bet.runs)
    if best.is_bare and best.instead is None and not _open_bet(best):
        return _more_trials(now)
    if decision.target is not None:
        return NextCommand(Purpose.TEST, decision.target.step, decision.target.seconds)
    seconds = training_s(now, epochs_of_test(now, best))
    return NextCommand(Purpose.TEST, NextStep("test", now.study), seconds)


def _open_bet(best: Recommendation) -> bool:
    """Whether the bare backbone is kept although a placement may help by enough to count."""
    bet = best.best_bet
    return best.worth is None and bet is not None and bet.gain is not None and promising(bet.gain)


def _after_a_test(now: Snapshot, best: Recommendation, tested: Tested) -> NextCommand | None:
    step = tested.next
    if step is None:
        return _more_trials(now, left_open=is_open(tested.test))
    if step.command == "resume":
        searched = now.recipe.training.rungs[-1]
        return NextCommand(Purpose.TRY_TESTED, step, training_s(now, searched))
    if step.command == "retrain":
        epochs = now.recipe.target_training.rungs[-1]
        return NextCommand(Purpose.RETRAIN, step, training_s(now, epochs))
    seconds = None
    if step.seeds:
        seconds = training_s(
            now, epochs_of_test(now, best, also=tested.test.key, blocks=step.seeds)
        )
    return NextCommand(Purpose.MORE_TESTS, step, seconds, step.seeds)


def _more_trials(now: Snapshot, *, left_open: bool = False) -> NextCommand | None:
    """More of the search; None where nothing is left to try. `left_open`: whether a test has seen
    a gain without showing it.
    """
    purpose = _why_more_trials(now)
    if left_open and purpose is Purpose.MORE_TRIALS:
        purpose = Purpose.OPEN_TRIALS
    trained = now.recipe.training
    target = now.recipe.target_training
    as_the_target = trained.start == target.start and trained.rungs[-1] == target.rungs[-1]
    if purpose is Purpose.LONGER_FIRST and as_the_target:
        # more placements would be compared as little as these
        return NextCommand(
            Purpose.LONGER, NextStep("search", now.study), None, 2 * target.rungs[-1]
        )
    if now.exhausted:
        return None
    step = NextStep("resume", now.study, trials=now.planned_next)
    seconds = training_s(now, now.planned * now.recipe.training.rungs[-1])
    return NextCommand(purpose, step, seconds, now.planned)


def _why_more_trials(now: Snapshot) -> Purpose:
    if any(isinstance(caution, OnlyBaselines) for caution in now.cautions):
        return Purpose.FIRST_TRIALS
    if any(isinstance(caution, HardlyLearned | StillLearning) for caution in now.cautions):
        return Purpose.LONGER_FIRST
    return Purpose.MORE_TRIALS


def _continued(now: Snapshot, lacking: Lacking) -> NextCommand | None:
    """The rest of the search, or more of it; None where that does not help."""
    if lacking in (Lacking.CONSTANT, Lacking.TOO_BRIEF):
        return None
    left = 0 if now.exhausted else now.planned - len(now.candidates)
    if left > 0 or now.counts["running"] or lacking is Lacking.NOT_MEASURED:
        seconds = training_s(now, max(left, 1) * now.recipe.training.rungs[-1])
        return NextCommand(Purpose.CONTINUE, NextStep("resume", now.study), seconds)
    if now.planned == 0 and not now.exhausted:
        # its time was over before the first placement: then it plans none, and would begin none
        step = NextStep("resume", now.study, trials=now.planned_next)
        return NextCommand(Purpose.CONTINUE, step, None)
    return _more_trials(now)
