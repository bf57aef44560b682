"""The network that the rows of an answer are about, and what they say of it."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from nas_attn.answer.answer import Answer, Option
from nas_attn.answer.next_step import deciding_test, next_of
from nas_attn.answer.pair_tests import PairTest
from nas_attn.answer.snapshot import CandidateView
from nas_attn.model import Gain
from nas_attn.space.placement import Placement
from nas_attn.storage.records import Latency


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A network, with what it brings over the bare backbone in the metric's unit."""

    view: CandidateView | None
    """None: it was only tested, and is no candidate."""
    placement: Placement
    mean: float
    low: float
    """Of the 95 % interval."""
    high: float
    before: float | None = None
    """The bare backbone's value."""
    after: float | None = None
    """The network's value."""
    test: PairTest | None = None
    """That has shown the gain; None: it is estimated."""
    estimated: Gain | None = None

    @property
    def latency(self) -> Latency | None:
        return None if self.view is None else self.view.latency


def shown(answer: Answer) -> Shown | None:
    """What is taken; where the bare backbone is kept, what a test is to decide on, or has, else the
    most promising placement. None: nothing is known.
    """
    test = answer.test
    option = _option(answer, test)
    if test is not None and (answer.confirmed or (answer.keeps_bare and option is None)):
        return _tested(answer, test)
    if answer.keeps_bare and test is not None and option is not None and option.key == test.key:
        return _tested(answer, test)
    if option is None:
        return None
    gain = option.gain
    if option.length is not None:
        return Shown(
            view=option.view,
            placement=option.view.placement,
            mean=gain.mean,
            low=gain.low,
            high=gain.high,
            estimated=gain,
        )
    metric = answer.now.metric
    bare = None if answer.now.bare is None else answer.now.bare.estimates.get(metric)
    return Shown(
        view=option.view,
        placement=option.view.placement,
        mean=gain.mean,
        low=gain.low,
        high=gain.high,
        before=None if bare is None else bare.mean,
        after=option.view.estimates[metric].mean,
        estimated=gain,
    )


def _option(answer: Answer, test: PairTest | None) -> Option | None:
    by_key = {one.key: one for one in answer.options if one.length is None}
    if answer.taken is not None:
        return answer.taken
    if answer.verdict == "early":
        best = (view.key for view in answer.now.ordered(answer.now.able_to_win))
        return next((by_key[key] for key in best if key in by_key), None)
    if test is not None:
        return by_key.get(test.key)
    step = next_of(answer)
    if step is not None and step.of is not None:
        return step.of
    return answer.bet if answer.keeps_bare else None


def _tested(answer: Answer, test: PairTest) -> Shown:
    """What all tests of the pair have shown."""
    values: dict[str, list[float]] = {test.key: [], test.control: []}
    for result in answer.now.validations:
        alike = (result.family.metric, result.family.epochs) == (test.metric, test.epochs)
        if alike and result.family.bare == test.control and test.key in result.values:
            for key in values:
                values[key] += result.values[key]
    low, high = test.between
    view = answer.now.find(test.key)
    return Shown(
        view=view,
        placement=test.placement,
        mean=test.difference,
        low=low,
        high=high,
        before=fmean(values[test.control]),
        after=fmean(values[test.key]),
        test=test,
        estimated=None if view is None else view.gains.get(test.metric),
    )


def too_many_runs(answer: Answer, most: int) -> bool:
    """Whether a test of the most promising network takes more trainings of each network."""
    step = deciding_test(answer) if answer.lacking is None else None
    return step is not None and step.runs > most
