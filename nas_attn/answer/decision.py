"""The answer of a study as data: what is recommended or why nothing is, what a test has shown, and
the next step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, auto

from nas_attn.answer.eligible import able_to_win, finished, latency_ratio, unmeasured
from nas_attn.answer.finalists import epochs_of_test
from nas_attn.answer.length import Brief, LengthGain
from nas_attn.answer.modelling import searched_as_target
from nas_attn.answer.pooled import PooledTest, blocks_to_decide
from nas_attn.answer.recommendation import REQUIRED, Comparison, Recommendation, promising
from nas_attn.answer.snapshot import CandidateView, Snapshot
from nas_attn.model import TARGET_RUNG
from nas_attn.recipe.tables import is_share
from nas_attn.space.placement import BARE

# a test with more trainings of each network is not proposed
MOST_RUNS = 32
# of an accuracy or the like: what twice as many epochs brought on small folders of photographs
LARGE_GAIN = 0.02
# a difference of so many standard errors is shown with 95 % certainty in 80 % of tests
NEEDED_ERRORS = 1.96 + 0.84


@dataclass(frozen=True, slots=True)
class NextStep:
    """A next command."""

    command: str
    study: str
    placement: str = ""
    """Empty: what the answer takes."""
    seeds: int = 0
    """0: as many as the target says."""
    look: bool = False
    """Whether it only says what it would do."""
    why: bool = False
    """Whether it says the reasons, too."""
    again: bool = False
    """Whether it is one more test of what was tested before."""
    trials: int = 0
    """Candidates in all, of a search that goes on; 0: as many as it has."""


class Lacking(Enum):
    """Why nothing is recommended."""

    TOO_BRIEF = auto()
    """The search trained more briefly than the target."""
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


@dataclass(frozen=True, slots=True)
class Early:
    """What is known after a training that is too short for a recommendation."""

    brief: Brief
    best: CandidateView | None
    """The best-looking placement with a known gain."""
    priced: tuple[CandidateView, ...]
    """The uniform baselines whose latency is known, the fastest first."""


@dataclass(frozen=True, slots=True)
class Tested:
    """What all tests have shown of the network that the answer takes; if that is the bare backbone,
    of the best of the networks that were tested.
    """

    test: PooledTest
    is_recommended: bool
    """Whether it is of the recommended placement, and the answer takes it."""
    probability: float | None
    """That it helps, by all runs of the study, where its tests do not decide; else None."""
    next: NextStep | None
    """None after a negative answer."""


@dataclass(frozen=True, slots=True)
class BetTest:
    """What a test of the best bet takes."""

    runs: int
    """Trainings of each network."""
    seconds: float | None
    """About how long they take in all; None: the pace is not known."""
    step: NextStep

    @property
    def too_many(self) -> bool:
        """Whether it is not worth it."""
        return self.runs > MOST_RUNS


@dataclass(frozen=True, slots=True)
class TargetUnknown:
    """No run was trained as the target says; this step would do it."""

    seconds: float | None
    step: NextStep


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The answer of a study. One of `lacking`, `early` and `recommendation` is not None."""

    study: str
    lacking: Lacking | None = None
    early: Early | None = None
    recommendation: Recommendation | None = None
    tested: Tested | None = None
    longer: LengthGain | None = None
    """What a longer training brings the bare network, if it is likely to bring something."""
    longer_open: LengthGain | None = None
    """The same, if it may bring much and the images are too few to tell."""
    bet_test: BetTest | None = None
    target: TargetUnknown | None = None
    next: NextStep | None = None
    """The next command, where none of the lines before names one."""


