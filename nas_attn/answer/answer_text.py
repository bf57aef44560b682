"""The answer in words: a headline, a drawing of the network, four rows, and what stands below.

Terminal, notebook, report, model card and notes all say it in this order. Numbers and units are
separated by a plain space.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from nas_attn.answer.answer import (
    Alternative,
    Answer,
    AnswerVerdict,
    Brought,
    Certainty,
    DrawnStage,
)
from nas_attn.answer.candidates import short_name
from nas_attn.answer.headline import called, headline
from nas_attn.answer.length import LengthGain
from nas_attn.answer.means import SURE_ENOUGH, AttentionVerdict, chance_of_no_loss, margin_of
from nas_attn.answer.next_step import MOST_RUNS, Lacking, NextCommand, Purpose
from nas_attn.answer.recommending import REQUIRED, Capacity, Recommendation
from nas_attn.answer.snapshot import Means, Snapshot
from nas_attn.errors import listed, several
from nas_attn.recipe import units
from nas_attn.space.placement import BARE
from nas_attn.space.search_space import other_of
from nas_attn.system.wrapping import Line

# marks a module in the drawing
MODULE = "▣"
LINK = " ─ "
# labels of a placement: of what is to be taken, and of what the rows above are about if not
PLACEMENT = "Placement"
NETWORK = "Network"
THAT_ONE = "That one"
# what the user's own code does, where the study's evaluator is a program
TRAINED_BY_USER = (Purpose.TEST, Purpose.DECIDE, Purpose.MORE_TESTS, Purpose.RETRAIN)


def answer_lines(answer: Answer, at: str | None = None) -> list[str]:
    """The answer as plain lines: the headline, the drawing, then each row and its command.

    `at`: as in `below`.
    """
    lines = [headline(answer)]
    if answer.drawing:
        lines.append(drawing_line(answer.drawing))
    for row in (*rows(answer, at), *below(answer, at)):
        lines.append(str(row))
        if row.command:
            lines.append(str(Line(row.command, " ")))
    return lines


def drawing_line(stages: Sequence[DrawnStage]) -> str:
    """The network in a line: `stem ─ stage1 ▣eca ─ stage2 ─ head`."""
    parts = ["stem"]
    for stage in stages:
        modules = (
            f"{MODULE}{module.type}{f'@{module.block}' if module.block else ''}"
            for module in stage.modules
        )
        parts.append(" ".join([stage.name, *modules]))
    if all(stage.role != "head" for stage in stages):
        parts.append("head")
    return LINK.join(parts)


# ----------------------------------------------------------------------------------------- rows


def rows(answer: Answer, at: str | None = None) -> list[Line]:
    """Gain, Cost, Sure, Next, as far as there is something to say, always in this order.

    Args:
        answer: of the study.
        at: the option with the database, for commands.
    """
    sure = ""
    if answer.certainty is not None and answer.certainty.of.placement != BARE:
        sure = _sure(answer, answer.certainty)
    said = [Line(_gain(answer), "Gain"), Line(_cost(answer), "Cost"), Line(sure, "Sure")]
    if answer.verdict is AnswerVerdict.LONGER and answer.longer is not None:
        said = _longer_rows(answer.now.metric, answer.longer)
    step = _next(answer, at or "")
    return [line for line in said if line.text] + ([] if step is None else [step])


def _longer_rows(metric: str, longer: LengthGain) -> list[Line]:
    """What a longer training brings, what it costs, and how sure that is."""
    times = f"{longer.longer / longer.shorter:.2g} times"
    if longer.longer == 2 * longer.shorter:
        times = "twice"
    trainings = several(longer.seeds, "training")
    odds = units.probability(longer.gain.probability)
    return [
        Line(_gained_by_length(metric, longer), "Gain"),
        Line(f"no latency; a training takes about {times} as long", "Cost"),
        Line(f"{odds} likely to help; from {trainings} of each length", "Sure"),
    ]


def _gain(answer: Answer) -> str:
    gain = answer.gain
    if gain is None:
        taken = answer.verdict in (AnswerVerdict.TAKE, AnswerVerdict.CONTROL)
        return "not known: the noise has not been measured yet" if taken else ""
    size = units.gained(gain.metric, gain.mean, gain.low, gain.high)
    change = _change(gain)
    # a name before it ends in a colon already
    listed_change = ", ".join(filter(None, (size, change)))
    if answer.verdict is AnswerVerdict.EARLY:
        return f"{called(gain.of)}: {listed_change}, so far, and perhaps gone at the end"
    if answer.keeps_bare:
        why = "tested" if gain.on_test_images else "the most promising"
        return f"{why}, {called(gain.of)}: {listed_change}"
    return f"{size}: {change}" if change else size


def _change(gain: Brought) -> str:
    """`accuracy 69.8 → 72.6 %`; empty if one of them is unknown."""
    if gain.before is None or gain.after is None:
        return ""
    half = (gain.high - gain.low) / 2
    values = units.change(gain.metric, gain.before, gain.after, half)
    where = " of the test images" if gain.on_test_images else ""
    return f"{units.title(gain.metric)} {values}{where}"


def _cost(answer: Answer) -> str:
    cost = answer.cost
    if cost is None:
        return ""
    on = f" on {cost.machine}" if cost.machine else ""
    if cost.of.placement == BARE:
        return f"none: {milliseconds(cost.after_ms)}{on}"
    predicted = "" if cost.measured else ", predicted, not measured"
    times = f"{_two_digits(cost.before_ms)} → {milliseconds(cost.after_ms)}"
    amount = f"{units.times(cost.ratio)} the latency: {times}{on}{predicted}"
    return f"none; that one would take {amount}" if answer.keeps_bare else amount


def milliseconds(time_ms: float) -> str:
    """`4.3 ms`, `0.29 ms`, `120 ms`: two digits, or three from 100 on."""
    return f"{_two_digits(time_ms)} ms"


def _two_digits(time_ms: float) -> str:
    if time_ms >= 99.5:
        return f"{time_ms:.0f}"
    return f"{time_ms:#.2g}".rstrip(".")


def _sure(answer: Answer, sure: Certainty) -> str:
    odds = "not known whether it helps"
    if sure.probability is not None:
        # the headline is about another network
        that = "that it helps" if answer.keeps_bare else "to help"
        odds = f"{units.probability(sure.probability)} likely {that}"
    taken = answer.now.find(sure.of.key)
    gain = None if taken is None else taken.gains.get(answer.now.metric)
    if answer.verdict is AnswerVerdict.SMALLER and gain is not None and gain.low <= 0:
        chance = units.probability(chance_of_no_loss(answer.now, gain))
        margin = units.size(answer.now.metric, margin_of(answer.now))
        odds = f"{chance} likely to lose less than {margin}"
    test = sure.test
    if test is None:
        trained = "" if sure.training is None else f", {sure.training.said}"
        return f"{odds}; estimated from {several(sure.runs, 'run')}{trained}; not tested"
    looks = "" if test.looks == 1 else f" in {test.looks} tests"
    length = f"after {several(test.epochs, 'epoch')}"
    tested = f"{several(test.blocks, 'training')} each{looks}, {length}"
    if sure.confirmed:
        before = "" if sure.probability is None else f"{odds}; "
        return f"{before}shown by a test, {tested}"
    if answer.keeps_bare and sure.probability is None:
        # the headline says what the test has shown
        by = "shown by a test" if test.word == "better" else "tested"
        return f"{by}, {tested}"
    if answer.keeps_bare:
        return f"{odds}; tested, {tested}"
    about = "" if test.key == sure.of.key else f" of {test.placement}"
    seen = units.gained(test.metric, test.difference, *test.between)
    return f"{odds} by all runs; a test{about} ({tested}): {seen}"


def _next(answer: Answer, at: str) -> Line | None:
    """The next command, with what it is for; None: nothing is known to help."""
    now = answer.now
    step = answer.next
    if step is None:
        ended = answer.taken is not None or answer.lacking is Lacking.CONSTANT
        return Line("the study is finished", "Next") if ended else None
    time = "" if step.seconds is None else f", about {units.duration(step.seconds)}"
    purpose = _purpose(now, step, kept=answer.keeps_bare)
    if step.purpose is Purpose.ANEW:
        return Line(purpose, "Next")
    if now.recipe.needs_program:
        return Line(f"{purpose}{time}{_in_own_program(step)}", "Next")
    return Line(f"{purpose}{time}:", "Next", f"{step.step}{at}")


def _purpose(now: Snapshot, step: NextCommand, *, kept: bool) -> str:
    """What a command is for; `kept`: the bare backbone is kept."""
    epochs = several(now.recipe.target_training.rungs[-1], "epoch")
    more = f"try {several(step.runs, 'placement')} more"
    return {
        Purpose.TEST: f"test {'that one' if kept else 'it'}, trained for {epochs}",
        Purpose.DECIDE: f"decide by a test, {several(step.runs, 'training')} of each network",
        Purpose.MORE_TESTS: f"decide by {several(step.runs, 'training')} more of each network",
        Purpose.TRY_TESTED: "let the search try that one, too",
        Purpose.RETRAIN: "train it for use",
        Purpose.EXPORT: "write it as a file",
        Purpose.CONTINUE: "continue the search",
        Purpose.FIRST_TRIALS: f"only baselines were tried so far: {more}",
        Purpose.LONGER: f"search on with trainings of {several(step.runs, 'epoch')}",
        Purpose.MEASURE: "measure them on this machine",
        Purpose.ANEW: (
            "begin a new study that trains longer, or at another rate (training.rungs,"
            " training.learning_rate): with these runs, little can be compared"
        ),
        Purpose.OPEN_TRIALS: f"the test leaves open whether that one helps: {more}",
        Purpose.MORE_TRIALS: more,
    }[step.purpose]


def _in_own_program(step: NextCommand) -> str:
    """How a step is done where only a program of the user's can go on, after what it is for."""
    if step.purpose in TRAINED_BY_USER:
        return f", with your own code: nas-attn {step.step.command} cannot call it"
    if step.purpose is Purpose.CONTINUE:
        return ": start your program again"
    if step.purpose is Purpose.LONGER:
        return ", in a new study"
    if step.purpose is Purpose.TRY_TESTED:
        return ": give it to na.begin or na.search as one of try_placements"
    return f": begin a new study with search.trials = {step.step.trials}"


