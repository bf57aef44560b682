"""The answer of a study: at most eight lines, each with a label or, for headline and warnings,
without one.
"""

from __future__ import annotations

import math
import shlex

from nas_attn.analysis.decision import (
    MOST_RUNS,
    BetTest,
    Decision,
    Early,
    Lacking,
    NextStep,
    TargetUnknown,
    Tested,
    decide,
    lacking,
)
from nas_attn.analysis.length import Brief, LengthGain
from nas_attn.analysis.snapshot import Snapshot
from nas_attn.errors import several
from nas_attn.space import other_of
from nas_attn.words import units
from nas_attn.words.lines import Line
from nas_attn.words.recommendation import answer_lines, between
from nas_attn.words.remarks import caution_text

# of the answer
MOST_LINES = 8
# lines with warnings against any conclusion
MOST_NOTES = 2


def answer(now: Snapshot, at: str | None = None) -> list[str]:
    """Recommendation, certainty and next step as lines of text; warnings come first.

    `at`: the option with the database, for a command line; None elsewhere.
    """
    return [str(line) for line in lines_of_answer(now, at)]


def lines_of_answer(now: Snapshot, at: str | None = None) -> list[Line]:
    """The same, with labels and texts apart."""
    decision = decide(now)
    notes = [Line(f"Careful: {caution_text(caution)}") for caution in now.cautions[:MOST_NOTES]]
    if decision.lacking is not None:
        return [*notes, Line(nothing_recommended(now, decision.lacking))]
    if decision.early is not None:
        return [*notes, *_early(now, decision.early)]
    lines = _recommended(now, decision, at)
    return [*notes[: max(0, MOST_LINES - len(lines))], *lines]


def nothing_recommended(now: Snapshot, why: Lacking | None = None) -> str:
    """Why there is no recommendation, or only a bare backbone that was compared with nothing; one
    sentence.
    """
    trained = several(now.recipe.training.rungs[-1], "epoch")
    match why or lacking(now):
        case Lacking.TOO_BRIEF:
            return "" if now.brief is None else _why_brief(now.brief)
        case Lacking.CONSTANT:
            return f"Nothing is recommended: {now.primary} is the same for all candidates."
        case Lacking.BARE_NOT_ENDED:
            return _without_bare("has not ended all its runs")
        case Lacking.BARE_NOT_SCORED:
            return _without_bare(f"has not been scored at {trained}")
        case Lacking.ONLY_BARE:
            count = now.counts["infeasible"]
            over = f"; {count} are over the limits" if count else ""
            return f"Nothing is recommended: only the bare backbone has been scored{over}."
        case Lacking.NONE_WITHIN:
            limit = now.recipe.limits.max_latency_ratio
            return (
                "Nothing is recommended: no scored candidate is within limits.max_latency_ratio ="
                f" {limit:g}."
            )
        case Lacking.NOTHING_SCORED:
            return f"No recommendation yet: nothing has been scored at {trained}."


def command(step: NextStep) -> str:
    """A next command as it is typed, without the database."""
    options = [f"--seeds {step.seeds}"] if step.seeds else []
    if step.placement:
        options.append(f'--also "{step.placement}"')
    if step.trials:
        options.append(f"--trials {step.trials}")
    if step.again:
        options.append("--another")
    if step.look:
        options.append("--dry-run")
    if step.why:
        options.append("--why")
    return " ".join(["nas-attn", step.command, step.study, *options])


def _without_bare(lacks: str) -> str:
    return f"No recommendation yet: the bare backbone, with which all others are compared, {lacks}."


def _recommended(now: Snapshot, decision: Decision, at: str | None) -> list[Line]:
    best = decision.recommendation
    assert best is not None
    ending = at or ""
    lines = answer_lines(best, tested=_trainings(decision.tested))
    if decision.longer is not None:
        lines.append(_longer(best.metric, decision.longer))
    if decision.tested is not None:
        lines.append(_tested(decision.tested))
    if decision.bet_test is not None:
        lines.append(_bet_test(decision.bet_test, ending))
    if decision.target is not None:
        lines.append(_target(now, decision.target, ending))
    steps = [] if decision.next is None else [f"{command(decision.next)}{ending}"]
    if at is not None:
        steps.append(f"reasons: {command(NextStep('pareto', now.study, why=True))}{at}")
    return [*lines, Line("; ".join(steps), "Next")] if steps else lines