def decide(now: Snapshot) -> Decision:
    """The answer of a study as of now."""
    best = now.recommendation
    if best is None or _only_bare(now, best):
        return Decision(study=now.study, lacking=lacking(now))
    if now.brief is not None:
        return Decision(study=now.study, early=_early(now, now.brief, best))
    tested = _tested(now)
    longer = _longer(now, best)
    longer_open = None
    if longer is None:
        longer_open = _longer_open(now)
    if tested is not None:
        return Decision(
            study=now.study,
            recommendation=best,
            tested=tested,
            longer=longer,
            longer_open=longer_open,
            next=tested.next,
        )
    bet = None
    if best.worth is None and best.instead is None:
        bet = best.best_bet
    bet_test = None
    if bet is not None:
        bet_test = _test_of(now, best, bet)
    target = None
    if bet_test is None:
        target = _target(now, best)
    open_ = bet_test is not None or target is not None
    return Decision(
        study=now.study,
        recommendation=best,
        longer=longer,
        longer_open=longer_open,
        bet_test=bet_test,
        target=target,
        next=None if open_ else NextStep("test", now.study, look=True),
    )


def _only_bare(now: Snapshot, best: Recommendation) -> bool:
    """Whether nothing but bare networks was compared."""
    return best.placement == BARE and all(view.placement == BARE for view in finished(now))


def lacking(now: Snapshot) -> Lacking:
    """Why there is no recommendation, or only a bare backbone that was compared with nothing."""
    if now.brief is not None and now.recommendation is not None:
        return Lacking.TOO_BRIEF
    if any(constant.metric == now.primary for constant in now.constants):
        return Lacking.CONSTANT
    bare = running_bare(now)
    if bare is not None:
        scored = bare.rung == len(now.recipe.training.rungs) - 1
        if scored:
            return Lacking.BARE_NOT_ENDED
        return Lacking.BARE_NOT_SCORED
    if lacks_latency(now):
        return Lacking.NOT_MEASURED
    if now.recommendation is not None:
        return Lacking.ONLY_BARE
    limited = now.recipe.limits.max_latency_ratio is not None
    if limited and (now.counts["scored"] or now.counts["infeasible"]):
        return Lacking.NONE_WITHIN
    return Lacking.NOTHING_SCORED


def lacks_latency(now: Snapshot) -> list[CandidateView]:
    """Candidates that are trained and wait for their latencies."""
    return unmeasured(now.recipe, now.candidates, measured=now.latency is not None)


def running_bare(now: Snapshot) -> CandidateView | None:
    """The bare backbone, while it is being trained."""
    bare = (view for view in now.candidates if view.is_bare and view.state == "running")
    return next(bare, None)


def training_s(now: Snapshot, epochs: int) -> float | None:
    """Seconds that so many epochs of training take, by the pace of the study's runs; None before
    the first.
    """
    longest: dict[tuple[str, str, int], int] = {}
    seconds = 0.0
    for view in now.candidates:
        for point in view.scores:
            run = (view.key, point.purpose, point.seed)
            longest[run] = max(longest.get(run, 0), point.epochs)
            seconds += point.wall_s
    if longest:
        return epochs * seconds / sum(longest.values())
    return None


def _early(now: Snapshot, brief: Brief, best: Recommendation) -> Early:
    looking_best = next((view for view in now.ordered(able_to_win(now)) if not view.is_bare), None)
    if looking_best is not None and best.metric not in looking_best.gains:
        looking_best = None
    priced = [
        view
        for view in sorted(now.baselines, key=latency_ratio)
        if view.latency is not None and not view.is_bare
    ]
    return Early(brief, looking_best, tuple(priced))


def _longer(now: Snapshot, best: Recommendation) -> LengthGain | None:
    """What a longer training of the bare network brings, if it is likely to bring something: it
    costs no latency.
    """
    longer = now.longer
    smallest = 0.0
    if best.worth:
        smallest = best.worth.size
    worth = smallest or now.recipe.answer.worth or 0.0
    if longer is None or longer.gain.probability < REQUIRED or longer.gain.mean < worth:
        return None
    return longer


