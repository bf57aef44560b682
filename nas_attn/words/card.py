"""The card in words: a headline, a drawing of the network, four rows, and what stands below.

Terminal, notebook, report, model card and notes all say it in this order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from nas_attn.answer.card import (
    Alternative,
    Brought,
    Card,
    CardVerdict,
    Certainty,
    DrawnStage,
    NamedNetwork,
    Paid,
    Purpose,
    card_of,
)
from nas_attn.answer.decision import MOST_RUNS, NextStep
from nas_attn.answer.length import LengthGain
from nas_attn.answer.pooled import PooledTest
from nas_attn.answer.recommendation import NO_CHANCE, REQUIRED, Capacity, Reason, Recommendation
from nas_attn.answer.snapshot import Snapshot
from nas_attn.errors import listed, several
from nas_attn.model import Gain
from nas_attn.model.features import features
from nas_attn.recipe import units
from nas_attn.space.placement import BARE, BaselineKind, BaselineName, Placement
from nas_attn.space.search_space import other_of
from nas_attn.words.card_row import PLACEMENT, THAT_ONE, CardRow
from nas_attn.words.commands import command
from nas_attn.words.lacking import EXHAUSTED, nothing_recommended
from nas_attn.words.lines import Line
from nas_attn.words.next_row import next_row
from nas_attn.words.recommendation import reasons
from nas_attn.words.remarks import caution_text

# sites of one module that a headline names; more are counted
MOST_NAMED = 4
# marks a module in the drawing
MODULE = "▣"
LINK = " ─ "


@dataclass(frozen=True, slots=True)
class CardText:
    """The card in words. Numbers and units are separated by a plain space."""

    headline: str
    drawing: tuple[DrawnStage, ...]
    """Empty where no network is to be taken, or another backbone."""
    rows: tuple[CardRow, ...]
    """Gain, Cost, Sure, Next, as far as there is something to say, always in this order."""
    below: tuple[CardRow, ...]
    """To be shown smaller: the placement, the alternatives, the control, cautions."""
    reasons: tuple[str, ...]
    """Sentences to be shown when they are asked for."""


def card_text(now: Snapshot, at: str | None = None, recipe: str | None = None) -> CardText:
    """The card of a study.

    Args:
        at: the option with the database, for commands; None where no command line is at hand: then
            no row says how to get the reasons.
        recipe: what `nas-attn search` takes for the study's recipe; None: not known.
    """
    card = card_of(now)
    best = card.recommendation
    return CardText(
        headline=headline(now, card),
        drawing=card.drawing,
        rows=tuple(_rows(now, card, at or "", recipe)),
        below=tuple(_below(now, card, at)),
        reasons=() if best is None else tuple(reasons(best)),
    )


def card_lines(text: CardText) -> list[str]:
    """The card as plain lines: the headline, the drawing, then a line for each row and command."""
    lines = [text.headline]
    if text.drawing:
        lines.append(drawing_line(text.drawing))
    for row in (*text.rows, *text.below):
        lines.append(str(Line(row.text, row.label)))
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


def drawing_in_words(stages: Sequence[DrawnStage]) -> str:
    """The drawing for who cannot see it: `The network: cbam in stage1; nothing in stage2.`"""
    parts = []
    for stage in stages:
        modules = [
            f"{module.type}{f' at {module.block}' if module.block else ''}"
            for module in stage.modules
        ]
        parts.append(f"{listed(modules) or 'nothing'} in {stage.name}")
    return f"The network: {'; '.join(parts)}."


def headline(now: Snapshot, card: Card) -> str:
    """What to do; after a test, also what it has shown."""
    best = card.recommendation
    if card.verdict is CardVerdict.EARLY or best is None or card.taken is None:
        sentence = nothing_recommended(now, card.lacking)
        if now.exhausted and card.next is None:
            return f"{sentence} {EXHAUSTED}"
        return sentence
    if card.verdict is CardVerdict.CONTROL:
        better = "it gains more" if not best.is_bare else "attention is not likely to help"
        return f"Take {control_name(card.control, card.taken)} instead of attention: {better}."
    test = None if card.certainty is None else card.certainty.test
    if card.next is not None and card.next.purpose is Purpose.TRY_TESTED:
        return _tested_beside_the_search(card)
    if card.verdict is CardVerdict.KEEP:
        return f"Keep the bare backbone: {_why_bare(best, card, test)}."
    taken = now.find(card.taken.key)
    # the name of a baseline says again what stands before it
    label = "" if taken is not None and taken.baseline else f" ({card.taken.label})"
    return f"Take {placed(card.drawing, card.taken.placement)}{label}{_tested(card, test)}."


def placed(stages: Sequence[DrawnStage], placement: Placement) -> str:
    """What goes where: `eca at all 3 stages`, `cbam at stage1 and stage3, se at stage2`."""
    sites: dict[str, list[str]] = {}
    for feature in features(placement):
        sites.setdefault(feature.type, []).append(feature.site)
    everywhere = [stage.name for stage in stages if stage.role == "backbone"]
    parts = []
    for module, places in sites.items():
        if len(everywhere) > 1 and sorted(places) == sorted(everywhere):
            parts.append(f"{module} at all {len(everywhere)} stages")
        elif len(places) > MOST_NAMED:
            parts.append(f"{module} at {len(places)} sites")
        else:
            parts.append(f"{module} at {listed(places)}")
    return ", ".join(parts)


def control_name(control: Capacity | None, taken: NamedNetwork) -> str:
    """`dwconv everywhere`, `resnet14`, or a control's placement."""
    other = other_of(taken.placement)
    if other is not None:
        return str(other)
    if control is not None and control.baseline is not None:
        return f"{control.baseline.rpartition(' ')[2]} everywhere"
    return str(taken.placement)


