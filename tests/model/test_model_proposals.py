"""Which placement to try next."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_attn.analysis.fronts import hypervolume
from nas_attn.model.proposals import Allowed, Beliefs, Function, _gains_in_plane, non_dominated, proposals


def everything(sites: int, choices: int) -> Allowed:
    free = np.zeros((sites, choices), dtype=bool)
    free[:, 0] = True
    return Allowed(np.ones((sites, choices), dtype=bool), free)


def functions(count: int, sites: int, choices: int, seed: int = 0) -> list[Function]:
    rng = np.random.default_rng(seed)
    first = np.arange(sites) * choices
    return [Function(first, float(rng.normal()), rng.standard_normal(sites * choices)) for _ in range(count)]


def first(beliefs: Beliefs, seen: np.ndarray, allowed: Allowed, by_limit: bool, seed: int = 0) -> tuple[int, ...]:
    return next(proposals(beliefs, seen, allowed, np.random.default_rng(seed), by_limit=by_limit))


def neighbours(placement: np.ndarray, choices: int) -> np.ndarray:
    found = []
    for site in range(len(placement)):
        for choice in range(choices):
            found.append([*placement[:site], choice, *placement[site + 1 :]])
    return np.array(found)


coordinates = st.integers(0, 12).map(float)


@given(
    st.lists(st.tuples(coordinates, coordinates), min_size=0, max_size=8),
    st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=8),
)
def test_gains_are_differences_of_hypervolumes(
    known: list[tuple[float, float]], new: list[tuple[float, float]]
) -> None:
    reference = np.array([10.0, 9.0])
    points = np.array(known).reshape(-1, 2)
    points = points[(points < reference).all(axis=1)]
    front = np.unique(points[non_dominated(points)], axis=0) if len(points) else points
    before = hypervolume(front, reference)
    expected = [hypervolume(np.vstack([front, [p]]), reference) - before for p in new]
    assert np.allclose(_gains_in_plane(np.array(new), front, reference), expected)


@pytest.mark.parametrize("objectives", [2, 3])
def test_the_first_proposal_adds_most_hypervolume_among_changes_of_one_site(objectives: int) -> None:
    sites, choices = 5, 4
    for seed in range(5):
        believed = functions(objectives, sites, choices, seed)
        seen = np.random.default_rng(seed).integers(choices, size=(12, sites))
        beliefs = Beliefs(believed)
        known = beliefs.values(seen)
        reference = known.max(axis=0) + 0.02 * np.ptp(known, axis=0)
        reference[0] = max(np.median(known[:, 0]), *(known[known[:, k].argmin(), 0] for k in range(1, objectives)))

        def gain(placement: tuple[int, ...], known=known, reference=reference, beliefs=beliefs) -> float:  # type: ignore[no-untyped-def]
            new = beliefs.values(np.array([placement]))
            return hypervolume(np.vstack([known, new]), reference) - hypervolume(known, reference)

        parents = seen[non_dominated(known)]
        near = [tuple(n) for parent in parents for n in neighbours(parent, choices).tolist()]
        best = max(map(gain, near))
        chosen = gain(first(beliefs, seen, everything(sites, choices), by_limit=False))
        assert chosen >= (best if objectives == 2 else 0.8 * best) - 1e-9


def test_below_limits_the_best_of_the_primary_objective_comes_first() -> None:
    """The second objective is sought here; what the first one may cost is drawn anew each time."""
    believed = functions(2, 5, 4)
    seen = np.random.default_rng(1).integers(4, size=(15, 5))
    beliefs = Beliefs(believed, primary=1)
    costs, sought = [], []
    for seed in range(40):
        cost, value = beliefs.values(np.array([first(beliefs, seen, everything(5, 4), True, seed)]))[0]
        costs.append(cost)
        sought.append(value)
    assert len(set(costs)) > 4, "limits differ"
    assert np.corrcoef(costs, sought)[0, 1] < -0.5, "more is had for more"


def test_bounds_are_kept_where_something_keeps_them() -> None:
    believed = functions(2, 5, 4)
    limit = functions(1, 5, 4, seed=9)[0]
    seen = np.random.default_rng(1).integers(4, size=(15, 5))
    bound = float(np.quantile(limit.of(seen), 0.3))
    beliefs = Beliefs(believed, bounds=[(limit, bound)])
    for by_limit in (True, False):
        ranked = list(proposals(beliefs, seen, everything(5, 4), np.random.default_rng(0), by_limit=by_limit))
        assert len(ranked) > 5
        assert limit.of(np.array(ranked)).max() <= bound
    nothing = Beliefs(believed, bounds=[(limit, -1e9)])
    assert list(proposals(nothing, seen, everything(5, 4), np.random.default_rng(0), by_limit=True))


@settings(deadline=None)
@given(st.data())
def test_only_allowed_placements_are_proposed(data: st.DataObject) -> None:
    sites, choices = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 4))
    flags = st.lists(st.lists(st.booleans(), min_size=choices, max_size=choices), min_size=sites, max_size=sites)
    inside = np.array(data.draw(flags))
    inside[:, data.draw(st.integers(0, choices - 1))] = True
    free = np.array(data.draw(flags))
    required = int((~(inside & free).any(axis=1)).sum())
    most = data.draw(st.one_of(st.none(), st.integers(required, sites)))
    allowed = Allowed(inside, free, most)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    seen = np.array([allowed.random(rng) for _ in range(6)])
    assert allowed.holds(seen).all()
    believed = functions(data.draw(st.integers(1, 4)), sites, choices)
    beliefs = Beliefs(believed, primary=data.draw(st.integers(0, len(believed) - 1)))
    ranked = list(proposals(beliefs, seen, allowed, rng, by_limit=data.draw(st.booleans())))
    assert allowed.holds(np.array(ranked, dtype=int).reshape(len(ranked), sites)).all()


def test_an_empty_space_is_said_to_be() -> None:
    nowhere = Allowed(np.ones((2, 1), dtype=bool), np.zeros((2, 1), dtype=bool), most=1)
    with pytest.raises(ValueError, match="no placement is allowed"):
        nowhere.random(np.random.default_rng(0))


def test_modules_move_between_sites_where_their_number_is_limited() -> None:
    """From one placement with its one module at site 0, all those with it elsewhere are within reach of one proposal."""
    allowed = Allowed(everything(4, 3).choices, everything(4, 3).free, most=1)
    believed = functions(1, 4, 3)
    ranked = set()
    for seed in range(5):
        seen = np.array([[1, 0, 0, 0]])
        ranked |= set(proposals(Beliefs(believed), seen, allowed, np.random.default_rng(seed), by_limit=False))
    assert {(0, 1, 0, 0), (0, 0, 2, 0), (0, 0, 0, 1)} <= ranked
