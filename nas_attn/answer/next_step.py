"""What comes next: one command, what it is for, and its time."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum, auto

from nas_attn.answer.cautions import CautionKind
from nas_attn.answer.means import loses_nothing, margin_of
from nas_attn.answer.pooled import PooledTest, blocks_to_decide
from nas_attn.answer.recommending import REQUIRED, Comparison, Recommendation, promising
from nas_attn.answer.snapshot import Means, Snapshot
from nas_attn.answer.validation_forecast import runs_of_test
from nas_attn.model import Gain

# a test with more trainings of each network is not proposed
MOST_RUNS = 32
# a difference of so many standard errors is shown with 95 % certainty in 80 % of tests
NEEDED_ERRORS = 1.96 + 0.84


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


class Purpose(Enum):
    """What the next command is for."""

    TEST = auto()
    """To find out whether the gain holds, trained as the target says."""
    DECIDE = auto()
    """To decide whether the most promising network helps."""
    MORE_TESTS = auto()
    """To decide what a test left open."""
    TRY_TESTED = auto()
    """To let the search try a placement that only a test has trained, and has shown to help."""
    RETRAIN = auto()
    """To train the network for use."""
    EXPORT = auto()
    """To write the network that was trained for use as a file."""
    CONTINUE = auto()
    """To continue the search."""
    MEASURE = auto()
    """To measure here the latencies that candidates lack."""
    FIRST_TRIALS = auto()
    """To try placements of the search's own: so far there were only baselines."""
    ANEW = auto()
    """To begin a study that trains longer, as this one's runs are too short to compare much."""
    LONGER = auto()
    """To train longer, with the target's length changed."""
    OPEN_TRIALS = auto()
    """To try more placements, where no test with these images decides what the last left open."""
    MORE_TRIALS = auto()
    """To try more placements, where none is known yet."""


@dataclass(frozen=True, slots=True)
class NextStep:
    """A next command."""

    command: str
    study: str
    placement: str = ""
    """Empty: what the answer takes."""
    seeds: int = 0
    """0: as many as the target says."""
    again: bool = False
    """Whether it is one more test of what was tested before."""
    trials: int = 0
    """Candidates in all, of a search that goes on; 0: as many as it has."""
    epochs: int = 0
    """Of the target of a new study, which takes over what this one has; 0: of this one."""
    minutes: int = 0
    """Of a search that goes on; 0: no limit."""
    here: bool = False
    """Whether this machine measures latencies from now on."""

    def __str__(self) -> str:
        """The command as it is typed, without the database."""
        options = [f"--seeds {self.seeds}"] if self.seeds else []
        if self.placement:
            options.append(f'--placement "{self.placement}"')
        if self.trials:
            options.append(f"--trials {self.trials}")
        if self.epochs:
            options.append(f"--set target.epochs={self.epochs}")
        if self.minutes:
            options.append(f"--time {self.minutes}m")
        if self.again:
            options.append("--another")
        if self.here:
            options.append("--here")
        # a longer training is a new study
        study = f"--from {self.study}" if self.epochs else self.study
        return " ".join(["nas-attn", self.command, study, *options])


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
    key: str = field(default="", compare=False)
    """Of the network that a test is to decide on."""


def is_open(test: PooledTest) -> bool:
    """Whether a test has seen a gain without showing it."""
    return test.word == "not shown" and test.difference > 0


def deciding_test(now: Snapshot, best: Recommendation) -> NextCommand | None:
    """A test of the most promising network; None without one, while the search may still find
    another, or if the noise is not known.
    """
    noise = now.noise.get(now.primary or "")
    open_ones = _open_networks(best)
    if not open_ones or _unfinished(now) or noise is None or not noise.seed_sd:
        return None
    network, gain = max(open_ones, key=lambda pair: pair[1].mean)
    # runs of one block share a part of the noise
    runs = 2 + math.ceil((NEEDED_ERRORS * noise.seed_sd / gain.mean) ** 2)
    seconds = _test_s(now, best, also=network.key, blocks=runs)
    step = NextStep("test", now.study, str(network.placement), runs)
    return NextCommand(Purpose.DECIDE, step, seconds, runs, network.key)


def _open_networks(best: Recommendation) -> list[tuple[Comparison, Gain]]:
    """The best bet and the larger network in reach, as far as they may help, each with its gain
    over the bare backbone.
    """
    found = []
    bet = best.best_bet
    if bet is not None and bet.gain is not None and promising(bet.gain):
        found.append((bet, bet.gain))
    control = best.capacity
    # before it was trained, it is already assumed to gain
    if control is not None and control.in_reach and control.gain.probability >= REQUIRED:
        found.append((control.lead, control.gain))
    return found


def after_the_search(now: Snapshot, best: Recommendation) -> NextCommand | None:
    """The first test of what the answer takes, or more trials where it keeps the bare backbone and
    the search has not ended, or no placement may help by enough to count.
    """
    bet = best.best_bet
    is_bet_open = (
        best.worth is None and bet is not None and bet.gain is not None and promising(bet.gain)
    )
    if best.keeps_bare and (not is_bet_open or _unfinished(now)):
        return _rest(now)
    seconds = _test_s(now, best)
    return NextCommand(Purpose.TEST, NextStep("test", now.study), seconds)


