"""The answer in words: a headline, a drawing of the network, four rows, and what stands below.

Terminal, notebook, report, model card and notes all say it in this order. Numbers and units are
separated by a plain space.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from nas_attn.answer.answer import (
    NO_CHANCE,
    REQUIRED,
    SURE_ENOUGH,
    Answer,
    Lacking,
    Option,
    chance_of_no_loss,
    margin_of,
)
from nas_attn.answer.candidates import network_name
from nas_attn.answer.drawing import DrawnStage
from nas_attn.answer.headline import headline
from nas_attn.answer.length import LengthGain, may_bring_much
from nas_attn.answer.next_step import MOST_RUNS, NextCommand, Purpose, next_of
from nas_attn.answer.shown import Shown, shown, too_many_runs
from nas_attn.answer.snapshot import CandidateView, Means, Snapshot
from nas_attn.errors import listed, several
from nas_attn.recipe import units
from nas_attn.recipe.tables import OWN_SIDE
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
    found = shown(answer)
    length = None if answer.taken is None else answer.taken.length
    said = []
    if length is not None:
        trainings = several(length.seeds, "training")
        odds = units.probability(length.gain.probability)
        usual = "" if length.seen is None else ", and what twice the epochs usually bring"
        takes = f"no latency; a training takes about {length.longer / length.shorter:.2g} times"
        said = [
            Line(_by_length(answer.now.metric, length), "Gain"),
            Line(f"{takes} as long", "Cost"),
            Line(f"{odds} likely to help; from {trainings} of each length{usual}", "Sure"),
        ]
    elif found is not None:
        said = [Line(_gain(answer, found), "Gain")]
        if found.latency is not None:
            said.append(Line(_cost(answer, found), "Cost"))
        said.append(Line(_sure(answer, found), "Sure"))
    step = _next(answer, at or "")
    return said + ([] if step is None else [step])


def _gain(answer: Answer, found: Shown) -> str:
    metric = answer.now.metric
    size = units.gained(metric, found.mean, found.low, found.high)
    change = ""
    if found.before is not None and found.after is not None:
        half = (found.high - found.low) / 2
        where = " of the test images" if found.on_test_images else ""
        values = units.values(metric, [found.before, found.after], half, " → ")
        change = f": {units.title(metric)} {values}{where}"
    name = found.of.label
    if answer.keeps_bare:
        return (
            f"{'tested' if found.on_test_images else 'the most promising'}, {name}, {size}{change}"
        )
    return f"{size}{change}"


def _cost(answer: Answer, found: Shown) -> str:
    latency = found.latency
    assert latency is not None
    machine = answer.now.latency
    on = "" if machine is None else f" on {machine.machine}"
    predicted = "" if latency.measured else ", predicted, not measured"
    change = f"{_two_digits(latency.reference_ms)} → {milliseconds(latency.ms)}"
    amount = f"{units.times(latency.ratio)} the latency: {change}{on}{predicted}"
    if found.view is not None:
        amount += _unlike_the_backbone(answer.now, found.view)
    return f"none; that one would take {amount}" if answer.keeps_bare else amount


def milliseconds(time_ms: float) -> str:
    """`4.3 ms`, `0.29 ms`, `120 ms`: two digits, or three from 100 on."""
    return f"{_two_digits(time_ms)} ms"


def _two_digits(time_ms: float) -> str:
    if time_ms >= 99.5:
        return f"{time_ms:.0f}"
    return f"{time_ms:#.2g}".rstrip(".")


def _sure(answer: Answer, found: Shown) -> str:
    now = answer.now
    odds = ""
    gain = found.estimated
    if gain is not None:
        # the headline may be about another network
        that = "that it helps" if answer.keeps_bare else "to help"
        odds = f"{units.probability(gain.probability)} likely {that}"
        if answer.means is Means.SMALLER and gain.low <= 0:
            chance = units.probability(chance_of_no_loss(now, gain))
            odds = f"{chance} likely to lose less than {units.size(now.metric, margin_of(now))}"
    test = answer.test
    if test is None:
        runs = 0 if found.view is None else found.view.estimates[now.metric].seeds
        trained = "" if answer.training is None else f", {answer.training.said}"
        return f"{odds}; estimated from {several(runs, 'run')}{trained}; not tested"
    looks = "" if test.looks == 1 else f" in {test.looks} tests"
    length = f"after {several(test.epochs, 'epoch')}"
    tested = f"{several(test.blocks, 'training')} each{looks}, {length}"
    if found.on_test_images:
        by = "shown by a test" if test.word == "better" else "tested"
        return "; ".join(filter(None, (odds, f"{by}, {tested}")))
    seen = units.gained(test.metric, test.difference, *test.between)
    return f"{odds} by all runs; a test of {test.placement} ({tested}): {seen}"


def _next(answer: Answer, at: str) -> Line | None:
    """The next command, with what it is for; None: nothing is known to help."""
    now = answer.now
    step = next_of(answer)
    if step is None:
        ended = answer.lacking in (None, Lacking.CONSTANT)
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
    """What is shown smaller: the placement, other networks, other lengths, cautions.

    `at`: the option with the database; None where no command line is at hand: then no row says how
    to get the reasons.
    """
    now = answer.now
    said = [*_placement(answer), *_others(answer), *_lengths(answer)]
    if now.recipe.data.splits is not None:
        said.append(Line(splits_text(now.recipe.data.splits.by_split), "Splits"))
    said += [Line(caution.text, "Careful") for caution in now.cautions]
    if at is not None and answer.judged:
        said.append(Line(f"nas-attn show {now.study} --why{at}", "Reasons"))
    return said


def is_placement(row: Line) -> bool:
    """Whether a row's text is a placement in notation."""
    return row.label in (PLACEMENT, NETWORK, THAT_ONE)


