"""Advice on attention in a network, without training: what published comparisons say of modules in
it, and what they cost here.
"""

from __future__ import annotations

import copy
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from nas_attn import attachment
from nas_attn.attention.catalogue import ROWS
from nas_attn.errors import Unmeasurable, first_line, several
from nas_attn.latency.locks import DeviceLock
from nas_attn.latency.machine import fingerprint
from nas_attn.latency.ratios import estimate, open_keys
from nas_attn.latency.session import measure
from nas_attn.model.published_gains import COVERAGE, ExpectedGain, PooledFit, Situation, pooled
from nas_attn.recipe.reading import load_space
from nas_attn.recipe.recipe import LatencySection
from nas_attn.recipe.tasks import variants
from nas_attn.recipe.units import MINUS, NO_VALUE, duration, probability, times
from nas_attn.space.notation import parse
from nas_attn.space.placement import Placement, Site
from nas_attn.space.search_space import resolve
from nas_attn.storage.records import Latency, Session
from nas_attn.system.wrapping import Line

# modules that are looked at, each in all sites of one part of the network
LOOKED_AT = 6
# the search space of a task that has none of its own
USUAL_SPACE = "plug_and_play"
# the evidence's form of a module -> `training.init`
INIT_OF_FORM = {"identity": "identity", "random": "paper"}
# how names of sites begin in a part of the network
SITES = {"backbone": "stage", "neck": "neck", "head": "head"}
START_WORDS = {"scratch": "from random weights", "pretrained": "from trained weights"}
FORM_WORDS = {"identity": "as the identity", "random": "with random gates"}
ADVICE_COLUMNS = ("latency", "95 % interval", "gain", "80 % interval", "helps", "pairs", "sources")
"""Gains in points; `pairs` of trainings of this module, place, start and form, and their sources.
Without one there is no gain.
"""


@dataclass(frozen=True, slots=True)
class Question:
    """What advice is asked for."""

    backbone: str
    """Its name."""
    input_shape: tuple[int, int, int]
    setting: Situation
    """In the backbone; without module and depth."""
    section: LatencySection


@dataclass(frozen=True, slots=True)
class Advised:
    """A module in a part of the network, with its default settings."""

    placement: Placement
    predicted: float
    """What it is ranked by: the pooled fit's mean, also where no row is like it."""
    gain: ExpectedGain | None
    """None: no row has this module in this task, place, start and form."""
    latency: Latency | None = None
    """None: it does not run here, or there was no time."""
    refused: str = ""
    """Why it does not run here."""


@dataclass(frozen=True, slots=True)
class Advice:
    """All that is said of a network."""

    question: Question
    sites: tuple[Site, ...]
    """Stages, necks and heads."""
    gain: ExpectedGain | None
    """Of modules as the rows of this setting have them; None: it has no row."""
    placements: tuple[Advised, ...]
    """The most promising first."""
    machine: str
    seconds: float
    """That the advice took."""

    @property
    def measured(self) -> list[Advised]:
        """Those with a latency."""
        return [one for one in self.placements if one.latency is not None]

    @property
    def most_likely(self) -> Advised | None:
        """What of the measured ones is most likely to help; None: nothing is known of any."""
        known = [one for one in self.measured if one.gain is not None]
        return max(known, key=lambda one: one.gain.probability if one.gain else 0.0, default=None)


def advise(model: nn.Module, question: Question, *, until: float) -> Advice:
    """Looks up what is known of attention in a network, and measures what it costs.

    Args:
        model: The network.
        question: What is asked.
        until: The end of measuring, by `time.monotonic`; a session that has begun is ended.

    Raises:
        BackboneError: The network has no site.
        MeasurementError: The device or a package is missing, or the bare backbone does not run.
    """
    began = time.monotonic()
    # says at once if the device is missing
    machine = fingerprint(question.section).name
    fit = pooled()
    places = {
        one.setting.place for one in fit.settings if one.setting.task == question.setting.task
    }
    sites = attachment.survey(model, question.input_shape, heads="head" in places).sites
    large = tuple(site for site in sites if re.fullmatch(r"(stage|neck|head)\d+", site.name))
    found = promising(fit, large, question.setting)
    networks: dict[str, nn.Module] = {}
    refused: dict[str, str] = {}
    init = INIT_OF_FORM[question.setting.form]
    for one in found:
        try:
            resolved = resolve(one.placement, sites, init=init, strict=False)
            networks[str(one.placement)] = attachment.attach(copy.deepcopy(model), resolved).eval()
        except Exception as error:
            # whatever a network raises with a module in it
            refused[str(one.placement)] = first_line(error)
    latencies = estimate(_sessions(model, question, networks, refused, until=until))
    gain = fit.usual_gain(question.setting)
    return Advice(
        question=question,
        sites=large,
        gain=gain if gain.rows else None,
        placements=tuple(
            replace(
                one,
                latency=latencies.get(str(one.placement)),
                refused=refused.get(str(one.placement), ""),
            )
            for one in found
        ),
        machine=machine,
        seconds=time.monotonic() - began,
    )


def promising(fit: PooledFit, sites: Sequence[Site], setting: Situation) -> list[Advised]:
    """The modules that are worth a look: those with the largest published gains in this setting,
    then those that a search of the task has, as the fit ranks them.
    """
    space = load_space(variants(setting.task)[0].hints.space or USUAL_SPACE)
    modules = dict.fromkeys(space.choices)
    for one in fit.settings:
        if replace(one.setting, place=setting.place) == setting:
            modules |= dict.fromkeys(name for name in one.modules if name in ROWS)
    best: list[Advised] = []
    for module in modules:
        placed = [
            _advised(fit, names, replace(setting, place=place, module=module))
            for place, prefix in SITES.items()
            if (names := [site.name for site in sites if site.name.startswith(prefix)])
        ]
        best += sorted(placed, key=_rank)[:1]
    return sorted(best, key=_rank)[:LOOKED_AT]