# -------------------------------------------------------------------------- what stands below


def below(answer: Answer, at: str | None = None) -> list[Line]:
    """What is shown smaller: the placement, the alternatives, the control, cautions.

    `at`: the option with the database; None where no command line is at hand: then no row says how
    to get the reasons.
    """
    now = answer.now
    said = [*_placement(answer), *_others(answer), *_lengths(answer)]
    if now.recipe.data.splits is not None:
        said.append(Line(splits_text(now.recipe.data.splits.by_split), "Splits"))
    said += [Line(caution.text, "Careful") for caution in now.cautions]
    if at is not None and answer.taken is not None:
        said.append(Line(f"nas-attn show {now.study} --why{at}", "Reasons"))
    return said


def is_placement(row: Line) -> bool:
    """Whether a row's text is a placement in notation."""
    return row.label in (PLACEMENT, NETWORK, THAT_ONE)


def _placement(answer: Answer) -> Iterator[Line]:
    """The notation of the network that the rows are about, once."""
    if not answer.keeps_bare and answer.taken is not None:
        if answer.taken.placement != BARE:
            other = other_of(answer.taken.placement) is not None
            yield Line(str(answer.taken.placement), NETWORK if other else PLACEMENT)
    elif answer.gain is not None and answer.gain.of.placement != BARE:
        # what is not to be taken is named as such
        yield Line(str(answer.gain.of.placement), THAT_ONE)