def _placement(answer: Answer) -> Iterator[Line]:
    """The notation of the network that the rows are about, once."""
    found = shown(answer)
    if found is None or found.placement == BARE:
        return
    # what is not to be taken is named as such
    label = NETWORK if other_of(found.placement) is not None else PLACEMENT
    yield Line(str(found.placement), THAT_ONE if answer.taken is None else label)


def _others(answer: Answer) -> Iterator[Line]:
    """The best network of each other means, and two beside the attention that is taken."""
    for label, one in (("Faster", answer.faster), ("Slower", answer.slower)):
        if one is None or answer.taken is None or answer.taken is not answer.chosen:
            continue
        # nobody pays for what is no better
        if one is answer.faster or not _is_as_good(answer, one, answer.taken):
            yield Line(_instead(answer, one, answer.taken), label)
    found = shown(answer)
    told = found.view if found is not None else None
    larger = "" if answer.larger is None else other_of(answer.larger.placement)
    smaller = (one for one in answer.also if one.means is Means.SMALLER)
    beside = {
        "Smaller": next(smaller, None),
        "Larger" if larger else "Control": answer.larger,
        "Attention": answer.attention,
    }
    for label, option in beside.items():
        if option is not None and option.view is not told and answer.reason is not None:
            yield Line(_beside(answer, option), label)


def _beside(answer: Answer, one: Option) -> str:
    """`dwconv everywhere, 1.08 ×: +1.2 points (+0.3 to +2.1), 99 % likely to help`."""
    gain = one.gain
    at = "" if one.view.latency is None else f", {units.times(one.ratio)}"
    at += _unlike_the_backbone(answer.now, one.view)
    size = units.gained(answer.now.metric, gain.mean, gain.low, gain.high)
    text = f"{network_name(one.view)}{at}: {size}"
    likely = f"{text}, {units.probability(gain.probability)} likely to help"
    chosen = answer.chosen
    if one.means is Means.ATTENTION and chosen is None:
        return f"not shown to help (the best: {likely})"
    if one.means is not Means.LARGER or chosen is None:
        return likely
    lead = answer.over(one, chosen)
    if lead is None or max(lead.probability, lead.worse) < REQUIRED:
        return f"{text}; may help as much as attention"
    first = "gains more than attention" if lead.mean > 0 else "attention gains more"
    return f"{text}; {first} ({units.probability(max(lead.probability, lead.worse))})"


def _unlike_the_backbone(now: Snapshot, view: CandidateView) -> str:
    """`, from its own trained weights, on images of 240 pixels`: how another network starts and is
    fed, where this differs; empty: as the backbone.
    """
    said = ""
    if other_of(view.placement) is not None and now.recipe.training.start == "pretrained":
        said = ", from its own trained weights"
    side = (view.cost or {}).get(OWN_SIDE)
    return said if side is None else f"{said}, on images of {side:g} pixels"


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
    length = None if longer is None else longer.length
    if longer is not None and length is not None and answer.means is not Means.LONGER:
        may = longer.may_help(answer.counts)
        verb = "gains" if longer.gain.probability >= SURE_ENOUGH else "may gain"
        if longer.gain.mean > 0 and may:
            gained = f"{_by_length(metric, length)}, at no latency"
            if length.seen is not None:
                odds = units.probability(longer.gain.probability)
                seen = units.gained(metric, length.seen.mean, length.seen.low, length.seen.high)
                gained += f", {odds} likely to help; seen here: {seen}, the rest is usual"
            yield Line(f"the bare backbone {verb} {gained}", "Longer")
        elif may_bring_much(length, metric):
            few = "the images are too few to tell"
            yield Line(f"{few}: {_by_length(metric, length)}. Compare both lengths.", "Longer")
    if too_many_runs(answer, MOST_RUNS):
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


def _by_length(metric: str, longer: LengthGain) -> str:
    gain = longer.gain
    size = units.gained(metric, gain.mean, gain.low, gain.high)
    return f"{size} by {longer.longer} epochs instead of {longer.shorter}"


def _is_as_good(answer: Answer, one: Option, taken: Option) -> bool:
    """Whether the difference of two networks rounds to nothing."""
    gain = answer.over(one, taken)
    if gain is None:
        return False
    half = (gain.high - gain.low) / 2
    metric = answer.now.metric
    return units.size_within(metric, gain.mean, half) == units.size_within(metric, 0.0, half)


def _instead(answer: Answer, one: Option, taken: Option) -> str:
    """`trial 5, 1.40 × instead of 1.59 ×: gives up 0.9 points, which may be chance`."""
    metric = answer.now.metric
    gain = answer.over(one, taken)
    text = f"{one.view.label}, {units.times(one.ratio)} instead of {units.times(taken.ratio)}"
    if gain is None:
        return text
    size = units.size_within(metric, gain.mean, (gain.high - gain.low) / 2)
    amount = f"{size} {units.unit(metric).of_differences}".rstrip()
    chance = ", which may be chance" if max(gain.probability, gain.worse) < NO_CHANCE else ""
    return f"{text}: {'gives up' if gain.mean < 0 else 'gains'} {amount}{chance}"
