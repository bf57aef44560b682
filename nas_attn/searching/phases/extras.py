"""What a search tries last, beside its sampler's proposals: placements near the answer."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

from nas_attn.answer.answer import answer_of
from nas_attn.answer.reading import searched_snapshot
from nas_attn.errors import PlacementError
from nas_attn.searching.propose.candidates import FEW_SITES
from nas_attn.space.placement import ResolvedPlacement
from nas_attn.space.search_space import BARE_VALUE, Values
from nas_attn.storage.store import StudyStore
from nas_attn.training.plan import Plan

# with at most so many modules, all parts are near; else those that lack one module
ALL_PARTS = 4


def near_answer(store: StudyStore, plan: Plan) -> ResolvedPlacement | None:
    """An untried placement near the recommended one: one of its modules alone if none was tried,
    else another part of it; in small spaces, then one that differs at one site. Of several, the
    best by the model.

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
    sites = [
        site for site, value in answer.items() if BARE_VALUE in {*space.allowed[site]} - {value}
    ]

    def untried(some: Iterable[Values]) -> dict[str, ResolvedPlacement]:
        networks = map(space.resolve, some)
        return {network.key: network for network in networks if not store.candidate(network.key)}

    near = untried(parts(answer, sites, [1]))
    if len(near) < len(sites) or len(sites) == 1:
        least = 1 if len(sites) <= ALL_PARTS else len(sites) - 1
        near = untried(parts(answer, sites, range(len(sites) - 1, least - 1, -1)))
    if not near and len(answer) <= FEW_SITES:
        near = untried(space.neighbours(answer))
    if not near:
        return None
    placements = {key: network.placement for key, network in near.items()}
    estimates = model.about(placements).estimates
    sign = -1 if model.lower_is_better else 1
    return near[max(near, key=lambda key: sign * estimates[key].mean)]


def parts(
    values: Mapping[str, str], sites: Sequence[str], counts: Iterable[int]
) -> Iterator[Values]:
    """A placement with so many of its modules; `sites`: where they can be left out."""
    for count in counts:
        for kept in itertools.combinations(sites, count):
            yield {**values, **dict.fromkeys({*sites} - {*kept}, BARE_VALUE)}