def _longer_open(now: Snapshot) -> LengthGain | None:
    """What a longer training brings the bare network, if it is an accuracy or the like whose
    interval holds a large gain.
    """
    longer = now.longer
    if longer is None or not is_share(now.primary or "") or longer.gain.high < LARGE_GAIN:
        return None
    # an interval without zero tells: then the gain is too small to count beside that of attention
    return longer if longer.gain.low <= 0 else None


def pooled_test(now: Snapshot, key: str) -> PooledTest | None:
    """The tests of a network by the metric that the answer is about; of several lengths of the
    training, the longest.
    """
    mine = [test for test in now.pooled if test.key == key and test.metric == now.primary]
    return max(mine, key=lambda test: test.epochs, default=None)


def _tested(now: Snapshot) -> Tested | None:
    if now.taken is None or now.recommendation is None:
        return None
    bare = next((view.key for view in now.baselines if view.is_bare), None)
    test = pooled_test(now, now.taken)
    if test is None and now.taken == bare:
        tests = [pooled for pooled in now.pooled if pooled.metric == now.primary]
        test = max(tests, key=lambda pooled: pooled.difference, default=None)
    if test is None:
        return None
    recommended = test.key == now.taken and now.recommendation.instead is None
    if now.taken != bare and test.word == "better":
        return Tested(test, recommended, None, NextStep("retrain", now.study))
    if now.taken == bare and test.word != "better":
        return Tested(test, recommended, None, _deciding_blocks(now, test))
    view = now.find(test.key)
    if view is None and test.word == "better":
        # it counts in no estimate before it is a candidate
        step = NextStep("resume", now.study, str(test.placement))
        return Tested(test, recommended, None, step)
    gain = None
    if view is not None:
        gain = view.gains.get(test.metric)
    probability = None
    if gain is not None:
        probability = gain.probability
    return Tested(test, recommended, probability, _more_blocks(now, test))


def _deciding_blocks(now: Snapshot, test: PooledTest) -> NextStep | None:
    """Where the bare network is kept: more of a test that leaves open whether a placement helps,
    if not too many.
    """
    blocks = None
    if is_open(test):
        blocks = blocks_to_decide(test)
    if blocks is None or blocks > MOST_RUNS:
        return None
    return NextStep("test", now.study, str(test.placement), blocks, again=True)


def is_open(test: PooledTest) -> bool:
    """Whether a test has seen a gain without showing it."""
    return test.word == "not shown" and test.difference > 0


def _more_blocks(now: Snapshot, test: PooledTest) -> NextStep:
    """One more test of the same pair: with those before it would show such a difference."""
    blocks = blocks_to_decide(test)
    if blocks is None:
        return NextStep("test", now.study, look=True)
    return NextStep("test", now.study, str(test.placement), blocks, again=True)


def _test_of(now: Snapshot, best: Recommendation, bet: Comparison) -> BetTest | None:
    """What it takes to test a bet; None if it is none, or the noise is not known."""
    noise = now.noise.get(now.primary or "")
    if bet.gain is None or not promising(bet.gain) or noise is None or not noise.seed_sd:
        return None
    # runs of one block share a part of the noise
    runs = 2 + math.ceil((NEEDED_ERRORS * noise.seed_sd / bet.gain.mean) ** 2)
    view = now.find(bet.key)
    placement = bet.name if view is None else str(view.placement)
    seconds = training_s(now, epochs_of_test(now, best, also=bet.key, blocks=runs))
    return BetTest(runs, seconds, NextStep("test", now.study, placement, runs))


def _target(now: Snapshot, best: Recommendation) -> TargetUnknown | None:
    """That no run was trained as the target says; None if there is such a run."""
    at_target = any(model.rung >= TARGET_RUNG for model in now.evidence.values())
    if at_target or searched_as_target(now.recipe):
        return None
    seconds = training_s(now, epochs_of_test(now, best))
    return TargetUnknown(seconds, NextStep("test", now.study))
