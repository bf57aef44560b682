"""What fits into a time."""

from __future__ import annotations

import pytest

from nas_attn.analysis.plans import smallest_gain
from nas_attn.searching.prepare.timing import FEWEST, Speed, fitted, least_s, most_of_few

SPEED = Speed(epoch_s=0.5, workers=2, session_s=1.0)


def test_more_time_gives_more_candidates_and_then_a_test() -> None:
    found = [fitted(minutes * 60, SPEED, 40) for minutes in (4, 10, 30, 240)]
    assert None not in found
    assert [fit.trials for fit in found] == sorted(fit.trials for fit in found)
    assert found[0].trials < 10 <= found[-1].trials
    assert (found[0].blocks, found[-1].blocks) == (0, 16)


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
        assert few.blocks == many.blocks


def test_more_pairs_and_more_images_show_smaller_gains() -> None:
    gains = [smallest_gain(images, pairs) for images, pairs in ((144, 4), (144, 16), (1440, 16))]
    assert gains == sorted(gains, reverse=True)
    assert gains[0] == pytest.approx(0.031, abs=0.002)