def after_a_test(now: Snapshot, best: Recommendation, test: PooledTest) -> NextCommand | None:
    better = test.word == "better"
    if (better and not best.keeps_bare) or loses_nothing(now, best.taken, test.between[0]):
        return _use(now, test.key)
    tested = now.find(test.key)
    if better and tested is None:
        # it counts in no estimate before it is a candidate
        step = NextStep("resume", now.study, str(test.placement))
        seconds = now.runs_s(1, now.recipe.training.rungs[-1])
        return NextCommand(Purpose.TRY_TESTED, step, seconds)
    margin = margin_of(now) if tested is not None and tested.means is Means.SMALLER else 0.0
    blocks = None
    if better or is_open(test) or (not best.keeps_bare and test.word != "worse"):
        blocks = blocks_to_decide(test, margin)
    if blocks is None or (best.keeps_bare and not better and blocks > MOST_RUNS):
        if not best.keeps_bare and test.difference + margin > 0:
            # no test with these images decides, and the search has decided
            return _use(now, best.taken)
        return _rest(now, left_open=is_open(test) and not (tested and tested.control))
    step = NextStep("test", now.study, str(test.placement), blocks, again=True)
    seconds = _test_s(now, best, also=test.key, blocks=blocks)
    return NextCommand(Purpose.MORE_TESTS, step, seconds, blocks)


def _test_s(
    now: Snapshot, best: Recommendation, *, also: str | None = None, blocks: int | None = None
) -> float | None:
    """Seconds of a test of the finalists; the parameters are those of `runs_of_test`."""
    runs = runs_of_test(now, best, also=also, blocks=blocks)
    return now.runs_s(runs, now.recipe.target_training.rungs[-1])


def _use(now: Snapshot, key: str) -> NextCommand:
    """To train a network for use, or to write it as a file where that is done."""
    if any(one.key == key and one.state == "done" for one in now.retrained):
        return NextCommand(Purpose.EXPORT, NextStep("export", now.study), None)
    seconds = now.runs_s(1, now.recipe.target_training.rungs[-1])
    return NextCommand(Purpose.RETRAIN, NextStep("retrain", now.study), seconds)


def _rest(now: Snapshot, *, left_open: bool = False) -> NextCommand | None:
    """What is left where the bare backbone is kept; None: the study is finished.

    `left_open`: whether a test has seen a gain without showing it.
    """
    cautions = {caution.kind for caution in now.cautions}
    trained = now.recipe.training
    target = now.recipe.target_training
    if CautionKind.ONLY_BASELINES in cautions:
        return _more_trials(now, Purpose.FIRST_TRIALS)
    if cautions & {CautionKind.HARDLY_LEARNED, CautionKind.STILL_LEARNING}:
        # more placements would be compared as little as these
        if trained.start == target.start and trained.rungs[-1] == target.rungs[-1]:
            return longer_study(now, 2 * target.rungs[-1])
        return _anew(now)
    unfinished = _unfinished(now)
    if unfinished is None and left_open:
        return _more_trials(now, Purpose.OPEN_TRIALS)
    return unfinished


def _unfinished(now: Snapshot) -> NextCommand | None:
    """The rest of the search; None if it has ended."""
    left = 0 if now.exhausted else now.planned - len(now.candidates)
    if left <= 0 and not now.counts["running"] and not now.waiting:
        return None
    seconds = now.runs_s(max(left, now.waiting, 1), now.recipe.training.rungs[-1])
    return NextCommand(Purpose.CONTINUE, NextStep("resume", now.study), seconds)


def longer_study(now: Snapshot, epochs: int) -> NextCommand:
    """A new study with a target of more epochs, which takes over what this one has."""
    step = NextStep("search", now.study, epochs=epochs)
    return NextCommand(Purpose.LONGER, step, now.runs_s(now.planned, epochs), epochs)


def _anew(now: Snapshot) -> NextCommand:
    """Another study, as more placements would be compared as little as these."""
    return NextCommand(Purpose.ANEW, NextStep("search", now.study), None)


def long_enough(now: Snapshot) -> NextCommand | None:
    """A new study with runs as long as the target, where the search has trained more briefly; None:
    it has not.
    """
    brief = now.brief
    if brief is None:
        return None
    minutes = 0 if brief.enough_s is None else math.ceil(brief.enough_s / 60)
    step = NextStep("search", now.study, epochs=brief.target, minutes=minutes)
    return NextCommand(Purpose.LONGER, step, brief.enough_s, brief.target)


def _more_trials(now: Snapshot, purpose: Purpose) -> NextCommand | None:
    """More of the search; None where nothing is left to try."""
    if now.exhausted:
        return None
    step = NextStep("resume", now.study, trials=now.planned_next)
    seconds = now.runs_s(now.planned, now.recipe.training.rungs[-1])
    return NextCommand(purpose, step, seconds, now.planned)


def continued(now: Snapshot, why: Lacking) -> NextCommand | None:
    """The rest of the search, or more of it; None where that does not help."""
    if why is Lacking.TOO_BRIEF:
        return long_enough(now)
    if why is Lacking.CONSTANT:
        perfect = any(same.value == 1 for same in now.constants if same.metric == now.primary)
        return None if perfect else _anew(now)
    if why is Lacking.NOT_MEASURED:
        return NextCommand(Purpose.MEASURE, NextStep("resume", now.study, here=True), None)
    unfinished = _unfinished(now)
    if unfinished is not None:
        return unfinished
    if now.planned == 0 and not now.exhausted:
        # its time was over before the first placement: then it plans none, and would begin none
        step = NextStep("resume", now.study, trials=now.planned_next)
        return NextCommand(Purpose.CONTINUE, step, None)
    rest = _rest(now)
    return rest or _more_trials(now, Purpose.MORE_TRIALS)
