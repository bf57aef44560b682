"""The answer in words: a headline, a drawing of the network, four rows, and what stands below.

Terminal, notebook, report, model card and notes all say it in this order. Numbers and units are
separated by a plain space.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from nas_attn.answer.answer import (
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
from nas_attn.answer.next_step import MOST_RUNS, NextStep, deciding_test, next_of
from nas_attn.answer.shown import Shown, shown
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
    if found.before is not None and found.after is not None:
        half = (found.high - found.low) / 2
        where = " of the test images" if found.on_test_images else ""
        values = units.values(metric, [found.before, found.after], half, " → ")
        size += f": {units.title(metric)} {values}{where}"
    if not answer.keeps_bare:
        return size
    which = "tested" if found.on_test_images else "the most promising"
    return f"{which}, {found.of.label}, {size}"


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
    if step.purpose == "anew":
        return Line(step.what, "Next")
    if now.recipe.needs_program:
        return Line(f"{step.what}{time}{_in_own_program(step.step)}", "Next")
    return Line(f"{step.what}{time}:", "Next", f"{step.step}{at}")


def _in_own_program(step: NextStep) -> str:
    """How a step is done where only a program of the user's can go on, after what it is for."""
    if step.command in ("test", "retrain", "export"):
        return f", with your own code: nas-attn {step.command} cannot call it"
    if step.epochs:
        return ", in a new study"
    if step.placement:
        return ": give it to na.begin or na.search as one of try_placements"
    if step.trials:
        return f": begin a new study with search.trials = {step.trials}"
    return ": start your program again"


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
    if answer.reason is None:
        return
    told = shown(answer)
    larger = answer.larger
    plain = larger is not None and other_of(larger.placement) is None
    beside = {
        "Smaller": next((one for one in answer.also if one.means is Means.SMALLER), None),
        "Control" if plain else "Larger": larger,
        "Attention": answer.attention,
    }
    if answer.taken is answer.chosen:
        beside = {"Faster": answer.faster, "Slower": answer.slower, **beside}
    for label, one in beside.items():
        if one is not None and (told is None or one.view is not told.view):
            yield Line(_beside(answer, one), label)


def _beside(answer: Answer, one: Option) -> str:
    """`dwconv everywhere, 1.08 ×: +1.2 points (+0.3 to +2.1), 99 % likely to help`."""
    gain = one.gain
    at = "" if one.view.latency is None else f", {units.times(one.ratio)}"
    at += _unlike_the_backbone(answer.now, one.view)
    size = units.gained(answer.now.metric, gain.mean, gain.low, gain.high)
    odds = f"{units.probability(gain.probability)} likely to help"
    text = f"{network_name(one.view)}{at}: {size}, {odds}"
    if one is answer.attention and answer.chosen is None:
        return f"not shown to help (the best: {text})"
    return text


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
    test = deciding_test(answer) if answer.lacking is None else None
    if test is not None and test.step.seeds > MOST_RUNS:
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
