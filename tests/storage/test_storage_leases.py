from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Double, literal_column

from nas_attn.errors import LeaseLost
from nas_attn.records import Score
from nas_attn.storage import Database, Lease, Run, StudyStore

EXPIRED = -1.0
"""Seconds to live of a lease that is over as soon as it begins: no test waits for a clock."""


def expired(store: StudyStore, beginning: str) -> list[str]:
    rows = [row for row in store.leases() if row.resource.startswith(beginning)]
    return [row.resource for row in rows if row.state == "expired"]


def test_a_held_resource_is_refused_until_released(store: StudyStore) -> None:
    first = store.acquire("trial/1", owner="a", ttl_s=1000)
    assert store.acquire("trial/1", owner="b", ttl_s=1000) is None
    assert store.acquire("trial/1", owner="a", ttl_s=1000) is None
    assert [row.state for row in store.leases()] == ["held"]
    store.release(first)
    assert ([row.state for row in store.leases()], store.leases(released=False)) == (
        ["released"],
        [],
    )
    second = store.acquire("trial/1", owner="b", ttl_s=1000)
    assert second.number > first.number
    assert second.expires_at > first.expires_at - 1


def test_an_expired_lease_is_renewed_by_its_holder_or_taken_by_another(
    store: StudyStore, database: Database
) -> None:
    slow = store.acquire("trial/1", owner="a", ttl_s=EXPIRED)
    assert expired(store, "trial/") == ["trial/1"]
    assert store.renew(slow).expires_at <= database.now()
    taken = store.acquire("trial/1", owner="b", ttl_s=1000)
    assert expired(store, "trial/") == []
    with pytest.raises(LeaseLost, match="'trial/1'"):
        store.renew(slow)
    store.release(slow)
    assert store.renew(taken).expires_at > database.now()


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


WRITES: dict[str, Callable[[StudyStore, Lease], object]] = {
    "claim": lambda store, lease: store.claim(
        "new", placement="", trial=9, baseline=None, lease=lease
    ),
    "set_cost": lambda store, lease: store.set_cost("key", {"params": 1, "macs": 2}, lease),
    "finish": lambda store, lease: store.finish("key", state="scored", reason="", lease=lease),
    "add_score": lambda store, lease: store.add_score(
        Run("key", "none", 0), Score(0, 0, 1, {}), lease=lease
    ),
    "add_checkpoint": lambda store, lease: store.add_checkpoint(
        "run", artifact="a", sha256="b", size=1, epochs=1, lease=lease
    ),
}


def everything(store: StudyStore) -> object:
    return store.candidates(), store.scores(), store.checkpoints("run")


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("how", ["taken", "released"])
def test_a_zombie_writes_nothing(store: StudyStore, write: str, how: str) -> None:
    zombie = store.acquire("trial/1", owner="a", ttl_s=EXPIRED)
    store.claim("key", placement="stage1=se", trial=1, baseline=None, lease=zombie)
    if how == "released":
        store.release(zombie)
    heir = store.acquire("trial/1", owner="a", ttl_s=1000)
    before = everything(store)
    with pytest.raises(LeaseLost):
        WRITES[write](store, zombie)
    assert everything(store) == before
    WRITES[write](store, heir)
    assert everything(store) != before


def test_of_many_that_want_an_expired_resource_one_gets_it(url: str, store: StudyStore) -> None:
    store.acquire("trial/1", owner="dead", ttl_s=EXPIRED)
    barrier = threading.Barrier(8)
    won: list[Lease | None] = []

    def take(owner: str) -> None:
        with Database(url) as database:
            mine = database.study("digits")
            barrier.wait()
            won.extend(
                [
                    mine.acquire("trial/1", owner=owner, ttl_s=1000),
                    mine.acquire("new", owner=owner, ttl_s=1000),
                ]
            )

    threads = [threading.Thread(target=take, args=(f"w{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 16
    assert sorted((lease.resource, lease.number) for lease in won if lease) == [
        ("new", 1),
        ("trial/1", 2),
    ]
