"""How far a study is, in words: the time left, the front so far, what ended."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_study import usual

from nas_attn.study.progress import Progress, time_left, told


def test_time_left_comes_from_the_candidates_that_were_finished_last_and_says_how_sure_it_is() -> None:
    left = time_left([0.0, 10.0, 20.0, 30.0, 40.0], 6)
    assert left is not None
    assert (left.seconds, left.low, left.high) == (60.0, 60.0, 60.0)
    assert left.text == "about 60 s left"
    uneven = time_left([0.0, 5.0, 20.0, 30.0, 40.0], 6)
    assert uneven is not None
    assert uneven.low < uneven.seconds == 60.0 < uneven.high
    assert uneven.text == f"about 60 s left ({uneven.low:.0f} s to {uneven.high / 60:.0f} min)"


def test_a_night_between_two_calls_of_the_program_is_no_pace() -> None:
    left = time_left([0.0, 10.0, 20.0, 40_000.0, 40_010.0, 40_020.0], 3)
    assert left is not None
    assert left.seconds == 30.0


@pytest.mark.parametrize(("finished", "open_"), [([], 5), ([1.0, 2.0], 5), ([1.0, 2.0, 3.0, 4.0], 0)])
def test_nothing_is_said_of_the_time_left_where_nothing_is_known_or_open(finished: list[float], open_: int) -> None:
    assert time_left(finished, open_) is None


def test_a_line_has_its_time_left_only_while_somebody_works() -> None:
    left = time_left([0.0, 10.0, 20.0, 30.0], 4)
    now = Progress(8, 3, 1, 0, 0, 1, "accuracy 70.40 %", left)
    assert now.line() == "4/8 trials, 1 pruned, best accuracy 70.40 %, about 40 s left"
    assert now.line(working=False) == "4/8 trials, 1 pruned, best accuracy 70.40 %"


def test_results_read_the_same_everywhere(tmp_path: Path) -> None:
    made = usual(tmp_path)
    rows = made.store.candidates()
    values = {0: (0.70, 1.0), 1: (0.69, 1.1), 2: (0.71, 1.2), 3: (0.71, 1.3)}
    assert (
        told(made.recipe.objectives, rows[0], values[0])
        == "trial 0 (none): scored: accuracy 70.00 %, latency 1.000 ×; none"
    )
    failed = next(row for row in rows if row.state == "failed")
    assert told(made.recipe.objectives, failed, None).endswith(f": failed: {failed.reason}; {failed.placement}")