def _rank(one: Advised) -> tuple[bool, float]:
    return one.gain is None, -one.predicted


def _advised(fit: PooledFit, names: Sequence[str], situation: Situation) -> Advised:
    gain = fit.gain(situation)
    return Advised(
        placement=parse(" ".join(f"{name}={situation.module}" for name in names)),
        predicted=gain.mean,
        # else it would be a figure of other modules
        gain=gain if gain.own_module else None,
    )


def _sessions(
    model: nn.Module,
    question: Question,
    networks: dict[str, nn.Module],
    refused: dict[str, str],
    *,
    until: float,
) -> list[Session]:
    """Latency sessions until all intervals are narrow or the time is over. A network that does not
    run moves from `networks` to `refused`, with the reason.
    """
    section = question.section
    sessions: list[Session] = []

    def still_open(_done: Sequence[Session]) -> list[str]:
        if sessions and time.monotonic() > until:
            return []
        return open_keys(sessions, networks, tolerance=section.tolerance)

    while networks:
        try:
            sessions.extend(
                measure(
                    section,
                    reference=model,
                    candidates=networks,
                    input_shape=question.input_shape,
                    seed=len(sessions),
                    still_open=still_open,
                    lock=DeviceLock.for_section(section),
                )
            )
        except Unmeasurable as error:
            if error.network not in networks:
                raise
            refused[error.network] = error.reason
            del networks[error.network]
        else:
            break
    return sessions


def before_table(advice: Advice) -> Iterator[Line]:
    """What is asked about, where attention can go, and what is known."""
    setting = advice.question.setting
    how = f"modules start {FORM_WORDS[setting.form]}"
    yield Line(f"{setting.task}, {START_WORDS[setting.start]}, {how}", "for")
    points = [(site.name, site.at(site.default_position)[0]) for site in advice.sites]
    listed = (f"{name} ({at.channels} ch, {at.height}x{at.width})" for name, at in points)
    yield Line(", ".join(listed), "sites")
    gain = advice.gain
    if gain is None:
        yield Line("nothing: no published comparisons have this task, start and form", "known")
        return
    pairs = several(gain.rows, "pair")
    networks = several(gain.groups, "network")
    yield Line(
        f"{_points(gain.mean)} points (80 %: {_points(gain.low)} to {_points(gain.high)}),"
        f" {probability(gain.probability)} likely to help, in the next network ({pairs} of"
        f" trainings; {networks}, {several(len(gain.sources), 'source')})",
        "known",
    )


def rows(advice: Advice) -> list[list[str]]:
    """The table of what was measured, below `ADVICE_COLUMNS` and the placement."""
    return [
        [*_latency_cells(one.latency), *_gain_cells(one.gain), str(one.placement)]
        for one in advice.placements
        if one.latency is not None
    ]


def _latency_cells(latency: Latency) -> list[str]:
    return [times(latency.ratio), f"{latency.low:.2f} to {latency.high:.2f}"]


def _gain_cells(gain: ExpectedGain | None) -> list[str]:
    if gain is None:
        return [NO_VALUE, NO_VALUE, NO_VALUE, "0", "0"]
    return [
        _points(gain.mean),
        f"{_points(gain.low)} to {_points(gain.high)}",
        probability(gain.probability),
        str(gain.own_module),
        str(len(gain.own_sources)),
    ]


def after_table(advice: Advice) -> Iterator[Line]:
    """How it was measured, and what does not run here."""
    section = advice.question.section
    how = f"{advice.machine}, {section.mode}, batch {section.batch_size}"
    late = sum(one.latency is None and not one.refused for one in advice.placements)
    more = f"; no time for {several(late, 'more placement')}" if late else ""
    yield Line(f"{how}; {duration(advice.seconds)}{more}", "latency")
    for one in advice.placements:
        if one.refused:
            yield Line(f"{one.placement}: {one.refused}", "refused")


def _points(points: float) -> str:
    sign = MINUS if round(points, 1) < 0 else "+"
    return f"{sign}{abs(points):.1f}"


def advice_as_json(advice: Advice) -> dict[str, Any]:
    """The advice in JSON's types; gains in points."""
    setting = advice.question.setting
    return {
        "backbone": advice.question.backbone,
        "input_shape": list(advice.question.input_shape),
        "task": setting.task,
        "place": setting.place,
        "start": setting.start,
        "form": setting.form,
        "sites": [site.name for site in advice.sites],
        "known": advice.gain is not None,
        **_gain_as_json(advice.gain),
        "latency": [
            {
                "placement": str(one.placement),
                "ratio": one.latency.ratio,
                "low": one.latency.low,
                "high": one.latency.high,
                "ms": one.latency.ms,
                "sessions": one.latency.sessions,
                **_gain_as_json(one.gain),
            }
            for one in advice.placements
            if one.latency is not None
        ],
        "refused": [
            {"placement": str(one.placement), "reason": one.refused}
            for one in advice.placements
            if one.refused
        ],
        "machine": advice.machine,
        "seconds": advice.seconds,
    }


def _gain_as_json(gain: ExpectedGain | None) -> dict[str, Any]:
    """A gain with its probability and sources."""
    if gain is None:
        return {"gain": None, "probability": None, "sources": []}
    interval = {"mean": gain.mean, "low": gain.low, "high": gain.high, "coverage": COVERAGE}
    pairs = {"pairs": gain.own_module or gain.rows, "networks": gain.own_groups or gain.groups}
    return {
        "gain": interval | pairs,
        "probability": gain.probability,
        "sources": list(gain.own_sources or gain.sources),
    }
