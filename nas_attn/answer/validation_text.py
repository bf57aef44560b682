"""A test of networks (`nas-attn test`): its headline, its networks, what it has shown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence

from nas_attn.answer.pooled import PooledForecast
from nas_attn.answer.snapshot import Snapshot
from nas_attn.answer.validation import Family, TestedNetwork, ValidationResult, Verdict
from nas_attn.answer.validation_forecast import ValidationForecast, blocks_to_show
from nas_attn.errors import several
from nas_attn.recipe import units
from nas_attn.space.placement import BARE
from nas_attn.system.wrapping import Line


def validation_headline(result: ValidationResult) -> str:
    """The test in one line."""
    family = result.family
    planned = max(family.blocks, family.planned or 0)
    over = " (then the search's time was over)" if result.complete else ""
    done = (
        f"{result.blocks} of {planned} seeds{over}"
        if result.blocks < planned
        else several(planned, "seed")
    )
    by = "" if units.is_implied(family.metric) else f"by {units.title(family.metric)} "
    return (
        f"Test {family.number}: trained as the target says"
        f" ({several(family.epochs, 'epoch')}), {done} that no search used; scored {by}on"
        " the test images"
    )


def validation_sentences(result: ValidationResult, now: Snapshot) -> Iterator[str]:
    """One sentence per comparison, then conclusions and remarks; latencies are the study's."""
    family = result.family
    if result.mixed and not result.verdicts:
        yield (
            f"No result: in {result.mixed} of {several(family.blocks, 'seed')}, networks were"
            " computed in different arithmetic, by different machines. Test again on machines that"
            " compute alike."
        )
        return
    if not result.verdicts:
        yield (
            f"No result yet: it comes after {family.blocks} seeds. Run the same command again to"
            " continue."
        )
        return
    for verdict in result.verdicts:
        yield " ".join(_sentences(family, verdict, now))
    yield from _conclusion(result, now)
    if result.mixed:
        yield (
            f"{several(result.mixed, 'seed')} of {result.blocks} count for nothing: their networks"
            " were computed in different arithmetic, by different machines."
        )
    for key, runs in result.diverged.items():
        counts = (
            "the score of guessing"
            if family.chance is not None
            else "the worst score of the comparison"
        )
        of = result.blocks - result.mixed
        gets = "gets" if runs == 1 else "get"
        yield f"{network_name(now, family, key)}: {runs} of {of} runs diverged and {gets} {counts}."
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


def _conclusion(result: ValidationResult, now: Snapshot) -> Iterator[str]:
    """Relates the test to the search's recommendation; nothing if that was not in the family."""
    family = result.family
    recommended = next((n for n in family.networks if n.role == "recommended"), None)
    bare = next((n for n in family.networks if n.placement == BARE), None)
    if recommended is None or bare is None:
        return
    against_none = [v for v in result.verdicts if v.control == bare.key]
    instead = _better_than_bare(result, against_none, recommended, now)
    if recommended.key == bare.key:
        yield _conclusion_of_bare(instead)
        return
    word = next((v.word for v in against_none if v.network == recommended.key), "not shown")
    match word:
        case "better":
            but = _better_still(result, recommended, now)
            yield (
                "So the test confirms the recommendation: it is better than the bare"
                f" backbone{but}."
            )
        case "worse":
            also = f", and {instead}" if instead else ""
            yield f"So the test contradicts the recommendation: the bare backbone is better{also}."
        case _:
            but = f"; {instead}" if instead else ""
            yield f"So the recommendation is not confirmed{but}."


def _conclusion_of_bare(instead: str) -> str:
    """What a test says of a search that recommended the bare backbone."""
    if not instead:
        return (
            "So the test agrees with the search: nothing that was tested is shown to be better than"
            " the bare backbone."
        )
    return (
        "So the test goes beyond the search, which recommended the bare backbone when the test"
        f" began: {instead}, when trained as the target says."
    )


