"""Each fact about a wait is said, and says what a person needs: what for, who has it, how long."""

from __future__ import annotations

import pytest

from nas_attn.system.waiting import Awaited, DatabaseAway, DatabaseBack, GaveUp, Waited, Waiting
from nas_attn.words.waits import wait_text


@pytest.mark.parametrize("awaited", Awaited)
def test_a_wait_says_how_long_it_is_and_who_has_what_it_is_for(awaited: Awaited) -> None:
    begun = wait_text(Waiting(awaited, "NAME", 17.2, "HOLDER"))
    over = wait_text(Waited(awaited, "NAME", 17.2))
    assert "17 s" in begun
    assert "17 s" in over
    assert ("HOLDER" in begun) == (awaited is not Awaited.QUIET)
    named = awaited in (Awaited.DATA, Awaited.TABLES)
    assert ("NAME" in begun) == named
    assert ("NAME" in over) == named
    assert "HOLDER" in wait_text(GaveUp(awaited, "NAME", "HOLDER"))


def test_a_database_that_is_away_is_said_with_the_limit_and_the_reason() -> None:
    away = wait_text(DatabaseAway(1800.0, "REASON"))
    assert "30 min" in away
    assert "REASON" in away
    back = wait_text(DatabaseBack("sqlite:///x.db", 40.0))
    assert "40 s" in back
    assert "sqlite:///x.db" in back
