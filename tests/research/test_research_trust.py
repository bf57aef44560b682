"""Simulated studies, from the first run to the answer, beside the truth that they know."""

from __future__ import annotations

import pytest

from research.trust.figures import page
from research.trust.simulate import simulate
from research.trust.studies import FINE_TUNING, AnyWorld, MeasuredWorld, TableWorld, World

WORLDS: list[AnyWorld] = [
    World(FINE_TUNING, "planted", 20),
    TableWorld("cued-digits"),
    MeasuredWorld("cifar10"),
]


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_a_study_names_attention_that_truly_gains_and_repeats_with_its_seed(
    world: AnyWorld,
) -> None:
    outcome, again = (simulate((world, 1)) for _ in range(2))
    assert outcome.named
    assert outcome.worth == outcome.true > 0
    assert (outcome.probability, outcome.gain) == (again.probability, again.gain)
    assert f"| {world.name} | 1 |" in page([(world, [outcome])])


def test_where_nothing_differs_the_truth_is_zero_and_what_is_named_is_worth_nothing() -> None:
    outcome = simulate((World(FINE_TUNING, "null", 20), 1))
    assert outcome.true == outcome.worth == 0
    assert outcome.gain_covers
