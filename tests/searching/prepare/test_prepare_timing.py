"""What fits into a time."""

from __future__ import annotations

import pytest

from nas_attn.searching.prepare.timing import FEWEST, Speed, fitted, least_s

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
