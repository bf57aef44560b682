"""The advice of a network, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nas_attn.answer.advice.facts import (
    TOO_SLOW,
    Advice,
    MeasuredPlacement,
    OtherSetting,
    SearchPower,
)
from nas_attn.errors import several
from nas_attn.model.published_gains import (
    COVERAGE,
    NOT_SAID,
    ExpectedGain,
    PublishedSetting,
    Situation,
)
from nas_attn.recipe.units import MINUS, NO_VALUE, duration, probability, times
from nas_attn.system.wrapping import Line

START_WORDS = {
    "scratch": "from random weights",
    "pretrained": "from trained weights",
    NOT_SAID: "from weights that are not told",
}
FORM_WORDS = {
    "identity": "as the identity",
    "random": "with random gates",
    NOT_SAID: "in a way that is not told",
}
PART_WORDS = {"backbone": "in the backbone", "neck": "in the neck", "head": "in the head"}
LIKELY_GAIN = 0.8
"""A probability from which a gain is called likely."""
ADVICE_COLUMNS = ("latency", "95 % interval", "gain", "80 % interval", "helps", "pairs", "sources")
"""Gains in points; `pairs` of trainings of this module, place, start and form, and their sources.
Without one there is no gain.
"""


@dataclass(frozen=True, slots=True)
class AdviceRow:
    """A line of the table: a placement and its cells, in the order of `ADVICE_COLUMNS`."""

    placement: str
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AdvisedCommands:
    """How a user goes on, as it is typed."""

    recipe: str
    """Writes the recipe of a search."""
    search: str | None
    """Searches in so short a time as `SearchPower` speaks of; None: not for such data."""


def setting_text(setting: Situation) -> str:
    """`classification, from trained weights, modules start as the identity`."""
    return f"{setting.task}, {START_WORDS[setting.start]}, modules start {FORM_WORDS[setting.form]}"


def before_table(advice: Advice) -> Iterator[Line]:
    """What is asked about, where attention can go, and what is known."""
    yield Line(setting_text(advice.question.setting), "for")
    yield Line(_sites(advice), "sites")
    for text in _known(advice):
        yield Line(text, "known")
    for seen in advice.seen:
        yield Line(_seen(seen), "seen")


def rows(advice: Advice) -> list[AdviceRow]:
    """The table of what was measured, the most promising first."""
    return [_row(placement) for placement in advice.measured]


def after_table(advice: Advice, power: SearchPower, commands: AdvisedCommands) -> Iterator[Line]:
    """What was not measured, what else is known, and last the commands of a search."""
    yield Line(_latency(advice), "latency")
    for text in _refused(advice):
        yield Line(text, "refused")
    unknown = _modules_without_rows(advice)
    if unknown:
        yield Line(_nothing_known(unknown), "unknown")
    for other in advice.others:
        yield Line(_other(other), "other")
    yield Line(_power(power), "search")
    yield Line(_meaning(advice, power), "so")
    if commands.search is not None:
        yield Line(commands.search, "begin")
    yield Line(commands.recipe, "recipe")


def _sites(advice: Advice) -> str:
    parts: list[str] = []
    for site in advice.sites:
        point = site.at(site.default_position)[0]
        parts.append(f"{site.name} ({point.channels} ch, {point.height}x{point.width})")
    return ", ".join(parts)


def _known(advice: Advice) -> Iterator[str]:
    task = advice.question.setting.task
    if advice.seen:
        yield f"nothing known of other networks: one source alone has compared attention in {task}"
        return
    if not advice.known:
        yield f"nothing known: no published comparison of {task} is in the table"
        return
    if advice.gain is None:
        yield (
            "nothing known of this: no published comparison has this task, place, start and form,"
            " so no gain is given"
        )
        return
    pairs = several(advice.gain.rows, "pair")
    networks = several(advice.gain.groups, "network")
    yield (
        f"{gain_text(advice.gain)}, {probability(advice.gain.probability)} likely to help, in the"
        f" next network ({pairs} of trainings with {_either(advice.gain.modules)}; {networks},"
        f" {_sources(advice.gain.sources)})"
    )


def _seen(seen: PublishedSetting) -> str:
    """`in the head, …: +5.3 points on average, 47 of 48 pairs gain (gc; 6 networks, 1 source)`."""
    networks = several(seen.rows.groups, "network")
    return (
        f"{_where(seen.setting)}: {_points(seen.mean)} points on average, {seen.positive} of"
        f" {several(seen.rows.rows, 'pair')} gain ({_either([*seen.modules])}; {networks},"
        f" {_sources(seen.rows.sources)})"
    )


def _sources(names: Sequence[str]) -> str:
    """How many; one is named, since all depends on it."""
    if len(names) == 1:
        return f"1 source: {names[0]}"
    return several(len(names), "source")


def _either(names: Sequence[str]) -> str:
    """`se, eca or gc`."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _modules_without_rows(advice: Advice) -> list[str]:
    """Those of the table that have no gain of their own, where others have one."""
    if advice.gain is None:
        return []
    unknown = [
        placement.candidate for placement in advice.measured if placement.candidate.gain is None
    ]
    return list(dict.fromkeys(candidate.situation.module for candidate in unknown))


