"""What a search tries beside its sampler's proposals: late, a larger network as a control; last,
placements near the answer.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

from optuna.trial import FrozenTrial

from nas_attn.answer.means import recommended
from nas_attn.answer.reading import searched_snapshot
from nas_attn.answer.rounds import price
from nas_attn.errors import BackboneError, MeasurementError, PlacementError, TrainingError
from nas_attn.model.features import is_other
from nas_attn.searching.prepare.baselines import larger_networks
from nas_attn.searching.propose.candidates import FEW_SITES
from nas_attn.searching.worker.worker import Worker
from nas_attn.space.placement import BARE, ResolvedPlacement
from nas_attn.space.search_space import BARE_VALUE, SearchSpace, Values
from nas_attn.storage.records import Latency
from nas_attn.storage.trial_book import BASELINE, TRIED, outside
from nas_attn.training.learning_rates import check_rates
from nas_attn.training.starts import given_weights

# with at most so many modules, all parts are near; else those that lack one module
ALL_PARTS = 4


class Extras:
    """Enqueues what a study's sampler is not asked for."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._recipe = worker.recipe
        self._store = worker.store
        self._book = worker.opened.book
        self._bench = worker.benches.search
        self._space = self._bench.plan.space
        # this machine cannot get the weights of a larger network
        self._no_control = False

    def enter_larger(self, trials: Sequence[FrozenTrial]) -> bool:
        """Enqueues a larger network as a control, once."""
        if self._no_control or any(is_other(outside(trial) or BARE) for trial in trials):
            return False
        larger = larger_networks(self._recipe, self._bench.plan, self._worker.opened.trials)
        if not larger:
            return False
        names = list(larger)
        networks = list(larger.values())
        # of one family: what holds for one, holds for all
        plan = self._bench.plan.like(networks[0].other)
        try:
            check_rates(plan)
            if self._recipe.training.start == "pretrained":
                given_weights(plan)
        except BackboneError as error:
            self._worker.say(f"no larger network is tried as a control: {error}")
            self._no_control = True
            return False
        number = 0
        now = None
        if len(names) > 1:
            now = searched_snapshot(self._store)
        wanted = None
        if now is not None:
            wanted = price(now)
        if wanted is not None:
            with suppress(TrainingError, MeasurementError):
                latencies = [self._bench.latency(network, networks) for network in networks]
                reference_ms = next((one.reference_ms for one in latencies if one), None)
                limit = self._recipe.limits.latency_ratio(reference_ms)
                number = which_larger(latencies, wanted, limit)
        self._book.enqueue_outside(networks[number].text, {BASELINE: names[number]})
        return True

    def enter_near(self) -> None:
        """Enqueues a placement near the recommended one, which is never pruned: one of its modules
        alone if none was tried, else another part of it; in small spaces, then the same with one
        module exchanged. Of several, it takes the best by the model.
        """
        now = searched_snapshot(self._store)
        best = recommended(now)
        model = now.evidence.get(now.primary or "")
        if best is None or model is None or best.placement == BARE:
            return
        try:
            answer = self._space.values(self._bench.plan.resolved(best.placement))
        except PlacementError:
            # the space does not hold it
            return
        near = self._near(answer)
        if not near:
            return
        estimates = model.about({key: network.placement for key, network in near.items()}).estimates
        sign = -1 if model.lower_is_better else 1
        nearest = near[max(near, key=lambda key: sign * estimates[key].mean)]
        self._book.enqueue(self._space.values(nearest), {TRIED: nearest.text})

    def _near(self, answer: Mapping[str, str]) -> dict[str, ResolvedPlacement]:
        """Key -> an untried placement near an answer: the first kind of which there is one."""
        sites = sites_with_attention(self._space, answer)
        alone = self._untried(modules_alone(answer, sites))
        none_was_tried = len(alone) == len(sites)
        if none_was_tried and len(sites) > 1:
            return alone
        near = self._untried(parts(answer, sites))
        if not near and len(answer) <= FEW_SITES:
            near = self._untried(with_one_exchanged(self._space, answer, sites))
        return near

    def _untried(self, some: Iterable[Mapping[str, str]]) -> dict[str, ResolvedPlacement]:
        networks = (self._space.resolve(values) for values in some)
        return {
            network.key: network for network in networks if not self._store.candidate(network.key)
        }


def which_larger(latencies: Sequence[Latency | None], attention: float, limit: float | None) -> int:
    """The larger network to try: the slowest one that is surely within the limit, else the one
    nearest to attention's latency.
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


def sites_with_attention(space: SearchSpace, values: Mapping[str, str]) -> list[str]:
    """The sites whose module can be left out."""
    return [
        site
        for site, value in values.items()
        if value != BARE_VALUE and BARE_VALUE in space.allowed[site]
    ]


def modules_alone(values: Mapping[str, str], sites: Sequence[str]) -> Iterator[Values]:
    """Each of these sites' modules without the others'."""
    for site in sites:
        yield _without(values, {*sites} - {site})


def parts(values: Mapping[str, str], sites: Sequence[str]) -> Iterator[Values]:
    """Without the module of one of these sites, then without those of two …; one module is left."""
    most = len(sites) - 1 if len(sites) <= ALL_PARTS else 1
    for count in range(1, most + 1):
        for left_out in itertools.combinations(sites, count):
            yield _without(values, left_out)


def with_one_exchanged(
    space: SearchSpace, values: Mapping[str, str], sites: Sequence[str]
) -> Iterator[Values]:
    """With each of the modules at one of these sites, its own among them."""
    for site in sites:
        for value in space.allowed[site]:
            if value != BARE_VALUE:
                yield {**values, site: value}


def _without(values: Mapping[str, str], sites: Iterable[str]) -> Values:
    return {**values, **dict.fromkeys(sites, BARE_VALUE)}