def called(named: NamedNetwork) -> str:
    """A network's label, as tables have it; of one that is no candidate, what goes where."""
    if named.placement == BARE:
        return "the bare backbone"
    # another backbone is its own name
    if named.label == str(named.placement) and other_of(named.placement) is None:
        return placed((), named.placement)
    return named.label


def without_kind(label: str, baseline: BaselineName | None, *kinds: BaselineKind) -> str:
    """A network's label; without its kind, if it is a baseline of one of these: the text around it
    says so.
    """
    if baseline is None or baseline.kind not in kinds:
        return label
    return baseline.of


def _why_bare(best: Recommendation, card: Card, test: PooledTest | None) -> str:
    rule = best.rule
    if test is not None and test.word != "better" and card.certainty is not None:
        tested = called(card.certainty.of)
        if test.word == "worse":
            return f"a test has shown that {tested} harms"
        return f"a test of {tested} shows no gain"
    if rule.reason is Reason.OUT_OF_REACH and rule.fastest is not None and rule.limit is not None:
        limit = f"no placement is within {rule.limit:g} × its latency"
        return f"{limit} (the fastest: {units.times(rule.fastest)})"
    if rule.reason is Reason.TOO_SMALL:
        return "the likely gain is too small to count"
    within = "" if rule.limit is None else f" within {rule.limit:g} × its latency"
    return f"no attention{within} is likely enough to help"


def _tested_beside_the_search(card: Card) -> str:
    """A test has shown that a placement helps, and the search has never tried it."""
    tested = "another placement" if card.certainty is None else called(card.certainty.of)
    shown = f"a test has shown that {tested} helps, and the search has not tried it"
    return f"Keep the bare backbone for now: {shown}."


def _tested(card: Card, test: PooledTest | None) -> str:
    """What the tests say of the network, after the headline's clause."""
    if test is None or card.certainty is None:
        return ""
    if card.certainty.confirmed and card.gain is not None:
        half = (card.gain.high - card.gain.low) / 2
        gained = units.signed_within(card.gain.metric, card.gain.mean, half)
        unit = units.unit(card.gain.metric).of_differences
        metric = card.gain.metric
        about = "" if units.is_implied(metric) else f" in {units.title(metric)}"
        return f": tested, {f'{gained} {unit}'.rstrip()}{about}"
    if card.taken is not None and test.key != card.taken.key:
        return ""
    against = "speaks against it" if test.word == "worse" else "has not shown its gain"
    return f"; a test {against}"


def _rows(now: Snapshot, card: Card, at: str, recipe: str | None) -> Iterator[CardRow]:
    gain = _gain(card)
    if gain:
        yield CardRow("Gain", gain)
    cost = _cost(card)
    if cost:
        yield CardRow("Cost", cost)
    if card.certainty is not None and card.certainty.of.placement != BARE:
        yield CardRow("Sure", _sure(card, card.certainty))
    step = next_row(now, card, at, recipe)
    if step is not None:
        yield step


def _gain(card: Card) -> str:
    gain = card.gain
    if gain is None:
        if card.verdict in (CardVerdict.TAKE, CardVerdict.CONTROL):
            return "not known: the noise has not been measured yet"
        return ""
    size = units.gained(gain.metric, gain.mean, gain.low, gain.high)
    change = _change(gain)
    # a name before it ends in a colon already
    listed_change = ", ".join(filter(None, (size, change)))
    if card.verdict is CardVerdict.EARLY:
        return f"{called(gain.of)}: {listed_change}, so far, and perhaps gone at the end"
    if card.verdict is CardVerdict.KEEP:
        # the search has no estimate of what only a test has trained
        only_tested = card.certainty is not None and not card.certainty.runs
        why = "tested" if only_tested and gain.on_test_images else "the most promising"
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


