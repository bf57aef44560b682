"""The network that the rows of an answer are about, and what they say of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from nas_attn.answer.answer import Answer, Option
from nas_attn.answer.candidates import called
from nas_attn.answer.next_step import next_of
from nas_attn.answer.pair_tests import PairTest
from nas_attn.answer.snapshot import CandidateView, Snapshot
from nas_attn.model import Gain
from nas_attn.space.placement import Placement
from nas_attn.storage.records import Latency


@dataclass(frozen=True, slots=True)
class NetworkNames:
    """A network by its names."""

    key: str | None
    """None: it is no candidate."""
    label: str
    placement: Placement


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A network, with what it brings over the bare backbone in the metric's unit."""

    of: NetworkNames
    metric: str
    mean: float
    low: float
    """Of the 95 % interval."""
    high: float
    before: float | None = None
    """The bare backbone's value."""
    after: float | None = None
    """The network's value."""
    on_test_images: bool = False
    """Whether a test tells it; else it is estimated from the search."""
    view: CandidateView | None = field(compare=False)
    """None: it was only tested, and is no candidate."""
    estimated: Gain | None = field(compare=False)

    @property
    def placement(self) -> Placement:
        return self.of.placement

    @property
    def latency(self) -> Latency | None:
        return None if self.view is None else self.view.latency


def shown(answer: Answer) -> Shown | None:
    """What is taken; where the bare backbone is kept, what a test is to decide on, or has, else the
    most promising placement. None: nothing is known.
    """
    now = answer.now
    test = answer.test
    option = _option(answer, test)
    if test is not None:
        is_of_test = option is None or option.key == test.key
        if answer.confirmed or (answer.keeps_bare and is_of_test):
            return _tested(now, test)
    if option is None:
        return None
    view = option.view
    before = after = None
    if option.length is None:
        after = view.estimates[now.metric].mean
        if now.bare is not None and now.metric in now.bare.estimates:
            before = now.bare.estimates[now.metric].mean
    return Shown(
        of=NetworkNames(view.key, called(view, view.placement), view.placement),
        metric=now.metric,
        mean=option.gain.mean,
        low=option.gain.low,
        high=option.gain.high,
        before=before,
        after=after,
        view=view,
        estimated=option.gain,
    )


def _option(answer: Answer, test: PairTest | None) -> Option | None:
    if answer.taken is not None:
        return answer.taken
    if test is not None:
        networks = (one for one in answer.options if one.length is None)
        return next((one for one in networks if one.key == test.key), None)
    step = next_of(answer)
    if step is not None and step.of is not None:
        return step.of
    return answer.bet if answer.keeps_bare else None


def _tested(now: Snapshot, test: PairTest) -> Shown:
    """What all tests of the pair have shown."""
    view = now.find(test.key)
    low, high = test.between
    return Shown(
        of=NetworkNames(
            None if view is None else view.key, called(view, test.placement), test.placement
        ),
        metric=now.metric,
        mean=test.difference,
        low=low,
        high=high,
        before=test.before,
        after=test.after,
        on_test_images=True,
        view=view,
        estimated=None if view is None else view.gains.get(test.metric),
    )
