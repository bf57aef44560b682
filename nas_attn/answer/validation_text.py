"""A test of networks (`nas-attn test`): its headline, its networks, what it has shown."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from nas_attn.answer.forecast import ValidationForecast
from nas_attn.answer.pair_tests import Family, PairTest, TestedNetwork, ValidationResult
from nas_attn.answer.snapshot import Snapshot
from nas_attn.errors import several
from nas_attn.recipe import units
from nas_attn.space.placement import BARE
from nas_attn.system.wrapping import Line


def validation_headline(result: ValidationResult) -> str:
    """The test in one line."""
    family = result.family
    done = several(family.blocks, "seed")
    if result.blocks < family.blocks:
        done = f"{result.blocks} of {family.blocks} seeds"
    by = "" if units.is_implied(family.metric) else f"by {units.title(family.metric)} "
    return (
        f"Test {family.number}: trained as the target says"
        f" ({several(family.epochs, 'epoch')}), {done} that no search used; scored {by}on"
        " the test images"
    )


def validation_sentences(result: ValidationResult, now: Snapshot) -> Iterator[str]:
    """One sentence per comparison, then a conclusion and remarks; latencies are the study's."""
    family = result.family
    unlike = "their networks were computed in different arithmetic, by different machines"
    if not result.verdicts:
        seeds = several(family.blocks, "seed")
        if result.mixed:
            yield f"No result: in {result.mixed} of {seeds}, {unlike}. Test on machines alike."
        else:
            yield f"No result yet: it comes after {seeds}. The same command continues it."
        return
    for verdict in result.verdicts:
        yield _sentence(family, verdict, now)
    conclusion = _conclusion(result, now)
    if conclusion:
        yield conclusion
    if result.mixed:
        count = f"{several(result.mixed, 'seed')} of {result.blocks}"
        yield f"{count} count for nothing: {unlike}."
    counts = "the worst score" if family.chance is None else "the score of guessing"
    for key, runs in result.diverged.items():
        of = result.blocks - result.mixed
        name = network_name(now, family, key)
        yield f"{name}: {runs} of {of} runs diverged and count as {counts}."
    if now.recipe.target_training.start == "pretrained":
        yield "This holds for the given weights; with others it may differ."


def validation_rows(result: ValidationResult) -> list[tuple[str, str, str]]:
    """(title, value with its spread over blocks, placement) of each network."""
    metric = result.family.metric
    rows = []
    for network in result.family.networks:
        values = result.values.get(network.key, ())
        shown = ""
        if values:
            mean = statistics.fmean(values)
            shown = units.value(metric, mean)
            if len(values) > 1:
                spread = statistics.stdev(values)
                shown = units.value_plus_minus(metric, mean, mean - spread, mean + spread)
        placement = "" if network.placement == BARE else str(network.placement)
        rows.append((network.title, shown, placement))
    return rows


def _conclusion(result: ValidationResult, now: Snapshot) -> str:
    """Relates the test to the search's recommendation; empty if that was not in the family."""
    family = result.family
    recommended = next((n.key for n in family.networks if n.role == "recommended"), None)
    if recommended is None or family.bare is None:
        return ""
    words = {test.key: test for test in result.verdicts if test.control == family.bare}
    others = [t for t in words.values() if t.word == "better" and t.key != recommended]
    best = max(others, key=lambda test: test.difference, default=None)
    instead = ""
    if best is not None:
        instead = f"; {network_name(now, family, best.key)} is better than the bare backbone"
    if recommended == family.bare:
        said = "goes beyond" if instead else "agrees with"
        return f"So the test {said} the search, which recommended the bare backbone{instead}."
    word = words[recommended].word if recommended in words else "not shown"
    if word == "better":
        beaten = (t for t in result.verdicts if (t.key, t.word) == (recommended, "worse"))
        better = next((network_name(now, family, test.control) for test in beaten), "")
        but = f", but {better} is better still" if better else ""
        return f"So the test confirms the recommendation: it is better than the bare backbone{but}."
    if word == "worse":
        return f"So the test contradicts the recommendation: the bare backbone is better{instead}."
    return f"So the recommendation is not confirmed{instead}."