def _others(answer: Answer) -> Iterator[Line]:
    """The networks beside the one that is taken."""
    now = answer.now
    best = None if answer.taken is None else answer.best
    if answer.faster is not None:
        yield Line(_alternative(now.metric, answer.faster), "Faster")
    for option in answer.also:
        if option.means is Means.SMALLER and option.ratio is not None and best is not None:
            gain = units.gained(best.metric, option.gain.mean, option.gain.low, option.gain.high)
            yield Line(f"{option.label}, {units.times(option.ratio)}: {gain}", "Smaller")
    if answer.slower is not None and _size_of(now.metric, answer.slower).strip("0."):
        yield Line(_alternative(now.metric, answer.slower), "Slower")
    control = None if best is None else best.capacity
    told = answer.gain is not None and control is not None and answer.gain.of.key == control.key
    if best is not None and control is not None and not told:
        view = now.find(control.key)
        relative = view is not None and other_of(view.placement) is not None
        yield Line(_control(now, best, control), "Larger" if relative else "Control")
    # where the bare backbone is kept, the headline is about attention, unless a test decided
    beside = answer.means not in (Means.ATTENTION, Means.NOTHING)
    if answer.certainty is not None and other_of(answer.certainty.of.placement) is not None:
        beside = True
    if answer.attention is not None and beside:
        yield Line(_attention(now.metric, answer.attention), "Attention")
    if now.brief is None or answer.verdict is AnswerVerdict.NOTHING:
        return
    costs = [
        f"{view.baseline_name.of if view.baseline_name else view.label}"
        f" {units.times(view.latency_ratio)}"
        for view in sorted(now.baselines, key=lambda view: view.latency_ratio)
        if view.latency is not None and not view.is_bare
    ]
    if costs:
        yield Line(f"latency with a module at every site: {', '.join(costs)}", "Uniform")


