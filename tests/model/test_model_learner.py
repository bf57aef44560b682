"""The model as samplers use it: functions over placements that may be the truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_attn.model.coding import Coding, names_of
from nas_attn.model.proposals import Function, Learner, Value
from nas_attn.model.runs import without_broken

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


def drawn_from(learner: Learner, seed: int = 0, *, around: bool = False) -> Function:
    return learner.draw(np.random.default_rng(seed), around=around)


def test_names_of_values_go_from_the_general_to_the_particular() -> None:
    assert names_of("none") == ("none",)
    assert names_of("se(reduction=8)") == ("attention", "se", "se(reduction=8)")
    assert names_of("@block=se(reduction=8)") == (
        "attention",
        "se",
        "se(reduction=8)",
        "@block",
        "@block=se(reduction=8)",
    )
    assert names_of("simam") == ("attention", "simam")


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
        drawn = np.stack([drawn_from(learner, seed, around=True).of(everywhere()) for seed in range(30)])
        mean = np.stack([drawn_from(learner, seed).of(everywhere()) for seed in range(30)]).mean(axis=0)
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
        at_first = np.array([[choice, 0, 0, 0, 0, 0] for choice in range(CHOICES)])
        values = np.mean([drawn_from(learner, seed).of(at_first) for seed in range(20)], axis=0)
        gaps[name] = values[4] - values[:4].mean()
    assert gaps["shared"] > 3.5
    assert abs(gaps["own"]) < 1.5


def test_blocks_of_a_stage_are_related() -> None:
    sites = {f"stage{s}.block{b}": ["none", "a", "b"] for s in (1, 2, 3) for b in (1, 2, 3)}
    effects = np.repeat(np.random.default_rng(3).standard_normal((3, 3)) * 3, 3, axis=0)
    kept = {n: row for n, row in rows(60, effects, 0.3).items() if row.codes[1] != 2}  # at stage1.block2 never b
    assert 20 < len(kept) < 60
    learner = Learner(Coding(sites))
    learner.update(kept)
    both = np.zeros((2, 9), dtype=int)
    both[1, 1] = 2
    bare, changed = np.mean([drawn_from(learner, seed).of(both) for seed in range(20)], axis=0)
    assert changed - bare == pytest.approx(effects[1, 2] - effects[1, 0], abs=1.2)


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
        for around in (False, True):
            one, other = (drawn_from(learner, seed, around=around) for learner in (at_once, in_pieces))
            assert one.constant == other.constant
            assert np.array_equal(one.entries, other.entries)


def test_what_two_choices_do_together_is_found() -> None:
    """Choice 1 at both of two sites is good, at one of them alone it is bad."""
    rng = np.random.default_rng(5)
    codes = rng.integers(3, size=(200, 4))
    both = (codes[:, 0] == 1) & (codes[:, 2] == 1)
    one = (codes[:, 0] == 1) ^ (codes[:, 2] == 1)
    values = np.where(both, -2.0, np.where(one, 1.0, 0.0)) + 0.3 * rng.standard_normal(200)
    learner = Learner(coding(4, 3))
    learner.update({n: Value(tuple(map(int, c)), float(v)) for n, (c, v) in enumerate(zip(codes, values, strict=True))})
    asked = np.array([[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [1, 0, 1, 0]])
    bare, left, right, pair = np.mean([drawn_from(learner, seed).of(asked) for seed in range(20)], axis=0)
    assert pair < bare - 1
    assert min(left, right) > bare + 0.4


def test_a_weak_hint_says_less_than_a_full_run() -> None:
    effects = np.zeros((SITES, CHOICES))
    base = rows(60, effects, 1.0)
    codes = (1,) * SITES
    found = []
    for noise in (1.0, 16.0):
        learner = Learner(coding())
        learner.update({**base, 99: Value(codes, 20.0, noise)})
        draws = [drawn_from(learner, s).of(np.array([codes]))[0] for s in range(20)]
        found.append(np.mean(draws))
    assert found[1] < found[0]


def test_broken_placements_do_not_rule_the_fit() -> None:
    effects = np.random.default_rng(4).standard_normal((SITES, CHOICES))
    usual = rows(80, effects, 0.3)
    broken = {n: Value(row.codes, row.value + (1e6 if n in (3, 17) else 0)) for n, row in usual.items()}
    learner = Learner(coding())
    learner.update(broken)
    mean = drawn_from(learner).of(everywhere())
    assert np.corrcoef(mean, truth(effects))[0, 1] > 0.8
    assert without_broken(-np.array([0.0, 1, 2, 3, 1e6])).min() > -10
    assert np.array_equal(without_broken(np.full(9, 2.0)), np.full(9, 2.0))


def test_values_that_do_not_differ_are_borne() -> None:
    learner = Learner(coding())
    learner.update({n: Value(row.codes, 1.0) for n, row in rows(30, np.zeros((SITES, CHOICES)), 0.0).items()})
    assert np.allclose(drawn_from(learner, around=True).of(everywhere()), 1.0)