def _cost(card: Card) -> str:
    cost = card.cost
    if cost is None:
        return ""
    on = f" on {cost.machine}" if cost.machine else ""
    if cost.of.placement == BARE:
        return f"none: {milliseconds(cost.after_ms)}{on}"
    predicted = "" if cost.measured else ", predicted, not measured"
    amount = f"{units.times(cost.ratio)} the latency: {_from_to(cost)}{on}{predicted}"
    if card.verdict is CardVerdict.KEEP:
        return f"none; that one would take {amount}"
    return amount


def milliseconds(time_ms: float) -> str:
    """`4.3 ms`, `0.29 ms`, `120 ms`: two digits, or three from 100 on."""
    return f"{_rounded(time_ms)} ms"


def _rounded(time_ms: float) -> str:
    if time_ms >= 99.5:
        return f"{time_ms:.0f}"
    return f"{time_ms:#.2g}".rstrip(".")


def _from_to(cost: Paid) -> str:
    return f"{_rounded(cost.before_ms)} → {milliseconds(cost.after_ms)}"


def _sure(card: Card, sure: Certainty) -> str:
    odds = "not known whether it helps"
    if sure.probability is not None:
        likely = units.probability(sure.probability)
        # the headline is about another network
        kept = card.verdict is CardVerdict.KEEP
        odds = f"{likely} likely that it helps" if kept else f"{likely} likely to help"
    if sure.test is None:
        trained = "" if sure.training is None else f", {sure.training.said}"
        return f"{odds}; estimated from {several(sure.runs, 'run')}{trained}; not tested"
    about = "" if sure.test.key == sure.of.key else f" of {sure.test.placement}"
    trainings = several(sure.test.blocks, "training")
    looks = "" if sure.test.looks == 1 else f" in {sure.test.looks} tests"
    length = f"after {several(sure.test.epochs, 'epoch')}"
    tested = f"{trainings} each{looks}, {length}"
    if sure.confirmed:
        before = "" if sure.probability is None else f"{odds}; "
        return f"{before}shown by a test, {tested}"
    if card.verdict is CardVerdict.KEEP and sure.probability is None:
        # the headline says what the test has shown
        by = "shown by a test" if sure.test.word == "better" else "tested"
        return f"{by}, {tested}"
    if card.verdict is CardVerdict.KEEP:
        return f"{odds}; tested, {tested}"
    low, high = sure.test.between
    seen = units.gained(sure.test.metric, sure.test.difference, low, high)
    return f"{odds} by all runs; a test{about} ({tested}): {seen}"


def _below(now: Snapshot, card: Card, at: str | None) -> Iterator[CardRow]:
    best = card.recommendation
    yield from _placement(card)
    yield from _others(now, card)
    yield from _lengths(now, card)
    if card.splits is not None:
        yield CardRow("Splits", splits_text(card.splits))
    yield from (CardRow("Careful", caution_text(caution)) for caution in card.cautions)
    if at is not None and best is not None:
        yield CardRow("Reasons", f"{command(NextStep('pareto', now.study, why=True))}{at}")


def _placement(card: Card) -> Iterator[CardRow]:
    """The notation of the network that the rows are about, once."""
    if card.verdict is not CardVerdict.KEEP and card.taken is not None:
        if card.taken.placement != BARE:
            yield CardRow(PLACEMENT, str(card.taken.placement))
    elif card.gain is not None and card.gain.of.placement != BARE:
        # what is not to be taken is named as such
        shown = card.gain.of
        yield CardRow(THAT_ONE, str(shown.placement))


def _others(now: Snapshot, card: Card) -> Iterator[CardRow]:
    """The networks beside the one that is taken."""
    metric = now.metric
    best = card.recommendation
    if card.faster is not None:
        yield CardRow("Faster", _alternative(metric, card.faster))
    if card.slower is not None and _size_of(metric, card.slower).strip("0."):
        yield CardRow("Slower", _alternative(metric, card.slower))
    if card.control is not None and best is not None:
        yield CardRow("Control", control_text(card, best, card.control))
    if card.verdict is CardVerdict.CONTROL and best is not None:
        yield CardRow("Attention", _instead(now, best))
    costs = []
    for view in () if card.early is None else card.early.priced:
        if view.latency is not None:
            name = without_kind(view.label, view.baseline_name, "uniform")
            costs.append(f"{name} {units.times(view.latency.ratio)}")
    if costs:
        yield CardRow("Uniform", f"latency with a module at every site: {', '.join(costs)}")


