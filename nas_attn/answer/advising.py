"""Advice on attention in a network, without training: what published comparisons say of modules in
it, and what they cost here.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import nn

from nas_attn import attachment
from nas_attn.errors import Unmeasurable, first_line, several
from nas_attn.latency.locks import DeviceLock
from nas_attn.latency.machine import fingerprint
from nas_attn.latency.ratios import estimate, open_keys
from nas_attn.latency.session import measure
from nas_attn.model.published_gains import COVERAGE, ExpectedGain, published_gains
from nas_attn.recipe.reading import load_space
from nas_attn.recipe.recipe import LatencySection
from nas_attn.recipe.tasks import variants
from nas_attn.recipe.units import MINUS, NO_VALUE, duration, probability, times
from nas_attn.space.notation import parse
from nas_attn.space.search_space import resolve
from nas_attn.storage.records import Latency, Session
from nas_attn.system.wrapping import Line

# modules that are looked at, each in all sites of one part of the network
LOOKED_AT = 6
# the search space of a task that has none of its own
USUAL_SPACE = "plug_and_play"
# `training.init` -> the evidence's form of a module
FORM_OF_INIT = {"identity": "identity", "paper": "random"}
# how names of sites begin in a part of the network
SITES = {"backbone": "stage", "neck": "neck", "head": "head"}
START_WORDS = {"scratch": "from random weights", "pretrained": "from trained weights"}
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
    task: str
    start: str
    """`scratch` or `pretrained`: what the network has learned before."""
    init: str
    """How modules begin: `identity` or `paper`."""
    section: LatencySection

    def known(self, place: str, module: str = "") -> ExpectedGain | None:
        """What is known of a module (any) in a part of the network."""
        at = (self.task, place, self.start, FORM_OF_INIT[self.init], module)
        return published_gains().get(at)


@dataclass(frozen=True, slots=True)
class Advised:
    """A module in a part of the network, with its default settings."""

    placement: str
    gain: ExpectedGain | None
    """None: no comparison has this module in this task, place, start and form."""
    latency: Latency | None = None
    """None: it does not run here, or there was no time."""
    refused: str = ""
    """Why it does not run here."""


@dataclass(frozen=True, slots=True)
class Advice:
    """All that is said of a network."""

    question: Question
    sites: tuple[str, ...]
    """Stages, necks and heads."""
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
    sites = attachment.survey(model, question.input_shape, heads=True).sites
    large = [site.name for site in sites if site.name.rstrip("0123456789") in SITES.values()]
    found = {one.placement: one for one in promising(large, question)}
    networks: dict[str, nn.Module] = {}
    for text, one in found.items():
        try:
            resolved = resolve(parse(text), sites, init=question.init, strict=False)
            networks[text] = attachment.attach(copy.deepcopy(model), resolved).eval()
        except Exception as error:
            # whatever a network raises with a module in it
            found[text] = replace(one, refused=first_line(error))
    sessions: list[Session] = []
    tolerance = question.section.tolerance

    def still_open(_done: Sequence[Session]) -> list[str]:
        over = bool(sessions) and time.monotonic() > until
        return [] if over else open_keys(sessions, networks, tolerance=tolerance)

    while still_open(()):
        try:
            sessions.extend(
                measure(
                    question.section,
                    reference=model,
                    candidates=networks,
                    input_shape=question.input_shape,
                    seed=len(sessions),
                    still_open=still_open,
                    lock=DeviceLock.for_section(question.section),
                )
            )
        except Unmeasurable as error:
            if error.network not in networks:
                raise
            found[error.network] = replace(found[error.network], refused=error.reason)
            del networks[error.network]
    latencies = estimate(sessions)
    return Advice(
        question=question,
        sites=tuple(large),
        placements=tuple(replace(one, latency=latencies.get(text)) for text, one in found.items()),
        machine=machine,
        seconds=time.monotonic() - began,
    )


def promising(sites: list[str], question: Question) -> list[Advised]:
    """The modules that are worth a look: those with the largest published gains, each in the part
    of the network where it gains most; then those that a search of the task has.
    """
    best: dict[str, Advised] = {}
    for place, prefix in SITES.items():
        names = [name for name in sites if name.startswith(prefix)]
        for task, at, *_, module in published_gains() if names else ():
            gain = question.known(place, module)
            if module and (task, at) == (question.task, place) and gain is not None:
                known = best.get(module)
                if known is None or known.gain is None or gain.mean > known.gain.mean:
                    best[module] = Advised(_everywhere(names, module), gain)
    found = sorted(best.values(), key=lambda one: -one.gain.mean if one.gain else 0.0)
    stages = [name for name in sites if name.startswith("stage")] or sites
    for module in load_space(variants(question.task)[0].hints.space or USUAL_SPACE).choices:
        if module not in best:
            found.append(Advised(_everywhere(stages, module), None))
    return found[:LOOKED_AT]


def _everywhere(names: list[str], module: str) -> str:
    return " ".join(f"{name}={module}" for name in names)


def before_table(advice: Advice) -> Iterator[Line]:
    """What is asked about, where attention can go, and what is known."""
    question = advice.question
    how = {"identity": "as the identity", "paper": "with random gates"}[question.init]
    yield Line(f"{question.task}, {START_WORDS[question.start]}, modules start {how}", "for")
    yield Line(", ".join(advice.sites), "sites")
    gain = question.known("backbone")
    if gain is None:
        yield Line("nothing: no published comparisons have this task, start and form", "known")
        return
    of = f"{several(gain.pairs, 'pair')} of trainings; {several(gain.networks, 'network')}"
    yield Line(
        f"{_points(gain.mean)} points (80 %: {_points(gain.low)} to {_points(gain.high)}),"
        f" {probability(gain.probability)} likely to help, in the next network ({of},"
        f" {several(len(gain.sources), 'source')})",
        "known",
    )


def rows(advice: Advice) -> list[list[str]]:
    """The table of what was measured, below `ADVICE_COLUMNS` and the placement."""
    table = []
    for one in advice.measured:
        assert one.latency is not None
        cells = [NO_VALUE, NO_VALUE, NO_VALUE, "0", "0"]
        gain = one.gain
        if gain is not None:
            cells = [
                _points(gain.mean),
                f"{_points(gain.low)} to {_points(gain.high)}",
                probability(gain.probability),
                str(gain.pairs),
                str(len(gain.sources)),
            ]
        between = f"{one.latency.low:.2f} to {one.latency.high:.2f}"
        table.append([times(one.latency.ratio), between, *cells, one.placement])
    return table


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
    question = advice.question
    known = question.known("backbone")
    return {
        "backbone": question.backbone,
        "input_shape": list(question.input_shape),
        "task": question.task,
        "place": "backbone",
        "start": question.start,
        "form": FORM_OF_INIT[question.init],
        "sites": list(advice.sites),
        "known": known is not None,
        **_gain_as_json(known),
        "latency": [
            {
                "placement": one.placement,
                **(asdict(one.latency) if one.latency else {}),
                **_gain_as_json(one.gain),
            }
            for one in advice.measured
        ],
        "refused": [
            {"placement": one.placement, "reason": one.refused}
            for one in advice.placements
            if one.refused
        ],
        "machine": advice.machine,
        "seconds": advice.seconds,
    }


def _gain_as_json(gain: ExpectedGain | None) -> dict[str, Any]:
    """A gain with its probability and sources."""
    plain: dict[str, Any] = {"gain": None, "probability": None, "sources": []}
    if gain is not None:
        plain = asdict(gain)
        beside = {name: plain.pop(name) for name in ("probability", "sources")}
        plain = {"gain": {**plain, "coverage": COVERAGE}, **beside}
    return plain