def _better_than_bare(
    result: ValidationResult,
    against_none: Sequence[Verdict],
    recommended: TestedNetwork,
    now: Snapshot,
) -> str:
    """The best network but the recommended one that is shown to be better than the bare backbone,
    with its latency; empty: there is none.
    """
    better = [
        verdict
        for verdict in against_none
        if verdict.word == "better" and verdict.network != recommended.key
    ]
    if not better:
        return ""
    best = max(better, key=lambda verdict: verdict.difference)
    latency = _latency(result.family, best.network, now)
    at = "" if latency is None else f", at {latency[0]:.2f} times the latency"
    return f"{network_name(now, result.family, best.network)} is better{at}"


def _better_still(result: ValidationResult, recommended: TestedNetwork, now: Snapshot) -> str:
    """A rival that is shown to be better than the recommended network; empty: there is none."""
    for verdict in result.verdicts:
        if (verdict.network, verdict.word) == (recommended.key, "worse"):
            return f", but {network_name(now, result.family, verdict.control)} is better still"
    return ""


def _sentences(family: Family, verdict: Verdict, now: Snapshot) -> Iterator[str]:
    metric = family.metric
    word = "no difference shown" if verdict.word == "not shown" else verdict.word
    network = network_name(now, family, verdict.network)
    control = network_name(now, family, verdict.control)
    size = units.gained(metric, verdict.difference, verdict.low, verdict.high)
    yield f"{network} against {control}: {word}, {size}."
    if verdict.new_low is not None and verdict.new_high is not None:
        new = units.difference_range(metric, verdict.new_low, verdict.new_high)
        yield f"For new images: {new}."
    if verdict.not_worse is not None and family.margin is not None:
        margin = units.size(metric, family.margin)
        if verdict.not_worse:
            yield f"It is not worse by more than {margin}{_faster(family, verdict, now)}."
        else:
            yield f"It may be worse by more than {margin}."


def _faster(family: Family, verdict: Verdict, now: Snapshot) -> str:
    """`, and faster by 4.1 %`; empty if a latency is unknown."""
    mine = _latency(family, verdict.network, now)
    other = _latency(family, verdict.control, now)
    if mine is None or other is None:
        return ""
    change = math.log(mine[0] / other[0])
    if abs(change) <= math.hypot(mine[1], other[1]):
        return ", and about as fast"
    return f", and {'faster' if change < 0 else 'slower'} by {100 * abs(math.expm1(change)):.1f} %"


def _latency(family: Family, key: str, now: Snapshot) -> tuple[float, float] | None:
    """(ratio to the bare backbone, half of the 95 % interval of its logarithm); None if it was not
    measured.
    """
    if _network_of(family, key).placement == BARE:
        return 1.0, 0.0
    view = now.find(key)
    if view is None or view.latency is None or not view.latency.measured:
        return None
    return view.latency.ratio, math.log(view.latency.high / view.latency.low) / 2


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
    lines += [Line(_together(now, family, one), "Pooled") for one in forecast.pooled]
    if difference is not None:
        lines.append(Line(_seeds_needed(family, forecast, difference), "Seeds"))
    return lines


def _seeds_needed(family: Family, forecast: ValidationForecast, difference: float) -> str:
    """How many seeds show a difference."""
    needed = (
        "over 256" if count is None else str(count)
        for count in blocks_to_show(forecast, difference)
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


def _together(now: Snapshot, family: Family, pooled: PooledForecast) -> str:
    """What a further test would make of the tests of before."""
    metric = pooled.metric
    before = "the test" if pooled.looks == 1 else f"the {pooled.looks} tests"
    words = {"better": "better", "worse": "worse", "not shown": "no difference shown"}
    network = network_name(now, family, pooled.key)
    return (
        f"With {before} of before, {network} would have been trained with"
        f" {pooled.blocks} seeds instead of {pooled.blocks_before}; if the difference stays"
        f" {units.difference(metric, pooled.difference)}, all of them say: {words[pooled.word]}"
        f" ({units.difference_range(metric, pooled.low, pooled.high)}, for all these comparisons)"
    )
