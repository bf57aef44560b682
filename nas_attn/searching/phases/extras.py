"""What a search tries last, beside its sampler's proposals: placements near the answer."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

from nas_attn.answer.answer import answer_of
from nas_attn.answer.reading import searched_snapshot
from nas_attn.errors import PlacementError
from nas_attn.searching.propose.candidates import FEW_SITES
from nas_attn.space.placement import ResolvedPlacement
from nas_attn.space.search_space import BARE_VALUE, SearchSpace, Values
from nas_attn.storage.store import StudyStore
from nas_attn.training.plan import Plan

# with at most so many modules, all parts are near; else those that lack one module
ALL_PARTS = 4


def near_answer(store: StudyStore, plan: Plan) -> ResolvedPlacement | None:
    """An untried placement near the recommended one: one of its modules alone if none was tried,
    else another part of it; in small spaces, then the same with one module exchanged. Of several,
    the best by the model.

    Args:
        store: of the study.
        plan: of its networks.

    Returns:
        The placement; None if there is none, or no answer yet.
    """
    now = searched_snapshot(store)
    best = answer_of(now).chosen
    if best is None:
        return None
    model = now.evidence[now.metric]
    space = plan.space
    try:
        answer = space.values(plan.resolved(best.placement))
    except PlacementError:
        # the space does not hold it
        return None
    sites = sites_with_attention(space, answer)

    def untried(some: Iterable[Values]) -> dict[str, ResolvedPlacement]:
        networks = map(space.resolve, some)
        return {network.key: network for network in networks if not store.candidate(network.key)}

    near = untried(modules_alone(answer, sites))
    none_was_tried = len(near) == len(sites) > 1
    if not none_was_tried:
        near = untried(parts(answer, sites))
    if not near and len(answer) <= FEW_SITES:
        near = untried(with_one_exchanged(space, answer, sites))
    if not near:
        return None
    placements = {key: network.placement for key, network in near.items()}
    estimates = model.about(placements).estimates
    sign = -1 if model.lower_is_better else 1
    return near[max(near, key=lambda key: sign * estimates[key].mean)]


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
