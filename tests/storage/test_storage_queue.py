"""The queue of runs: what is wanted once is there once, what has ended stays ended, and only who holds the lease writes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nas_attn.errors import LeaseLost
from nas_attn.storage import Run, RunRow, StudyStore

RUN = Run("key", "stage1=se(reduction=8)", 3, 1, "target", "validate", 10)


def only(store: StudyStore) -> RunRow:
    (row,) = store.queue.rows()
    return row


def end(store: StudyStore, state: str, reason: str = "") -> None:
    row = only(store)
    lease = store.acquire(row.resource, owner="test", ttl_s=60)
    assert lease is not None
    store.queue.finish(row, state, reason, lease)
    store.release(lease)


def test_a_run_comes_back_as_it_was_wanted(store: StudyStore) -> None:
    store.queue.want([RUN])
    row = only(store)
    assert (row.run, row.state, row.reason, row.attempts) == (RUN, "waiting", "", 0)
    assert store.queue.row(row.id) == row


def test_the_same_computation_is_wanted_once_and_the_more_urgent_purpose_has_it(store: StudyStore) -> None:
    store.queue.want([RUN, RUN])
    store.queue.want([replace(RUN, purpose="retrain", priority=50)])
    store.queue.want([replace(RUN, purpose="validate", priority=5)])
    assert (only(store).run.purpose, only(store).run.priority) == ("retrain", 50)


@pytest.mark.parametrize("other", [{"key": "b"}, {"seed": 4}, {"backbone": 2}, {"way": "search"}])
def test_another_network_seed_backbone_or_way_is_another_run(store: StudyStore, other: dict[str, object]) -> None:
    store.queue.want([RUN, replace(RUN, **other)])  # type: ignore[arg-type]
    assert len(store.queue.rows()) == 2


def test_runs_are_taken_by_priority_then_by_age(store: StudyStore) -> None:
    for seed, priority in enumerate((1, 9, 9, 3)):
        store.queue.want([replace(RUN, seed=seed, priority=priority)])
    assert [row.run.seed for row in store.queue.rows()] == [1, 2, 3, 0]
    assert [row.run.seed for row in store.queue.rows(purposes=["search"])] == []


@pytest.mark.parametrize("state", ["done", "pruned", "failed"])
def test_what_has_ended_stays_ended(store: StudyStore, state: str) -> None:
    store.queue.want([RUN])
    end(store, state, "why")
    end(store, "done")
    store.queue.want([replace(RUN, priority=99)])
    assert (only(store).state, only(store).reason, only(store).run.priority) == (state, "why", 10)
    assert store.queue.counts() == {("validate", state): 1}
    store.queue.again([only(store).id])
    assert (only(store).state, only(store).reason) == ("waiting", "")


def test_what_was_withdrawn_may_be_wanted_again(store: StudyStore) -> None:
    store.queue.want([RUN, replace(RUN, seed=9), replace(RUN, key="other")])
    lease = store.acquire("turn", owner="test", ttl_s=60)
    assert lease is not None
    store.queue.withdraw("key", lease)
    assert [row.state for row in store.queue.rows()] == ["withdrawn", "withdrawn", "waiting"]
    store.queue.want([RUN])
    assert [row.state for row in store.queue.rows(key="key")] == ["waiting", "withdrawn"]


def test_attempts_count_who_did_not_hand_it_back(store: StudyStore) -> None:
    store.queue.want([RUN])
    lease = store.acquire(only(store).resource, owner="test", ttl_s=60)
    assert lease is not None
    store.queue.begin(only(store), lease)
    store.queue.hand_back(only(store), lease)
    assert only(store).attempts == 0
    store.queue.begin(only(store), lease)
    store.queue.begin(only(store), lease)
    assert only(store).attempts == 2


def test_who_has_lost_the_lease_changes_nothing(store: StudyStore) -> None:
    store.queue.want([RUN])
    lease = store.acquire(only(store).resource, owner="first", ttl_s=60)
    assert lease is not None
    store.release(lease)
    assert store.acquire(only(store).resource, owner="second", ttl_s=60) is not None
    for write in (
        lambda: store.queue.finish(only(store), "done", "", lease),
        lambda: store.queue.begin(only(store), lease),
        lambda: store.queue.withdraw("key", lease),
    ):
        with pytest.raises(LeaseLost):
            write()
    assert (only(store).state, only(store).attempts) == ("waiting", 0)
