"""What comes next: one command, what it is for, and its time."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from nas_attn.answer.answer import REQUIRED, Answer, Lacking, Option, margin_of, promising
from nas_attn.answer.cautions import CautionKind
from nas_attn.answer.forecast import runs_of_test
from nas_attn.answer.pair_tests import PairTest
from nas_attn.answer.snapshot import Means, Snapshot
from nas_attn.errors import several

# a test with more trainings of each network is not proposed
MOST_RUNS = 32
# a difference of so many standard errors is shown with 95 % certainty in 80 % of tests
NEEDED_ERRORS = 1.96 + 0.84
CONTINUE = "continue the search"


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

    purpose: str
    """In a word, for programs."""
    what: str
    """What it is for."""
    step: NextStep
    seconds: float | None = None
    """About so long; None: not known."""
    of: Option | None = field(default=None, compare=False)
    """Where the bare backbone is kept: the network that a test is to decide on."""


def next_of(answer: Answer) -> NextCommand | None:
    """What comes next; None: the study is finished, or nothing is known to help."""
    now = answer.now
    if answer.taken is not None and answer.taken.length is not None:
        return longer_study(now, answer.taken.length.longer)
    if answer.lacking is not None:
        return _continued(now, answer.lacking)
    test = answer.test
    if test is not None:
        step = _after_a_test(answer, test)
    else:
        bet = deciding_test(answer)
        few = bet is not None and bet.step.seeds <= MOST_RUNS
        step = bet if few else _after_the_search(answer)
    longer = answer.longer
    if longer is None or longer.length is None or not longer.may_help(answer.counts):
        return step
    # what is left that may help, or promises more than the network that a test would be of
    if step is None or (step.of is not None and step.of.gain.worth < longer.gain.worth):
        return longer_study(now, longer.length.longer)
    return step


def deciding_test(answer: Answer) -> NextCommand | None:
    """A test of the most promising network, where nothing is taken or likely; None without one,
    while the search may still find another, or if the noise is not known.
    """
    now = answer.now
    noise = now.noise.get(now.metric)
    may = []
    if answer.bet is not None and promising(answer.bet.gain):
        may.append(answer.bet)
    # before it was trained, it is already assumed to gain
    larger = answer.larger
    if larger is not None and answer.in_reach and larger.gain.probability >= REQUIRED:
        may.append(larger)
    settled = answer.test is not None or answer.worth is not None or not answer.keeps_bare
    if settled or not may or _unfinished(now) or noise is None or not noise.seed_sd:
        return None
    best = max(may, key=lambda one: one.gain.mean)
    # runs of one block share a part of the noise
    runs = 2 + math.ceil((NEEDED_ERRORS * noise.seed_sd / best.gain.mean) ** 2)
    step = NextStep("test", now.study, str(best.view.placement), runs)
    seconds = _test_s(answer, also=best.key, blocks=runs)
    what = f"decide by a test, {several(runs, 'training')} of each network"
    return NextCommand("decide", what, step, seconds, best)


def _after_the_search(answer: Answer) -> NextCommand | None:
    """The first test of what the answer takes, or more trials where it keeps the bare backbone and
    the search has not ended, or no placement may help by enough to count.
    """
    bet = answer.bet
    is_open = answer.worth is None and bet is not None and promising(bet.gain)
    if answer.keeps_bare and (not is_open or _unfinished(answer.now)):
        return _rest(answer.now)
    of = bet if answer.keeps_bare else None
    epochs = several(answer.now.recipe.target_training.rungs[-1], "epoch")
    what = f"test {'it' if of is None else 'that one'}, trained for {epochs}"
    return NextCommand("test", what, NextStep("test", answer.now.study), _test_s(answer), of)


def _after_a_test(answer: Answer, test: PairTest) -> NextCommand | None:
    now = answer.now
    kept = answer.keeps_bare
    better = test.word == "better"
    tested = now.find(test.key)
    smaller = tested is not None and tested.means is Means.SMALLER
    margin = margin_of(now) if smaller else 0.0
    if not kept and (better or (smaller and test.between[0] > -margin)):
        return _use(now, test.key)
    if better and tested is None:
        # it counts in no estimate before it is a candidate
        step = NextStep("resume", now.study, str(test.placement))
        seconds = now.runs_s(1, now.recipe.training.rungs[-1])
        return NextCommand("try_tested", "let the search try that one, too", step, seconds)
    is_open = test.word == "not shown" and test.difference > 0
    blocks = None
    if better or is_open or (not kept and test.word != "worse"):
        blocks = test.blocks_to_decide(margin)
    if blocks is not None and (better or not kept or blocks <= MOST_RUNS):
        step = NextStep("test", now.study, str(test.placement), blocks, again=True)
        seconds = _test_s(answer, also=test.key, blocks=blocks)
        what = f"decide by {several(blocks, 'training')} more of each network"
        return NextCommand("more_tests", what, step, seconds)
    if answer.taken is not None and test.difference + margin > 0:
        # no test with these images decides, and the search has decided
        return _use(now, answer.taken.key)
    return _rest(now, left_open=is_open and not (tested and tested.control))


def _test_s(answer: Answer, *, also: str = "", blocks: int = 0) -> float | None:
    """Seconds of a test of the finalists; the parameters are those of `runs_of_test`."""
    runs = runs_of_test(answer, also=also, blocks=blocks)
    return answer.now.runs_s(runs, answer.now.recipe.target_training.rungs[-1])


def _use(now: Snapshot, key: str) -> NextCommand:
    """To train a network for use, or to write it as a file where that is done."""
    if any(one.key == key and one.state == "done" for one in now.retrained):
        return NextCommand("export", "write it as a file", NextStep("export", now.study))
    seconds = now.runs_s(1, now.recipe.target_training.rungs[-1])
    return NextCommand("retrain", "train it for use", NextStep("retrain", now.study), seconds)


def _rest(now: Snapshot, *, left_open: bool = False) -> NextCommand | None:
    """What is left where the bare backbone is kept; None: the study is finished.

    `left_open`: whether a test has seen a gain without showing it.
    """
    cautions = {caution.kind for caution in now.cautions}
    trained = now.recipe.training
    target = now.recipe.target_training
    if CautionKind.ONLY_BASELINES in cautions:
        return _more_trials(now, "first_trials", "only baselines were tried so far: ")
    if cautions & {CautionKind.HARDLY_LEARNED, CautionKind.STILL_LEARNING}:
        # more placements would be compared as little as these
        if trained.start == target.start and trained.rungs[-1] == target.rungs[-1]:
            return longer_study(now, 2 * target.rungs[-1])
        return _anew(now)
    unfinished = _unfinished(now)
    if unfinished is None and left_open:
        why = "the test leaves open whether that one helps: "
        return _more_trials(now, "open_trials", why)
    return unfinished


def _unfinished(now: Snapshot) -> NextCommand | None:
    """The rest of the search; None if it has ended."""
    left = 0 if now.exhausted else now.planned - len(now.candidates)
    if left <= 0 and not now.counts["running"] and not now.waiting:
        return None
    seconds = now.runs_s(max(left, now.waiting, 1), now.recipe.training.rungs[-1])
    return NextCommand("continue", CONTINUE, NextStep("resume", now.study), seconds)


def longer_study(now: Snapshot, epochs: int) -> NextCommand:
    """A new study with a target of more epochs, which takes over what this one has."""
    step = NextStep("search", now.study, epochs=epochs)
    what = f"search on with trainings of {several(epochs, 'epoch')}"
    return NextCommand("longer", what, step, now.runs_s(now.planned, epochs))


def _anew(now: Snapshot) -> NextCommand:
    """Another study, as more placements would be compared as little as these."""
    what = (
        "begin a new study that trains longer, or at another rate (training.rungs,"
        " training.learning_rate): with these runs, little can be compared"
    )
    return NextCommand("anew", what, NextStep("search", now.study))


def _more_trials(now: Snapshot, purpose: str, why: str = "") -> NextCommand | None:
    """More of the search; None where nothing is left to try."""
    if now.exhausted:
        return None
    step = NextStep("resume", now.study, trials=now.planned_next)
    seconds = now.runs_s(now.planned, now.recipe.training.rungs[-1])
    what = f"{why}try {several(now.planned, 'placement')} more"
    return NextCommand(purpose, what, step, seconds)


def _continued(now: Snapshot, why: Lacking) -> NextCommand | None:
    """The rest of the search, or more of it; None where that does not help."""
    if why is Lacking.CONSTANT:
        perfect = any(same.value == 1 for same in now.constants if same.metric == now.primary)
        return None if perfect else _anew(now)
    if why is Lacking.NOT_MEASURED:
        step = NextStep("resume", now.study, here=True)
        return NextCommand("measure", "measure them on this machine", step)
    unfinished = _unfinished(now)
    if unfinished is not None:
        return unfinished
    if now.planned == 0 and not now.exhausted:
        # its time was over before the first placement: then it plans none, and would begin none
        step = NextStep("resume", now.study, trials=now.planned_next)
        return NextCommand("continue", CONTINUE, step)
    return _rest(now) or _more_trials(now, "more_trials")