def _lengths(answer: Answer) -> Iterator[Line]:
    """What another rate and a longer training bring, and whether a test is worth its time."""
    metric = answer.now.metric
    rate = answer.now.rate
    if rate is not None:
        gained = "the bare backbone cannot be trained at the usual one"
        if rate.gain is not None:
            gained = units.gained(metric, rate.gain.mean, rate.gain.low, rate.gain.high)
            gained += f" of the bare backbone in {several(rate.epochs, 'epoch')}"
        instead = f"train at a rate of {rate.rate:.2g} instead of {rate.usual:.2g}"
        yield Line(f"{instead}, as all runs of this study do: {gained}", "Rate")
    longer = answer.longer
    if answer.verdict is AnswerVerdict.EARLY and answer.now.brief is not None:
        longer = answer.now.brief.gain
    leads = answer.verdict is AnswerVerdict.LONGER
    if longer is not None and longer.gain.mean > 0 and not leads:
        gained = _gained_by_length(metric, longer)
        verb = "gains" if longer.gain.probability >= SURE_ENOUGH else "may gain"
        yield Line(f"the bare backbone {verb} {gained}, at no latency", "Longer")
    if answer.longer_open is not None:
        gained = _gained_by_length(metric, answer.longer_open)
        few = "the images are too few to tell"
        yield Line(f"{few}: {gained}. Compare both lengths.", "Longer")
    if answer.too_many_runs:
        more = f"more than {MOST_RUNS} trainings of each network"
        yield Line(f"not worth it: to show a gain of this size takes {more}", "Test")


def splits_text(splits: Mapping[str, Sequence[str]]) -> str:
    """`learns from fold_0 and fold_3, scored on fold_1, fold_2 kept for the final test`."""
    parts = [f"learns from {listed(splits['train'])}"]
    validation = splits.get("validation")
    if validation:
        parts.append(f"scored on {listed(validation)}")
    else:
        parts.append("scored on a part of these")
    test = splits.get("test")
    if test:
        parts.append(f"{listed(test)} kept for the final test")
    return ", ".join(parts)


def _gained_by_length(metric: str, longer: LengthGain) -> str:
    gain = longer.gain
    size = units.gained(metric, gain.mean, gain.low, gain.high)
    return f"{size} by {longer.longer} epochs instead of {longer.shorter}"


def _alternative(metric: str, other: Alternative) -> str:
    """`trial 5, 1.40 × instead of 1.59 ×: gives up 0.9 points, may be chance`."""
    size = _size_of(metric, other)
    unit = units.unit(metric).of_differences
    if size == "1" and unit == "points":
        unit = "point"
    latency = f"{units.times(other.ratio)} instead of {units.times(other.instead_of)}"
    if not size.strip("0."):
        return f"{called(other.of)}, {latency}: gives up nothing that is shown"
    verb = "gives up" if other.gain.mean < 0 else "gains"
    more = "" if other.gain.mean < 0 else " more"
    chance = ", which may be chance" if other.may_be_chance else ""
    return f"{called(other.of)}, {latency}: {verb} {f'{size} {unit}'.rstrip()}{more}{chance}"


def _size_of(metric: str, other: Alternative) -> str:
    """The difference in the digits that its interval supports; zeros where nothing is left."""
    return units.size_within(metric, other.gain.mean, (other.gain.high - other.gain.low) / 2)


def _attention(metric: str, attention: AttentionVerdict) -> str:
    """What is known of attention where something else is taken."""
    gain = attention.gain
    figures = []
    if gain is not None:
        figures.append(units.gained(metric, gain.mean, gain.low, gain.high))
    if attention.ratio is not None:
        figures.append(units.times(attention.ratio))
    if gain is not None:
        figures.append(f"{units.probability(gain.probability)} likely to help")
    best = ", ".join([attention.label, *figures])
    return best if attention.helps else f"not shown to help (the best: {best})"


def _control(now: Snapshot, best: Recommendation, control: Capacity) -> str:
    """A larger network without attention beside the answer."""
    gain = control.gain
    view = now.find(control.key)
    name = control.lead.name if view is None else short_name(view)
    at = "" if control.latency is None else f", {units.times(control.latency.ratio)}"
    relative = view is not None and other_of(view.placement) is not None
    if relative and now.recipe.training.start == "pretrained":
        at += ", from its own trained weights"
    size = units.gained(best.metric, gain.mean, gain.low, gain.high)
    lead = control.lead.gain
    if best.is_bare or lead is None:
        above = ", above the limit" if control.dearer else ""
        return f"{name}{at}{above}: {size}, {units.probability(gain.probability)} likely to help"
    slower = " at more latency" if control.dearer else ""
    if lead.worse >= REQUIRED:
        more = f"gains more than attention{slower} ({units.probability(lead.worse)})"
    elif lead.probability < REQUIRED:
        odds = units.probability(lead.probability)
        more = f"may help as much as attention{slower} (attention better: {odds})"
    else:
        more = f"attention gains more ({units.probability(lead.probability)})"
    return f"{name}{at}: {size}; {more}"