def _sentence(family: Family, test: PairTest, now: Snapshot) -> str:
    metric = family.metric
    word = "no difference shown" if test.word == "not shown" else test.word
    names = " against ".join(network_name(now, family, key) for key in (test.key, test.control))
    of = "" if test.looks == 1 else f", over {several(test.blocks, 'seed')} of {test.looks} tests"
    text = f"{names}: {word}, {units.gained(metric, test.difference, *test.between)}{of}."
    if test.not_worse is None or family.margin is None:
        return text
    verb = "is not" if test.not_worse else "may be"
    return f"{text} It {verb} worse by more than {units.size(metric, family.margin)}."


def network_name(now: Snapshot, family: Family, key: str) -> str:
    """The name of a family's network for people: its label, as tables have it, and its role."""
    network = _network_of(family, key)
    if network.placement == BARE:
        return "the bare backbone"
    return f"{network_label(now, network)} ({network.role})"


def network_label(now: Snapshot, network: TestedNetwork) -> str:
    """The label of a tested network; its placement, if it is no candidate of the study."""
    view = now.find(network.key)
    return str(network.placement) if view is None else view.label


def _network_of(family: Family, key: str) -> TestedNetwork:
    return next(network for network in family.networks if network.key == key)


def announcement(
    now: Snapshot, family: Family, forecast: ValidationForecast, difference: float | None = None
) -> list[Line]:
    """Says what a test compares, what it can show and what it costs, before its first run.

    Args:
        now: the study.
        family: the comparisons of the test.
        forecast: what its blocks can show and cost.
        difference: that the user wants to see shown; None: not asked for.

    Returns:
        A headline, then lines with labels.
    """
    pairs = "; ".join(
        f"{network_name(now, family, network)} against {network_name(now, family, control)}"
        for network, control in family.comparisons
    )
    seconds = ""
    if forecast.total_s is not None:
        seconds = f", about {units.duration(forecast.total_s)} of training in all"
    source = "from the search's runs"
    if forecast.noise_blocks:
        source = f"from {forecast.noise_blocks} earlier seeds"
    # the unit is said once, after the other end
    low = units.unit(family.metric).size(abs(forecast.detectable_low))
    high = units.size(family.metric, forecast.detectable_high)
    lines = [
        Line(f"Test {family.number}: {pairs}"),
        *_placements(family, now),
        Line(
            f"{several(family.blocks, 'seed')} of {len(family.networks)} networks, each for"
            f" {several(family.epochs, 'epoch')}{seconds}",
            "Trains",
        ),
        Line(
            f"with a probability of 80 %, a true difference of {low} to {high}. That is a range,"
            f" since the noise is only known {source}.",
            "Shows",
        ),
        Line("the test images, once in each run, which is logged", "Reads"),
    ]
    if difference is not None:
        lines.append(Line(_seeds_needed(family, forecast, difference), "Seeds"))
    return lines


def _seeds_needed(family: Family, forecast: ValidationForecast, difference: float) -> str:
    """How many seeds show a difference."""
    needed = (
        "over 256" if count is None else str(count) for count in forecast.blocks_to_show(difference)
    )
    counts = " to ".join(dict.fromkeys(needed))
    return f"to show {units.size(family.metric, difference)}, --seeds {counts}"


def _placements(family: Family, now: Snapshot) -> Iterator[Line]:
    """`uniform eca is stage1=eca …`, of each network whose label is not its placement."""
    label_above = "Networks"
    for network in family.networks:
        label = network_label(now, network)
        if network.placement != BARE and label != str(network.placement):
            yield Line(f"{label} is {network.placement}", label_above)
            label_above = " "
