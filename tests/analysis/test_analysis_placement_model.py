"""The additive model that functions are drawn from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_attn.analysis.placement_model import Coding, Learner, Value, kin_of_value, winsorised

SITES, CHOICES = 6, 5


def coding(sites: int = SITES, choices: int = CHOICES) -> Coding:
    return Coding({f"site{s}": [f"c{c}" for c in range(choices)] for s in range(sites)})


def rows(count: int, effects: np.ndarray, noise: float, seed: int = 0) -> dict[int, Value]:
    """Placements at random with the sum of their effects (sites, choices), and noise."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(effects.shape[1], size=(count, len(effects)))
    values = effects[np.arange(len(effects)), codes].sum(axis=1) + noise * rng.standard_normal(count)
    return {n: Value(tuple(map(int, c)), float(v)) for n, (c, v) in enumerate(zip(codes, values, strict=True))}


def everywhere(sites: int = SITES, choices: int = CHOICES) -> np.ndarray:
    return np.stack(np.meshgrid(*[np.arange(choices)] * sites, indexing="ij"), axis=-1).reshape(-1, sites)


def truth(effects: np.ndarray) -> np.ndarray:
    return np.asarray(effects[np.arange(SITES), everywhere()].sum(axis=1))


def test_names_of_values_go_from_the_general_to_the_particular() -> None:
    assert kin_of_value("none") == ("none",)
    assert kin_of_value("se(reduction=8)") == ("attention", "se", "se(reduction=8)")
    assert kin_of_value("@block=se(reduction=8)") == (
        "attention",
        "se",
        "se(reduction=8)",
        "@block",
        "@block=se(reduction=8)",
    )
    assert kin_of_value("simam") == ("attention", "simam")


def test_placements_of_another_space_are_no_codes() -> None:
    assert coding(2).encode({"site0": "c1", "site1": "c4", "elsewhere": 1}) == (1, 4)
    assert coding(2).encode({"site0": "c1"}) is None
    assert coding(2).encode({"site0": "c1", "site1": "other"}) is None
    assert coding(2).encode({"site0": "c1", "site1": ["unhashable"]}) is None
    assert coding(2).decode((1, 4)) == {"site0": "c1", "site1": "c4"}


@pytest.mark.parametrize("count", [12, 400])
def test_draws_come_near_an_additive_truth_as_far_as_the_noise_allows(count: int) -> None:
    """With more columns than values, and with more values than columns."""
    effects = np.random.default_rng(1).standard_normal((SITES, CHOICES))
    found = {}
    for noise in (0.01, 2.0):
        learner = Learner(coding())
        learner.update(rows(count, effects, noise))
        draws = [learner.draw(np.random.default_rng(seed)) for seed in range(30)]
        drawn = np.stack([draw.of(everywhere()) for _, draw in draws])
        mean = np.stack([mean.of(everywhere()) for mean, _ in draws]).mean(axis=0)
        found[noise] = (
            np.corrcoef(mean, truth(effects))[0, 1],
            drawn.std(axis=0).mean(),
            np.abs(mean - truth(effects)).mean(),
        )
    assert found[2.0][1] == pytest.approx(found[2.0][2], rel=0.6), "draws differ as much as the mean is off"
    assert found[0.01][0] > (0.999 if count == 400 else 0.5)
    assert found[2.0][0] > (0.9 if count == 400 else 0.1)
    assert found[0.01][1] < found[2.0][1]


def test_types_that_mean_the_same_everywhere_are_borrowed_and_others_are_not() -> None:
    """Choice 4 was never tried at site 0, and five times as bad as the others wherever it was."""
    rng = np.random.default_rng(0)
    shared = np.tile(rng.standard_normal(CHOICES), (SITES, 1))
    shared[:, 4] = 5.0
    own = rng.permuted(shared, axis=1)
    gaps = {}
    for name, effects in (("shared", shared), ("own", own)):
        learner = Learner(coding())
        seen = {n: row for n, row in rows(150, effects, 0.3).items() if row.codes[0] != 4}
        learner.update(seen)
        tables = np.stack([learner.draw(np.random.default_rng(seed))[0].table for seed in range(10)]).mean(axis=0)
        gaps[name] = tables[0, 4] - tables[0, :4].mean()
    assert gaps["shared"] > 4
    assert abs(gaps["own"]) < 1.5


