"""Relatives of the backbone that a search tries beside placements (`search.controls`): the answer
takes one instead of attention if it gains more.

A larger network near attention's latency comes first, then a smaller one that leaves room for
attention, the next larger one, and the smaller one with the best placement so far. They come late,
when attention's cost is known, and are at most a quarter of the candidates.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from optuna.trial import FrozenTrial

from nas_attn.answer.means import recommended
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
        self._book = worker.opened.book
        self._bench = worker.benches.search
        self._found: Relatives | None = None
        self._left_out: set[Choice] = set()

    def enter(self, trials: Sequence[FrozenTrial]) -> bool:
        """Enqueues the next relative; returns whether there is one."""
        tried = [place for trial in trials if other_of(place := outside(trial) or BARE)]
        if len(tried) >= most_relatives(self._worker.opened.trials):
            return False
        networks = self._relatives()
        if not (networks.larger or networks.smaller):
            return False
        now = searched_snapshot(self._worker.store)
        chosen = self._next(networks, tried, now)
        if chosen is None:
            return False
        self._book.enqueue_outside(chosen.text, {BASELINE: control_name(chosen.placement)})
        return True

    def within_limit(self) -> tuple[Choice, Latency] | None:
        """The largest of the smaller networks that are surely within the limit of the latency, and
        its latency; None without one.
        """
        smaller = self._relatives().smaller
        for other, latency in zip(smaller, self._latencies(smaller), strict=True):
            if latency is None:
                continue
            limit = self._worker.recipe.limits.latency_ratio(latency.reference_ms)
            if limit is not None and latency.high <= limit:
                return other, latency
        return None

    def _relatives(self) -> Relatives:
        """The networks that can start here as the backbone does."""
        if self._found is None:
            plan = self._bench.plan
            self._found = family_of(plan.recipe, plan, self._worker.opened.trials)
            for note in self._found.notes:
                self._worker.say(note)
        able = [tuple(c for c in some if self._can_start(c)) for some in self._sides()]
        return replace(self._found, larger=able[0], smaller=able[1])

    def _sides(self) -> tuple[tuple[Choice, ...], tuple[Choice, ...]]:
        assert self._found is not None
        return self._found.larger, self._found.smaller

    def _can_start(self, other: Choice) -> bool:
        """Whether this machine can begin to train a network; says why not, once."""
        if other in self._left_out:
            return False
        try:
            plan = self._bench.plan.like(other)
            if plan.recipe.training.start == "pretrained":
                given_weights(plan)
        except BackboneError as error:
            self._worker.say(f"{other} is not compared with the backbone: {error}")
            self._left_out.add(other)
            return False
        return True

    def _next(
        self, networks: Relatives, tried: Sequence[Placement], now: Snapshot
    ) -> ResolvedPlacement | None:
        """The next network; None if all that belong to the comparison were tried."""
        others = [other_of(placement) for placement in tried if len(placement.assignments) == 1]
        larger = [other for other in networks.larger if other in others]
        smaller = [other for other in networks.smaller if other in others]
        attention = attention_latency(now)
        if networks.larger and not larger:
            return self._near_attention(networks.larger, attention)
        if networks.smaller and not smaller:
            return self._nearest(networks.smaller, min(CLEARLY_FASTER, 1 / attention))
        if len(larger) == 1 and len(networks.larger) > 1:
            return self._another(networks.larger, larger[0])
        if smaller and len(tried) == len(others):
            return self._with_attention(smaller[0], now)
        return None

    def _near_attention(self, larger: Sequence[Choice], attention: float) -> ResolvedPlacement:
        """The slowest network that is surely within the limit, else the one nearest to attention's
        latency.
        """
        latencies = self._latencies(larger)
        reference_ms = next((one.reference_ms for one in latencies if one), None)
        limit = self._worker.recipe.limits.latency_ratio(reference_ms)
        return self._bare(larger[which_larger(latencies, attention, limit)])

    def _nearest(self, some: Sequence[Choice], ratio: float) -> ResolvedPlacement:
        """The network whose latency is nearest to a ratio, within the limit if one is."""
        latencies = self._latencies(some)
        reference_ms = next((one.reference_ms for one in latencies if one), None)
        limit = self._worker.recipe.limits.latency_ratio(reference_ms)
        wanted = min(ratio, limit or math.inf)

        def apart(at: int) -> tuple[bool, float]:
            latency = latencies[at]
            if latency is None:
                return False, math.inf
            above = limit is not None and latency.high > limit
            return above, abs(latency.ratio - wanted)

        return self._bare(some[min(range(len(some)), key=apart)])

    def _another(self, larger: Sequence[Choice], first: Choice) -> ResolvedPlacement:
        """The nearest larger network that is larger in another way: deeper, if the first is
        wider.
        """
        rest = [other for other in larger if other != first]
        otherwise = [other for other in rest if other.type != first.type]
        return self._bare((otherwise or rest)[0])

    def _with_attention(self, smaller: Choice, now: Snapshot) -> ResolvedPlacement | None:
        """A smaller network with the best placement so far; None where it has no such sites."""
        best = recommended(now)
        view = None if best is None else now.find(best.key)
        if view is None or view.is_bare:
            placed = [one for one in now.able_to_win if not one.is_bare]
            view = next(iter(now.ordered(placed)), None)
        if view is None or smaller in self._left_out:
            return None
        try:
            return relative(self._bench.plan, smaller, view.placement)
        except (PlacementError, BackboneError) as error:
            self._worker.say(f"no attention is tried in {smaller}: {error}")
            self._left_out.add(smaller)
            return None

    def _latencies(self, some: Sequence[Choice]) -> list[Latency | None]:
        """Their latencies; None where one is not known here."""
        networks = [self._bare(other) for other in some]
        latencies: list[Latency | None] = [None] * len(some)
        for at, network in enumerate(networks):
            with suppress(TrainingError, MeasurementError):
                latencies[at] = self._bench.latency(network, networks)
        return latencies

    def _bare(self, other: Choice) -> ResolvedPlacement:
        return relative(self._bench.plan, other)


def attention_latency(now: Snapshot) -> float:
    """The latency ratio of attention: of the recommended or most promising placement, else the
    median one's; 1 if unknown.
    """
    tried = {
        view.key: view.latency.ratio
        for view in now.candidates
        if view.latency and not view.is_bare and not view.control
    }
    best = recommended(now)
    if best and best.key in tried:
        return tried[best.key]
    if best and best.best_bet and best.best_bet.key in tried:
        return tried[best.best_bet.key]
    return statistics.median(tried.values()) if tried else 1.0


def which_larger(latencies: Sequence[Latency | None], attention: float, limit: float | None) -> int:
    """The larger network to try: the slowest one that is surely within the limit, else the one
    nearest to attention's latency.

    Args:
        latencies: of the networks; None: not known.
        attention: its latency, in times of the bare backbone's.
        limit: the recipe's; None: there is none.

    Returns:
        The index of the network.
    """
    within = {
        i: latency.ratio
        for i, latency in enumerate(latencies)
        if latency and limit is not None and latency.high <= limit
    }
    apart = [
        math.inf if latency is None else abs(latency.ratio - attention) for latency in latencies
    ]
    if within:
        return max(within, key=lambda i: within[i])
    return apart.index(min(apart))
