"""Leases on SQLite while the clocks of processes differ."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Double, literal_column

from nas_attn.errors import LeaseLost
from nas_attn.storage.database import Database
from nas_attn.storage.store import StudyStore


@contextmanager
def clock(url: str, monkeypatch: pytest.MonkeyPatch, expression: str) -> Iterator[StudyStore]:
    """The study as a process sees it whose machine has another time."""
    with Database(url) as database:
        made = database.study("digits")
        monkeypatch.setattr(
            type(database._connector),
            "clock",
            property(lambda self: literal_column(expression, Double)),
        )
        try:
            yield made
        finally:
            monkeypatch.undo()


NOW = "((julianday('now') - 2440587.5) * 86400.0)"
AHEAD, BEHIND, STANDING = f"({NOW} + 3600.0)", f"({NOW} - 3600.0)", "1790000000.0"


@pytest.mark.parametrize("expression", [AHEAD, BEHIND, STANDING])
def test_a_wrong_clock_on_sqlite_takes_no_lease_that_is_renewed_and_leaves_none_that_is_not(
    sqlite_url: str, expression: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ttl_s = 0.3
    with Database(sqlite_url) as database:
        mine = database.create_study("digits", recipe="{}", versions={})
        live = mine.acquire("live", owner="a", ttl_s=1000)
        dead = mine.acquire("dead", owner="a", ttl_s=ttl_s)
        with clock(sqlite_url, monkeypatch, expression) as other:
            began = time.monotonic()
            assert {row.state for row in other.leases()} == {"held"}
            assert other.acquire("live", owner="b", ttl_s=ttl_s) is None
            while (taken := other.acquire("dead", owner="b", ttl_s=ttl_s)) is None:
                assert time.monotonic() - began < 60
                time.sleep(0.02)
            assert time.monotonic() - began >= ttl_s
            assert {row.resource: row.state for row in other.leases()}["live"] == "held"
            for _ in range(3):  # with a clock that stands still, too, a renewal is seen
                before = taken.expires_at
                taken = other.renew(taken)
                assert taken.expires_at > before
        assert mine.acquire("dead", owner="a", ttl_s=ttl_s) is None, (
            "one with the right time must see it as well"
        )
        with pytest.raises(LeaseLost):
            mine.renew(dead)
        mine.renew(live)


def test_a_clock_that_is_set_back_is_not_followed_and_a_correction_is(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search with a time limit would go on for as long as the clock was set back."""
    with Database(sqlite_url) as database:

        def now(offset_s: float) -> float:
            expression = literal_column(f"({NOW} + {offset_s!r})", Double)
            monkeypatch.setattr(type(database._connector), "clock", property(lambda _: expression))
            return database.now()

        began = now(0.0)
        assert -1 < now(-7200.0) - began < 60
        assert -1 < now(-7200.0) - began < 60
        assert now(3600.0) - began >= 3600, "a machine that slept"
        again = now(3600.0)
        assert now(3598.0) < again, "as time servers correct it"