def test_blocks_of_a_stage_are_related() -> None:
    sites = {f"stage{s}.block{b}": ["none", "a", "b"] for s in (1, 2, 3) for b in (1, 2, 3)}
    effects = np.repeat(np.random.default_rng(3).standard_normal((3, 3)) * 3, 3, axis=0)
    kept = {n: row for n, row in rows(60, effects, 0.3).items() if row.codes[1] != 2}  # at stage1.block2 never b
    assert 20 < len(kept) < 60
    learner = Learner(Coding(sites))
    learner.update(kept)
    table = np.mean([learner.draw(np.random.default_rng(seed))[0].table for seed in range(10)], axis=0)
    assert table[1, 2] - table[1, 0] == pytest.approx(effects[1, 2] - effects[1, 0], abs=1.0)


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_only_what_is_known_matters_not_how_it_came(data: st.DataObject) -> None:
    """To the last bit: a restarted study has to propose what an uninterrupted one would."""
    count = data.draw(st.integers(1, 60))
    noise = data.draw(st.lists(st.sampled_from([1.0, 2.0, 3.7, 0.01]), min_size=count, max_size=count))
    effects = np.random.default_rng(0).standard_normal((3, 4))
    final = {
        n: Value(row.codes, row.value, v) for (n, row), v in zip(rows(count, effects, 1.0).items(), noise, strict=True)
    }
    at_once, in_pieces = Learner(coding(3, 4)), Learner(coding(3, 4))
    at_once.update(final)
    for _ in range(data.draw(st.integers(1, 4))):
        some = data.draw(st.lists(st.sampled_from(sorted(final)), unique=True))
        in_pieces.update({n: Value(final[n].codes, 9.0) if n % 5 == 0 else final[n] for n in some})
    in_pieces.update(dict(reversed(final.items())))
    for seed in range(3):
        one, other = (learner.draw(np.random.default_rng(seed)) for learner in (at_once, in_pieces))
        for a, b in zip(one, other, strict=True):
            assert a.constant == b.constant
            assert np.array_equal(a.table, b.table)


def test_equations_in_effects_and_in_placements_have_the_same_solution() -> None:
    learner = Learner(coding())
    effects = np.random.default_rng(2).standard_normal((SITES, CHOICES))
    learner.update({n: Value(r.codes, r.value, 1.0 + n % 3) for n, r in rows(40, effects, 1.0).items()})
    for point in learner._grid[0]:
        prior = learner.coding.prior(point.mix)
        centre, mean_value = learner._centre()
        values = learner._values - mean_value
        rng = np.random.default_rng(0)
        by_entries, _ = learner._by_entries(point, prior, values, centre, rng)
        by_rows, _ = learner._by_rows(point, prior, values, centre, rng)
        assert np.allclose(learner.coding.table(by_entries), learner.coding.table(by_rows), atol=1e-8)


def test_a_weak_hint_says_less_than_a_full_run() -> None:
    effects = np.zeros((SITES, CHOICES))
    base = rows(60, effects, 1.0)
    codes = (1,) * SITES
    found = []
    for noise in (1.0, 16.0):
        learner = Learner(coding())
        learner.update({**base, 99: Value(codes, 20.0, noise)})
        draws = [learner.draw(np.random.default_rng(s))[0].of(np.array([codes]))[0] for s in range(20)]
        found.append(np.mean(draws))
    assert found[1] < found[0]


def test_broken_placements_do_not_rule_the_fit() -> None:
    effects = np.random.default_rng(4).standard_normal((SITES, CHOICES))
    usual = rows(80, effects, 0.3)
    broken = {n: Value(row.codes, row.value + (1e6 if n in (3, 17) else 0)) for n, row in usual.items()}
    learner = Learner(coding())
    learner.update(broken)
    mean = learner.draw(np.random.default_rng(0))[0].of(everywhere())
    assert np.corrcoef(mean, truth(effects))[0, 1] > 0.8
    assert winsorised(np.array([0.0, 1, 2, 3, 1e6])).max() < 10
    assert np.array_equal(winsorised(np.full(9, 2.0)), np.full(9, 2.0))


def test_values_that_do_not_differ_are_borne() -> None:
    learner = Learner(coding())
    learner.update({n: Value(row.codes, 1.0) for n, row in rows(30, np.zeros((SITES, CHOICES)), 0.0).items()})
    _, draw = learner.draw(np.random.default_rng(0))
    assert np.allclose(draw.of(everywhere()), 1.0)


def test_nothing_known_is_said() -> None:
    with pytest.raises(ValueError, match="nothing is known"):
        Learner(coding()).draw(np.random.default_rng(0))