def _nothing_known(modules: Sequence[str]) -> str:
    return (
        f"nothing known of {_either(modules)} like this: no published comparison has this task,"
        " place, start and form with it, so no gain is given"
    )


def gain_text(gain: ExpectedGain) -> str:
    """`+0.2 points (80 %: −1.3 to +1.7)`."""
    interval = f"{_points(gain.low)} to {_points(gain.high)}"
    return f"{_points(gain.mean)} points ({COVERAGE:.0%}: {interval})".replace("%:", " %:")


def _points(points: float) -> str:
    sign = MINUS if round(points, 1) < 0 else "+"
    return f"{sign}{abs(points):.1f}"


def _row(measured: MeasuredPlacement) -> AdviceRow:
    latency = measured.latency
    gain = measured.candidate.gain
    figures = (NO_VALUE, NO_VALUE, NO_VALUE, "0", "0")
    if gain is not None:
        interval = f"{_points(gain.low)} to {_points(gain.high)}"
        figures = (
            _points(gain.mean),
            interval,
            probability(gain.probability),
            str(gain.own_module),
            str(len(gain.own_sources)),
        )
    interval = f"{latency.low:.2f} to {latency.high:.2f}"
    return AdviceRow(str(measured.candidate.placement), (times(latency.ratio), interval, *figures))


def _latency(advice: Advice) -> str:
    """What was measured, and what was not, but for what does not run."""
    line = _measured(advice) if advice.measured else _nothing_measured(advice)
    if advice.too_slow:
        slow = ", ".join(str(advised.placement) for advised in advice.too_slow)
        line += f"; by a first look over {TOO_SLOW:.0f} times as slow, and not measured: {slow}"
    if advice.measured and advice.unmeasured:
        line += f"; no time for {several(len(advice.unmeasured), 'more placement')}"
    return line


def _measured(advice: Advice) -> str:
    reference_ms = advice.measured[0].latency.reference_ms
    conditions = dict(advice.conditions)
    return (
        f"{advice.machine}, {conditions['mode']}, batch {conditions['batch_size']}; bare"
        f" {reference_ms:.1f} ms; {duration(advice.seconds)}"
    )


def _nothing_measured(advice: Advice) -> str:
    line = f"nothing could be measured in {duration(advice.seconds)}"
    if advice.unmeasured:
        line += "; nas-attn measure takes as long as it needs"
    return line


def _refused(advice: Advice) -> Iterator[str]:
    """The placements that do not run here, those of one reason together."""
    by_reason: dict[str, list[str]] = {}
    for refused in advice.refused:
        by_reason.setdefault(refused.reason, []).append(str(refused.candidate.placement))
    for reason, placements in by_reason.items():
        yield f"{', '.join(placements)}: {reason}"


def _other(other: OtherSetting) -> str:
    where = _where(other.situation)
    counts = f"{several(other.gain.rows, 'pair')}, {several(len(other.gain.sources), 'source')}"
    return f"{where}: {gain_text(other.gain)}, {probability(other.gain.probability)}; {counts}"


def _where(setting: Situation) -> str:
    """Place, start and form."""
    return ", ".join(
        [PART_WORDS[setting.place], START_WORDS[setting.start], FORM_WORDS[setting.form]]
    )


def _power(power: SearchPower) -> str:
    assumed = " (assumed: say --images)" if power.images_assumed else ""
    images = f"{power.images:,} images{assumed}"
    pace = f"about {duration(power.epoch_s)} an epoch; if {power.epochs} epochs will do"
    if power.enough_s is not None:
        return (
            f"{images}, {pace}, half an hour is still too short here: a search takes at least"
            f" {duration(power.enough_s)}; smaller images (--input) need less"
        )
    fits = f"{images}, {pace}, about {several(power.candidates, 'candidate')} in half an hour"
    if power.smallest_gain is not None:
        fits += f", which show gains from about {power.smallest_gain:.1f} points"
    if power.longer is not None:
        fits += (
            f"; from random weights, {power.longer.epochs} are often needed: then a search takes"
            f" at least {duration(power.longer.seconds)}"
        )
    return fits