def _trainings(tested: Tested | None) -> int | None:
    """Trainings of each network in the tests that show a gain of what is recommended; 0 if they do
    not, None without a test.
    """
    if tested is None:
        return None
    shown = tested.is_recommended and tested.test.word == "better"
    return tested.test.blocks if shown else 0


def _longer(metric: str, longer: LengthGain) -> Line:
    gained = units.difference(metric, longer.gain.mean)
    return Line(
        f"the bare network trained for {longer.longer} epochs instead of {longer.shorter}:"
        f" {gained} ({between(metric, longer.gain)}), at no latency",
        "Longer",
    )


def _tested(tested: Tested) -> Line:
    test = tested.test
    word = "no difference shown"
    if test.word != "not shown":
        word = f"{test.word} than the bare backbone"
    about = "" if tested.is_recommended else f"{other_of(test.placement) or test.placement}: "
    interval = " to ".join(units.signed(test.metric, end) for end in test.between)
    size = f"{units.difference(test.metric, test.difference)} ({interval})"
    looks = "" if test.looks == 1 else f" in {test.looks} validations"
    text = f"{about}{word}, {size}; {test.blocks} trainings each{looks}, test images"
    if tested.probability is not None:
        odds = units.probability(tested.probability)
        text += f"; by all runs together {odds} likely to help"
    return Line(text, "Tested")


def _bet_test(test: BetTest, at: str) -> Line:
    if test.too_many:
        return Line(
            f"not worth a test: to show a gain of this size takes more than {MOST_RUNS} trainings"
            " of each network",
            "Decide",
        )
    time = "" if test.seconds is None else f" (about {units.duration(test.seconds)})"
    return Line(
        f"train each network {test.runs} times as the target says{time}: {command(test.step)}{at}",
        "Decide",
    )


def _target(now: Snapshot, target: TargetUnknown, at: str) -> Line:
    cost = f" in about {units.duration(target.seconds)}" if target.seconds else ""
    trained = now.recipe.target_training.said
    return Line(
        f"the gain {trained} is not known yet: {command(target.step)}{at} finds out{cost}",
        "Target",
    )


def _why_brief(brief: Brief) -> str:
    """Why a search that trained more briefly than the target recommends nothing."""
    needed = f", the target for {brief.target}"
    if not brief.known:
        needed = f"; the network needs at least {brief.target // 2}, how many is not known"
    epochs = several(brief.searched, "epoch")
    return f"Nothing is recommended: the search trained for {epochs} only{needed}."


def _early(now: Snapshot, early: Early) -> list[Line]:
    """What is known after a training that is too short for a recommendation."""
    brief = early.brief
    view = early.best
    metric = now.metric
    lines = [Line(_why_brief(brief))]
    if view is not None:
        gain = view.gains[metric]
        at = "" if view.latency is None else f", at {view.latency.ratio:.2f} ×"
        gained = f"{units.difference(metric, gain.mean)} ({between(metric, gain)})"
        epochs = several(brief.searched, "epoch")
        lines.append(
            Line(f"{view.label}: {gained} after {epochs}{at}; this may be gone at the end", "Early")
        )
    costs = [
        f"{view.label.removeprefix('uniform ')} {view.latency.ratio:.2f} ×"
        for view in early.priced
        if view.latency is not None
    ]
    if costs:
        lines.append(Line(f"latency with a module at every site: {', '.join(costs)}", "Costs"))
    if brief.enough_s is not None:
        lines.append(Line(_enough(now, brief, brief.enough_s), "Time"))
    return lines


def _enough(now: Snapshot, brief: Brief, seconds: float) -> str:
    """The time in which runs as the target says would fit, and the command."""
    source, _, place = now.recipe.data.name.partition(":")
    what = shlex.quote(place) if source == "folder" else "RECIPE"
    length = f" --target {brief.target}" if brief.known else ""
    minutes = math.ceil(seconds / 60)
    typed = f"nas-attn search {what}{length} --minutes {minutes} --name {now.study}-long"
    return f"about {units.duration(seconds)} would do for runs that train to the end: {typed}"
