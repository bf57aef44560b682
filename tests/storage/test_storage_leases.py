"""Leases on SQLite while the clocks of processes differ."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import Double, literal_column

from nas_attn.errors import LeaseLost
from nas_attn.storage import work
from nas_attn.storage.database import Database

NOW = "((julianday('now') - 2440587.5) * 86400.0)"
AHEAD, BEHIND, STANDING = f"({NOW} + 3600.0)", f"({NOW} - 3600.0)", "1790000000.0"


@pytest.mark.parametrize("expression", [AHEAD, BEHIND, STANDING])
def test_a_wrong_clock_takes_nothing_from_who_works_and_all_from_who_does_not(
    sqlite_url: str, expression: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent_s = 0.5
    monkeypatch.setattr(work, "SILENT_S", silent_s)
    with Database(sqlite_url) as database:
        mine = database.create_study("digits", recipe="{}", versions={})
        for owner in ("live", "dead"):
            mine.workers.here(owner, device="cpu", doing="a run")
        live = mine.acquire("live", owner="live")
        dead = mine.acquire("dead", owner="dead")
        began = time.monotonic()
        assert mine.held() == [dead, live]
        with Database(sqlite_url) as other_database, monkeypatch.context() as patched:
            clock = property(lambda _: literal_column(expression, Double))
            patched.setattr(type(database._connector), "clock", clock)
            other = other_database.study("digits")
            assert other.held() == [dead, live]
            while (taken := other.acquire("dead", owner="other")) is None:
                other.workers.here("live", device="cpu", doing="a run")
                assert other.acquire("live", owner="other") is None
                assert time.monotonic() - began < 60
                time.sleep(0.02)
            assert time.monotonic() - began >= silent_s
            assert live in other.held()
            # a sign by this clock is seen by one with the right time
            for _ in range(2):
                time.sleep(silent_s / 2)
                other.workers.here("other", device="cpu", doing="a run")
                assert mine.acquire("dead", owner="third") is None
        with pytest.raises(LeaseLost):
            mine.check(dead)
        mine.check(live)
        mine.check(taken)