def _meaning(advice: Advice, power: SearchPower) -> str:
    """What follows: whether it is worth a search, and whether half an hour is enough."""
    if advice.gain is None:
        return "only a search, or a test of your own, says what attention does in this network"
    chance = advice.gain.probability
    if chance >= LIKELY_GAIN:
        line = "worth a search: it is likely to help"
    elif chance > 1 - LIKELY_GAIN:
        line = "the published figures leave it open whether it helps"
    else:
        line = "it is unlikely to help like this: see the other settings"
    if power.smallest_gain is None:
        return line
    if advice.gain.high < power.smallest_gain:
        return f"{line}; half an hour shows only gains above this interval"
    if advice.gain.mean < power.smallest_gain:
        return f"{line}; half an hour shows only gains larger than the expected one"
    return f"{line}; half an hour is enough to show the expected gain"


def advice_as_json(advice: Advice, power: SearchPower, commands: AdvisedCommands) -> dict[str, Any]:
    """The advice in JSON's types; gains in points."""
    gain = advice.gain
    return {
        "backbone": advice.question.backbone,
        "input_shape": list(advice.question.input_shape),
        **_setting_as_json(advice.question.setting),
        "sites": [site.name for site in advice.sites],
        "known": advice.known,
        "latency": [_latency_as_json(placement) for placement in advice.measured],
        "gain": None if gain is None else _gain_as_json(gain),
        "probability": None if gain is None else gain.probability,
        "sources": [] if gain is None else list(gain.sources),
        "too_slow": [str(advised.placement) for advised in advice.too_slow],
        "refused": [
            {"placement": str(refused.candidate.placement), "reason": refused.reason}
            for refused in advice.refused
        ],
        "unmeasured": [str(advised.placement) for advised in advice.unmeasured],
        "seen": [_seen_as_json(seen) for seen in advice.seen],
        "others": [
            {
                **_setting_as_json(other.situation),
                "gain": _gain_as_json(other.gain),
                "probability": other.gain.probability,
                "sources": list(other.gain.sources),
            }
            for other in advice.others
        ],
        "search": asdict(power),
        "machine": advice.machine,
        "conditions": dict(advice.conditions),
        "seconds": advice.seconds,
        "begin": commands.search,
        "recipe": commands.recipe,
    }


def _seen_as_json(seen: PublishedSetting) -> dict[str, Any]:
    return {
        **_setting_as_json(seen.setting),
        "mean": seen.mean,
        "positive": seen.positive,
        "pairs": seen.rows.rows,
        "networks": seen.rows.groups,
        "modules": list(seen.modules),
        "sources": list(seen.rows.sources),
    }


def _setting_as_json(setting: Situation) -> dict[str, str]:
    return {
        "task": setting.task,
        "place": setting.place,
        "start": setting.start,
        "form": setting.form,
    }


def _gain_as_json(gain: ExpectedGain) -> dict[str, Any]:
    """Of all modules together that the rows of a setting have."""
    return {
        **_interval_as_json(gain),
        "modules": list(gain.modules),
        "pairs": gain.rows,
        "networks": gain.groups,
    }


def _module_gain_as_json(gain: ExpectedGain) -> dict[str, Any]:
    """Of one module, with its own rows."""
    return {**_interval_as_json(gain), "pairs": gain.own_module, "networks": gain.own_groups}


def _interval_as_json(gain: ExpectedGain) -> dict[str, float]:
    return {"mean": gain.mean, "low": gain.low, "high": gain.high, "coverage": COVERAGE}


def _latency_as_json(measured: MeasuredPlacement) -> dict[str, Any]:
    latency = measured.latency
    gain = measured.candidate.gain
    return {
        "placement": str(measured.candidate.placement),
        "ratio": latency.ratio,
        "low": latency.low,
        "high": latency.high,
        "ms": latency.ms,
        "sessions": latency.sessions,
        "gain": None if gain is None else _module_gain_as_json(gain),
        "probability": None if gain is None else gain.probability,
        "sources": [] if gain is None else list(gain.own_sources),
        "pairs_of_module": 0 if gain is None else gain.own_module,
    }
