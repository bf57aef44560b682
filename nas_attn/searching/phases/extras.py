"""What a search tries last, beside its sampler's proposals: placements near the answer."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

from nas_attn.answer.means import recommended
from nas_attn.answer.reading import searched_snapshot
from nas_attn.errors import PlacementError
from nas_attn.searching.propose.candidates import FEW_SITES
from nas_attn.searching.worker.worker import Worker
from nas_attn.space.placement import BARE, ResolvedPlacement
from nas_attn.space.search_space import BARE_VALUE, SearchSpace, Values
from nas_attn.storage.trial_book import TRIED

# with at most so many modules, all parts are near; else those that lack one module
ALL_PARTS = 4


class Extras:
    """Enqueues what a study's sampler is not asked for."""

    def __init__(self, worker: Worker) -> None:
        self._store = worker.store
        self._book = worker.opened.book
        self._bench = worker.benches.search
        self._space = self._bench.plan.space

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
