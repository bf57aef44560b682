"""What fits into a time."""

from __future__ import annotations

import pytest

from nas_attn.recipe.reading import load_recipe
from nas_attn.searching.prepare.fitting import (
    FEWEST,
    Speed,
    control_lengths,
    fitted,
    least_s,
    most_of_few,
    smallest_gain,
)

SPEED = Speed(epoch_s=0.5, workers=2, session_s=1.0)


def test_more_time_gives_more_candidates() -> None:
    found = [fitted(minutes * 60, SPEED, 40) for minutes in (4, 10, 30, 240)]
    assert None not in found
    assert [fit.trials for fit in found] == sorted(fit.trials for fit in found)
    assert found[0].trials < 10 <= found[-1].trials


@pytest.mark.parametrize("epochs", [10, 40, 160])
def test_the_shortest_time_holds_a_few_pairs_and_a_second_less_does_not(epochs: int) -> None:
    shortest = least_s(SPEED, epochs)
    fit = fitted(shortest, SPEED, epochs)
    assert fit is not None
    assert fit.trials >= FEWEST
    assert fitted(shortest - 1, SPEED, epochs) is None


def test_few_validation_images_leave_fewer_candidates_and_more_rounds() -> None:
    for minutes in (10, 30):
        many = fitted(60 * minutes, SPEED, 10)
        few = fitted(60 * minutes, SPEED, 10, most=most_of_few(60 * minutes, SPEED, 10))
        assert many is not None
        assert few is not None
        assert few.trials < many.trials
        assert few.rounds > many.rounds


def test_more_pairs_and_more_images_show_smaller_gains() -> None:
    few = [smallest_gain(144, pairs, 144) for pairs in (1, 4, 16, 1000)]
    anew = [smallest_gain(144, pairs, 720) for pairs in (1, 4, 16, 1000)]
    assert few == sorted(few, reverse=True)
    assert anew == sorted(anew, reverse=True)
    assert few[0] == anew[0] == pytest.approx(1.96 * 0.03, abs=0.005), "measured: 2.6 to 3.1 points"
    assert few[3] > 2 * anew[3], "the same images come back"
    assert smallest_gain(1440, 16, 1440) < few[2]


def test_a_longer_training_is_tried_beside_few_candidates_where_it_takes_one_length() -> None:
    digits = load_recipe("digits")
    assert [len(control_lengths(digits, trials)) for trials in (5, 6, 20)] == [0, 1, 1]
    briefer = load_recipe("cued-digits")
    assert not control_lengths(briefer, 6), "it trains otherwise than the target"
    assert not control_lengths(briefer, 12), "it would take more than the candidates"
    assert control_lengths(briefer, 20)


def test_a_first_look_trains_no_backbone_as_long_as_the_target() -> None:
    look = load_recipe("digits", overrides={"training.rungs": [1]})
    assert look.target_training.rungs[-1] == 10
    assert not control_lengths(look, 2)
    assert not control_lengths(look, 20)


def test_a_search_that_has_found_its_length_has_time_for_more_candidates() -> None:
    stated = fitted(600, SPEED, 40)
    found = fitted(600, SPEED, 40, longer=False)
    assert stated is not None
    assert found is not None
    assert found.trials > stated.trials
