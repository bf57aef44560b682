"""Relatives of the backbone that a search tries beside placements (`search.controls`): the answer
takes one instead of attention if it gains more.

A larger network near attention's latency comes first, then a smaller one that leaves room for
attention, the next larger one, and the smaller one with the best placement so far. They come late,
when attention's cost is known, and are at most a quarter of the candidates.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import suppress

from optuna.trial import FrozenTrial

from nas_attn.answer.answer import answer_of
from nas_attn.answer.reading import searched_snapshot
from nas_attn.answer.snapshot import Snapshot
from nas_attn.attention.choice import Choice
from nas_attn.backbones.relatives import Relatives
from nas_attn.errors import BackboneError, MeasurementError, PlacementError, TrainingError
from nas_attn.searching.prepare.baselines import (
    control_name,
    family_of,
    most_relatives,
    relative,
)
from nas_attn.searching.worker.worker import Worker
from nas_attn.space.placement import BARE, Placement, ResolvedPlacement
from nas_attn.space.search_space import other_of
from nas_attn.storage.records import Latency
from nas_attn.storage.trial_book import BASELINE, outside
from nas_attn.training.starts import given_weights

# latency ratio of a smaller network that is worth its place
CLEARLY_FASTER = 0.85


class QueuedRelatives:
    """Enqueues relatives of a study's backbone."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._bench = worker.benches.search
        self._family: Relatives | None = None
        # networks that cannot be compared here
        self._left_out: set[Choice] = set()

    def enter(self, trials: Sequence[FrozenTrial]) -> bool:
        """Enqueues the next relative; returns whether there is one."""
        tried = [place for trial in trials if other_of(place := outside(trial) or BARE)]
        if len(tried) >= most_relatives(self._worker.opened.trials):
            return False
        if self._family is None:
            plan = self._bench.plan
            self._family = family_of(plan.recipe, plan, self._worker.opened.trials)
            for note in self._family.notes:
                self._worker.say(note)
        larger = [other for other in self._family.larger if self._can_start(other)]
        smaller = [other for other in self._family.smaller if self._can_start(other)]
        if not (larger or smaller):
            return False
        chosen = self._next(larger, smaller, tried)
        if chosen is None:
            return False
        attributes = {BASELINE: control_name(chosen.placement)}
        self._worker.opened.book.enqueue_outside(chosen.text, attributes)
        return True

    def _can_start(self, other: Choice) -> bool:
        """Whether this machine can begin to train a network; says why not, once."""
        if other in self._left_out:
            return False
        try:
            plan = self._bench.plan.like(other)
            if plan.recipe.training.start == "pretrained":
                given_weights(plan)
        except BackboneError as error:
            self._leave_out(other, f"{other} is not compared with the backbone: {error}")
            return False
        return True

    def _leave_out(self, other: Choice, why: str) -> None:
        self._worker.say(why)
        self._left_out.add(other)

    def _next(
        self, larger: Sequence[Choice], smaller: Sequence[Choice], tried: Sequence[Placement]
    ) -> ResolvedPlacement | None:
        """The next network; None if all that belong to the comparison were tried."""
        now = searched_snapshot(self._worker.store)
        others = [other_of(placement) for placement in tried if len(placement.assignments) == 1]
        tried_larger = [other for other in larger if other in others]
        tried_smaller = [other for other in smaller if other in others]
        attention = attention_latency(now)
        if larger and not tried_larger:
            return self._nearest(larger, attention, up_to_limit=True)
        if smaller and not tried_smaller:
            return self._nearest(smaller, min(CLEARLY_FASTER, 1 / attention))
        if len(tried_larger) == 1 and len(larger) > 1:
            # one that is larger in another way: deeper, if the first is wider
            (first,) = tried_larger
            rest = [other for other in larger if other != first]
            otherwise = [other for other in rest if other.type != first.type]
            return relative(self._bench.plan, (otherwise or rest)[0])
        if tried_smaller and len(tried) == len(others):
            return self._with_attention(tried_smaller[0], now)
        return None

    def _nearest(
        self, some: Sequence[Choice], ratio: float, *, up_to_limit: bool = False
    ) -> ResolvedPlacement:
        networks = [relative(self._bench.plan, other) for other in some]
        latencies: list[Latency | None] = [None] * len(some)
        for at, network in enumerate(networks):
            with suppress(TrainingError, MeasurementError):
                latencies[at] = self._bench.latency(network, networks)
        reference_ms = next((one.reference_ms for one in latencies if one), None)
        limit = self._worker.recipe.limits.latency_ratio(reference_ms)
        return networks[nearest(latencies, ratio, limit, up_to_limit=up_to_limit)]

    def _with_attention(self, smaller: Choice, now: Snapshot) -> ResolvedPlacement | None:
        """A smaller network with the best placement so far; None where it has no such sites."""
        chosen = answer_of(now).chosen
        placed = [one for one in now.able_to_win if not one.is_bare]
        view = chosen.view if chosen else next(iter(now.ordered(placed)), None)
        if view is None:
            return None
        try:
            return relative(self._bench.plan, smaller, view.placement)
        except (PlacementError, BackboneError) as error:
            self._leave_out(smaller, f"no attention is tried in {smaller}: {error}")
            return None


def attention_latency(now: Snapshot) -> float:
    """The latency ratio of attention: of the recommended or most promising placement, else the
    median one's; 1 if unknown.
    """
    tried = {
        view.key: view.latency.ratio
        for view in now.candidates
        if view.latency and not view.is_bare and not view.control
    }
    attention = answer_of(now).attention
    if attention and attention.key in tried:
        return tried[attention.key]
    return statistics.median(tried.values()) if tried else 1.0


def nearest(
    latencies: Sequence[Latency | None],
    ratio: float,
    limit: float | None,
    *,
    up_to_limit: bool = False,
) -> int:
    """The network whose latency is nearest to a ratio, surely within the limit if one is.

    Args:
        latencies: of the networks; None: not known.
        ratio: the latency that is looked for, in times of the bare backbone's.
        limit: the recipe's; None: there is none.
        up_to_limit: whether the slowest one within the limit is looked for, where one is.

    Returns:
        The index of the network.
    """
    known = {at: latency for at, latency in enumerate(latencies) if latency}
    within = {at: one for at, one in known.items() if limit is not None and one.high <= limit}
    if within and up_to_limit:
        return max(within, key=lambda at: within[at].ratio)
    fitting = within or known
    return min(fitting, key=lambda at: abs(fitting[at].ratio - ratio), default=0)