def _lengths(now: Snapshot, card: Card) -> Iterator[CardRow]:
    """What a longer training brings, and whether a test is worth its time."""
    longer = card.longer if card.early is None else card.early.brief.gain
    if longer is not None and longer.gain.mean > 0:
        yield CardRow("Longer", _longer(now.metric, longer))
    if card.longer_open is not None:
        yield CardRow("Longer", _longer_open(now.metric, card.longer_open))
    if card.bet_test is not None and card.bet_test.too_many:
        more = f"more than {MOST_RUNS} trainings of each network"
        yield CardRow("Test", f"not worth it: to show a gain of this size takes {more}")


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


def _longer(metric: str, longer: LengthGain) -> str:
    """What the bare backbone gains by a longer training."""
    gain = longer.gain
    size = units.gained(metric, gain.mean, gain.low, gain.high)
    lengths = f"{longer.longer} epochs instead of {longer.shorter}"
    return f"the bare backbone gains {size} by {lengths}, at no latency"


def _longer_open(metric: str, longer: LengthGain) -> str:
    """That it is not known what the bare backbone gains by a longer training."""
    gain = longer.gain
    size = units.gained(metric, gain.mean, gain.low, gain.high)
    lengths = f"{longer.longer} epochs instead of {longer.shorter}"
    return f"the images are too few to tell: {size} by {lengths}. Try both with what you take."


def _alternative(metric: str, other: Alternative) -> str:
    """`trial 5, 1.40 × instead of 1.59 ×: gives up 0.9 points, may be chance`."""
    gain = other.gain
    size = _size_of(metric, other)
    unit = units.unit(metric).of_differences
    if size == "1" and unit == "points":
        unit = "point"
    latency = f"{units.times(other.ratio)} instead of {units.times(other.instead_of)}"
    if not size.strip("0."):
        return f"{called(other.of)}, {latency}: gives up nothing that is shown"
    verb = "gives up" if gain.mean < 0 else "gains"
    more = "" if gain.mean < 0 else " more"
    chance = ", which may be chance" if other.may_be_chance else ""
    return f"{called(other.of)}, {latency}: {verb} {f'{size} {unit}'.rstrip()}{more}{chance}"


def _size_of(metric: str, other: Alternative) -> str:
    """The difference in the digits that its interval supports; zeros where nothing is left."""
    return units.size_within(metric, other.gain.mean, (other.gain.high - other.gain.low) / 2)


def _instead(now: Snapshot, best: Recommendation) -> str:
    """What to take if the network must stay as it is."""
    if best.is_bare:
        return "not likely to help; if your network must stay, keep it bare"
    view = now.find(best.key)
    label = str(best.placement) if view is None else view.label
    gain = best.against_none.gain if best.against_none is not None else None
    size = "" if gain is None else f": {units.gained(best.metric, gain.mean, gain.low, gain.high)}"
    at = "" if best.latency is None else f", {units.times(best.latency.ratio)}"
    return f"the best placement is {label}{size}{at}"


def control_text(card: Card, best: Recommendation, control: Capacity) -> str:
    """A larger network without attention beside the answer."""
    lead = None if best.is_bare else control.lead.gain
    if card.verdict is CardVerdict.CONTROL or card.control_named is None:
        return on_control(control, lead)
    gain = control.gain
    size = units.gained(best.metric, gain.mean, gain.low, gain.high)
    at = "" if control.latency is None else f", {units.times(control.latency.ratio)}"
    # the row's label says already that it is a control
    named = card.control_named
    name = without_kind(called(named), named.baseline, "uniform", "control")
    return f"{name}{at}: {size}. {on_control(control, lead)}"


def on_control(control: Capacity, lead: Gain | None) -> str:
    """Explains a control's gain over the bare backbone. `lead`: of attention over the control;
    None: the bare one is recommended.
    """
    gain = control.gain
    if lead is None:
        if gain.probability < REQUIRED:
            return "A larger network is not shown to help either."
        above = ", above the limit" if control.dearer else ""
        odds = units.probability(gain.probability)
        return (
            f"A larger network {_helps(gain.probability)} here{above} ({odds}); attention is not"
            " shown to help."
        )
    slower = ", at more latency" if control.dearer else ""
    if lead.worse >= REQUIRED:
        odds = units.probability(lead.worse)
        return f"This {_helps(lead.worse)} more than attention{slower} ({odds})."
    odds = units.probability(lead.probability)
    if lead.probability < REQUIRED:
        return f"This may help as much as attention{slower} (attention better: {odds})."
    verb = "buys" if lead.probability >= NO_CHANCE else "probably buys"
    return f"Attention {verb} more{', at less latency' if control.dearer else ''} ({odds})."


def _helps(probability: float) -> str:
    return "helps" if probability >= NO_CHANCE else "probably helps"
