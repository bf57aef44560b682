"""What every database must do for a study's store, whichever it is: one class of tests, for SQLite
and for PostgreSQL.

Leases: who holds one may write, and nobody else. Results: what is written once is there once, what
has ended stays ended, and studies do not see each other. Repeating: a call whose answer is lost has
the effect of one.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import pytest
from repeated_calls import CALLS, UNSEEN, answer_lost, contents, make
from sqlalchemy import select

from nas_attn.errors import LeaseLost, StudyError
from nas_attn.space.notation import parse
from nas_attn.space.placement import BARE
from nas_attn.storage import tables, work
from nas_attn.storage.copying import Copies, copy_results
from nas_attn.storage.database import Database
from nas_attn.storage.records import Fingerprint, Score, Session, SessionSample
from nas_attn.storage.rows import Lease, Run, RunRow
from nas_attn.storage.store import StudyStore
from nas_attn.storage.work import LOST


def dies(store: StudyStore, owner: str) -> None:
    """A worker ends, and gives nothing back; no test waits for a minute of silence."""
    store.workers.here(owner, device="cpu", doing="trial 1")
    store.workers.gone(owner, ending=LOST)


GUARDED: dict[str, Callable[[StudyStore, Lease], object]] = {
    "claim": lambda store, lease: store.claim(
        "new", placement=BARE, trial=9, baseline=None, lease=lease
    ),
    "set_cost": lambda store, lease: store.set_cost("key", {"params": 1, "macs": 2}, lease),
    "end_candidate": lambda store, lease: store.end_candidate(
        "key", state="scored", reason="", lease=lease
    ),
    "add_score": lambda store, lease: store.add_score(
        Run("key", BARE, 0), Score(0, 0, 1, {}), lease=lease
    ),
    "add_checkpoint": lambda store, lease: store.add_checkpoint(
        "run", artifact="a", sha256="b", size=1, epochs=1, lease=lease
    ),
}


def everything(store: StudyStore) -> object:
    checkpoints = [row.artifact for row in store.checkpoints("run")]
    return store.candidates(), store.queue.rows(), store.scores(), checkpoints


def session_at(started_at: float) -> Session:
    fingerprint = Fingerprint("cpu", "a machine", (("torch", "2.11"),))
    samples = (SessionSample("key", 0.1, 1.1, 0.2, 1.2, 40),)
    return Session(
        fingerprint, {"batch_size": 1, "dtype": "float32"}, started_at, 3.0, 1.0, 0.001, samples
    )


RUN = Run("key", parse("stage1=se(reduction=8)"), 3, 1, "target", "validate", 10)


def only(store: StudyStore) -> RunRow:
    (row,) = store.queue.rows()
    return row


def end(store: StudyStore, state: str, reason: str = "") -> None:
    row = only(store)
    lease = store.acquire(row.resource, owner="test")
    store.queue.finish(row, state, reason, lease)
    store.release(lease)


def ended(store: StudyStore) -> list[tuple[object, ...]]:
    """(owner, ending, when) of the workers that have ended."""
    worker = tables.WorkerTable
    query = select(worker.owner, worker.ending, worker.left_at).where(worker.left_at.is_not(None))
    with store._connector.read() as connection:
        return [tuple(row) for row in connection.execute(query.order_by(worker.owner))]


class StoreContract:
    """Subclasses name the database."""

    def test_a_held_resource_is_refused_until_released(self, store: StudyStore) -> None:
        first = store.acquire("trial/1", owner="a")
        assert store.acquire("trial/1", owner="b") is None
        assert store.acquire("trial/1", owner="a") == first, "who asks again has it"
        assert store.held("trial/") == [first]
        store.release(first)
        assert store.held() == store.left() == []
        second = store.acquire("trial/1", owner="b")
        assert second.number > first.number

    def test_what_a_silent_worker_has_is_taken_by_another(
        self, store: StudyStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.workers.here("a", device="cpu", doing="trial 1")
        slow = store.acquire("trial/1", owner="a")
        monkeypatch.setattr(work, "SILENT_S", 0.2)
        assert store.held() == [slow]
        began = time.monotonic()
        while time.monotonic() < began + 0.5:
            store.workers.here("a", device="cpu", doing="trial 1")
            assert store.held() == [slow]
        time.sleep(0.3)
        assert store.left() == [slow]
        store.check(slow)
        taken = store.acquire("trial/1", owner="b")
        with pytest.raises(LeaseLost, match="'trial/1'"):
            store.check(slow)
        store.release(slow)
        store.check(taken)

    @pytest.mark.parametrize("write", GUARDED)
    @pytest.mark.parametrize("how", ["taken", "released"])
    def test_a_zombie_writes_nothing(self, store: StudyStore, write: str, how: str) -> None:
        zombie = store.acquire("trial/1", owner="a")
        dies(store, "a")
        store.claim("key", placement=parse("stage1=se"), trial=1, baseline=None, lease=zombie)
        store.queue.want([RUN])
        if how == "released":
            store.release(zombie)
        heir = store.acquire("trial/1", owner="b")
        before = everything(store)
        with pytest.raises(LeaseLost):
            GUARDED[write](store, zombie)
        assert everything(store) == before
        GUARDED[write](store, heir)
        assert everything(store) != before

    def test_of_many_that_want_an_expired_resource_one_gets_it(
        self, url: str, store: StudyStore
    ) -> None:
        store.acquire("trial/1", owner="dead")
        dies(store, "dead")
        barrier = threading.Barrier(8)
        won: list[Lease | None] = []

        def take(owner: str) -> None:
            with Database(url) as database:
                mine = database.study("digits")
                barrier.wait()
                won.extend(
                    [
                        mine.acquire("trial/1", owner=owner),
                        mine.acquire("new", owner=owner),
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

    def test_a_candidate_is_claimed_by_one_trial(self, store: StudyStore, lease: Lease) -> None:
        row = store.claim(
            "key",
            placement=parse("stage1=se(reduction=8)"),
            trial=1,
            baseline="uniform se",
            lease=lease,
        )
        assert (row.key, str(row.placement), row.trial, row.baseline) == (
            "key",
            "stage1=se(reduction=8)",
            1,
            "uniform se",
        )
        assert (row.state, row.reason, row.cost) == ("running", "", None)
        assert (
            store.claim(
                "key",
                placement=parse("stage1=se(reduction=8)"),
                trial=2,
                baseline=None,
                lease=lease,
            )
            is None
        )
        # The trial resumes after a crash: it is still its own.
        assert (
            store.claim(
                "key",
                placement=parse("stage1=se(reduction=8)"),
                trial=1,
                baseline="uniform se",
                lease=lease,
            )
            == row
        )
        assert store.candidates() == [row]
        assert store.candidate("other") is None
        for trial in (10, 2, 33):
            store.claim(f"key{trial}", placement=BARE, trial=trial, baseline=None, lease=lease)
        assert [row.trial for row in store.candidates()] == [1, 2, 10, 33]

    def test_a_candidate_is_finished_once(self, store: StudyStore, lease: Lease) -> None:
        store.claim("key", placement=BARE, trial=1, baseline=None, lease=lease)
        store.set_cost("key", {"params": 10**10, "macs": 10**12, "energy": 0.5}, lease)
        assert store.end_candidate("key", state="pruned", reason="outranked at rung 0", lease=lease)
        assert not store.end_candidate("key", state="scored", reason="", lease=lease)
        row = store.candidate("key")
        assert (row.state, row.reason) == ("pruned", "outranked at rung 0")
        assert row.cost == {"params": 10**10, "macs": 10**12, "energy": 0.5}

    def test_a_candidate_ends_with_the_runs_that_it_no_longer_needs(
        self, store: StudyStore, lease: Lease
    ) -> None:
        runs = [Run("key", BARE, seed) for seed in range(3)]
        store.claim("key", placement=BARE, trial=1, baseline=None, lease=lease)
        store.queue.want(runs)
        ended = store.queue.rows()[0]
        held = store.acquire(ended.resource, owner="test")
        store.queue.finish(ended, "pruned", "outranked at rung 0", held)
        store.end_candidate("key", state="pruned", reason="", lease=lease)
        assert [row.state for row in store.queue.rows()] == ["pruned", "withdrawn", "withdrawn"]

    def test_a_candidate_ends_without_harm_to_other_commands_runs_of_its_network(
        self, store: StudyStore, lease: Lease
    ) -> None:
        confirming = Run("key", BARE, 1, purpose="confirm")
        testing = Run("key", BARE, 1_000_000, protocol="target", purpose="validate")
        retraining = Run("key", BARE, 500_000, protocol="target", purpose="retrain")
        store.claim("key", placement=BARE, trial=1, baseline=None, lease=lease)
        store.queue.want([Run("key", BARE, 0), confirming, testing, retraining])
        store.end_candidate("key", state="pruned", reason="", lease=lease)
        waiting = {row.run.purpose for row in store.queue.rows(state="waiting")}
        assert waiting == {"confirm", "validate", "retrain"}

    def test_the_state_is_another_one_after_each_result(
        self, store: StudyStore, lease: Lease
    ) -> None:
        seen = [store.state()]
        store.claim("key", placement=BARE, trial=0, baseline=None, lease=lease)
        seen.append(store.state())
        store.add_score(Run("key", BARE, 0), Score(0, 0, 1, {"accuracy": 0.5}), lease=lease)
        seen.append(store.state())
        store.end_candidate("key", state="scored", reason="", lease=lease)
        seen.append(store.state())
        store.set(published="else")
        assert store.state() == seen[-1]
        assert len(set(seen)) == 4

    def test_the_same_run_at_the_same_rung_is_stored_once(
        self, store: StudyStore, lease: Lease
    ) -> None:
        old = Score(seed=0, rung=0, epochs=1, metrics={"accuracy": 0.5}, wall_s=9.0)
        new = Score(seed=0, rung=0, epochs=1, metrics={"accuracy": 0.6}, wall_s=1.0)
        run = Run("key", BARE, 0)
        store.add_score(run, old, lease=lease)
        store.add_score(run, new, lease=lease)
        store.add_score(replace(run, protocol="target", purpose="validate"), old, lease=lease)
        found = [(stored.key, stored.purpose, stored.score) for stored in store.scores()]
        assert found == [("key", "search", new), ("key", "validate", old)]

    def test_scores_are_selected_and_ordered(self, store: StudyStore, lease: Lease) -> None:
        for key, seed, rung in (("b", 0, 1), ("b", 0, 0), ("a", 1, 0), ("a", 0, 0)):
            store.add_score(Run(key, BARE, seed), Score(seed, rung, 1, {}), lease=lease)
        store.add_score(
            Run("backbone", BARE, 0, protocol="target", purpose="backbone"),
            Score(0, 0, 1, {}),
            lease=lease,
        )
        order = [(s.key, s.score.seed, s.score.rung) for s in store.scores(protocol="search")]
        assert order == [("a", 0, 0), ("a", 1, 0), ("b", 0, 0), ("b", 0, 1)]
        assert [s.key for s in store.scores("b")] == ["b", "b"]
        assert store.scores("b", protocol="target") == []

    def test_correct_images_are_loaded_only_when_asked_for_and_a_diverged_loss_is_kept(
        self, store: StudyStore, lease: Lease
    ) -> None:
        score = Score(
            seed=0, rung=0, epochs=1, metrics={}, correct=bytes(range(256)), examples=2048
        )
        store.add_score(Run("key", BARE, score.seed), score, lease=lease)
        assert store.scores("key")[0].score.correct is None
        assert store.scores("key", with_correct=True)[0].score == score
        store.add_score(
            Run("lost", BARE, 0),
            Score(0, 0, 1, {"loss": math.nan, "other": math.inf}),
            lease=lease,
        )
        metrics = store.scores("lost")[0].score.metrics
        assert math.isnan(metrics["loss"])
        assert metrics["other"] == math.inf

    def test_sessions_come_in_the_order_they_began(
        self, store: StudyStore, database: Database
    ) -> None:
        store.add_session(session_at(20.0), owner="me")
        store.add_session(session_at(10.0), owner="me")
        assert store.sessions() == [session_at(10.0), session_at(20.0)]
        assert database.create_study("other", recipe="{}", versions={}).sessions() == []

    def test_each_score_and_session_names_its_worker_and_the_databases_time(
        self, store: StudyStore, database: Database, lease: Lease
    ) -> None:
        before = database.now()
        store.add_score(Run("key", BARE, 0), Score(0, 0, 1, {"accuracy": 0.5}), lease=lease)
        store.add_session(session_at(20.0), owner="me")
        (written,) = store.scores()
        assert written.owner == "me"
        assert written.recorded_at is not None
        assert before <= written.recorded_at <= database.now()

    def test_workers_at_once_are_those_here_or_those_that_were_here_last(
        self, store: StudyStore
    ) -> None:
        book = store.workers
        assert book.at_once() == 1
        for owner in ("first", "second", "third"):
            book.here(owner, device="cpu", doing="trial 1")
        assert book.at_once() == 3
        for owner in ("first", "second", "third"):
            book.gone(owner)
        assert book.at_once() == 3
        # a clock of milliseconds: a worker that left in the same one would count as there
        time.sleep(0.005)
        book.here("alone", device="cpu", doing="a test")
        assert book.at_once() == 1
        book.gone("alone")
        assert book.at_once() == 1

    def test_a_worker_stays_in_its_table_after_it_has_left(
        self, store: StudyStore, database: Database
    ) -> None:
        book = store.workers
        for owner in ("first", "second"):
            book.here(owner, device="cpu", doing="trial 1", waiting="waiting for x")
        assert database.studies()[0].workers == 2
        book.gone("first")
        book.gone("second", ending=LOST)
        before = ended(store)
        book.gone("first", ending=LOST)
        assert book.rows() == []
        assert database.studies()[0].workers == 0
        assert ended(store) == before
        assert [(owner, ending) for owner, ending, _ in before] == [
            ("first", "left"),
            ("second", "lost"),
        ]
        book.here("second", device="cpu", doing="trial 2")
        assert [row.owner for row in book.rows()] == ["second"], "it was only silent for long"
        assert ended(store) == before[:1]

    def test_checkpoints_come_newest_first_and_can_be_dropped(
        self, store: StudyStore, lease: Lease
    ) -> None:
        for i in (1, 2):
            store.add_checkpoint(
                "key/0", artifact=f"a{i}", sha256="ab", size=10**10, epochs=i, lease=lease
            )
        store.add_checkpoint("key/1", artifact="else", sha256="ab", size=1, epochs=1, lease=lease)
        second, first = store.checkpoints("key/0")
        store.drop_checkpoint(second)
        assert [row.id for row in store.checkpoints("key/0")] == [first.id]
        assert (first.run, first.artifact, first.sha256, first.size, first.epochs) == (
            "key/0",
            "a1",
            "ab",
            10**10,
            1,
        )

    def test_the_same_computation_is_wanted_once_and_the_more_urgent_purpose_has_it(
        self,
        store: StudyStore,
    ) -> None:
        store.queue.want([RUN, RUN])
        row = only(store)
        assert (row.run, row.state, row.reason, row.attempts) == (RUN, "waiting", "", 0)
        assert store.queue.row(row.id) == row
        store.queue.want([replace(RUN, purpose="retrain", priority=50)])
        store.queue.want([replace(RUN, purpose="validate", priority=5)])
        assert (only(store).run.purpose, only(store).run.priority) == ("retrain", 50)

    def test_runs_are_told_apart_and_taken_by_priority_then_by_age(self, store: StudyStore) -> None:
        others: list[dict[str, Any]] = [
            {"key": "b"},
            {"seed": 4},
            {"backbone": 2},
            {"protocol": "search"},
        ]
        store.queue.want([RUN, *(replace(RUN, **other) for other in others)])
        assert len(store.queue.rows()) == 5
        for seed, priority in enumerate((1, 9, 9, 3)):
            store.queue.want([replace(RUN, key="new", seed=seed, priority=priority)])
        assert [row.run.seed for row in store.queue.rows(key="new")] == [1, 2, 3, 0]
        assert store.queue.rows(purposes=["search"]) == []

    def test_what_has_ended_stays_ended(self, store: StudyStore) -> None:
        store.queue.want([RUN])
        end(store, "pruned", "why")
        end(store, "done")
        store.queue.want([replace(RUN, priority=99)])
        assert (only(store).state, only(store).reason, only(store).run.priority) == (
            "pruned",
            "why",
            10,
        )
        assert store.queue.counts() == {("validate", "pruned"): 1}
        store.queue.again([only(store).id])
        assert (only(store).state, only(store).reason) == ("waiting", "")

    def test_what_was_withdrawn_may_be_wanted_again(self, store: StudyStore) -> None:
        store.queue.want([RUN, replace(RUN, seed=9)])
        for row in store.queue.rows():
            lease = store.acquire(row.resource, owner="test")
            store.queue.finish(row, "withdrawn", "", lease)
        store.queue.want([RUN])
        assert [row.state for row in store.queue.rows(key="key")] == ["waiting", "withdrawn"]

    def test_attempts_count_who_did_not_hand_it_back(self, store: StudyStore) -> None:
        store.queue.want([RUN])
        lease = store.acquire(only(store).resource, owner="test")
        store.queue.begin(only(store), lease)
        store.queue.hand_back(only(store), lease)
        assert only(store).attempts == 0
        store.queue.begin(only(store), lease)
        store.queue.begin(only(store), lease)
        assert only(store).attempts == 2

    def test_who_has_lost_the_lease_changes_nothing(self, store: StudyStore) -> None:
        store.queue.want([RUN])
        lease = store.acquire(only(store).resource, owner="first")
        store.release(lease)
        assert store.acquire(only(store).resource, owner="second") is not None
        for write in (
            lambda: store.queue.finish(only(store), "done", "", lease),
            lambda: store.queue.begin(only(store), lease),
        ):
            with pytest.raises(LeaseLost):
                write()
        assert (only(store).state, only(store).attempts) == ("waiting", 0)

    def test_a_study_comes_back_as_it_was_created(self, database: Database) -> None:
        recipe = json.dumps({"name": "digits", "search": {"trials": 30}})
        database.create_study("digits", recipe=recipe, versions={"torch": "2.11"})
        store = database.study("digits")
        assert store.name == "digits"
        assert store.recipe == recipe
        assert store.versions == {"torch": "2.11"}
        assert abs(store.created_at - time.time()) < 600
        assert abs(database.now() - time.time()) < 600, "the clock is the database's"

    def test_the_same_recipe_opens_the_study_there_is(
        self, store: StudyStore, database: Database
    ) -> None:
        store.set(published="first")
        again = database.create_study(
            "digits", recipe='{"search":{"trials":30}}', versions={"torch": "9"}
        )
        assert again.settings.published == "first"
        assert again.versions == {"torch": "2.11"}
        with pytest.raises(StudyError, match=r"no study 'digit' .*'digits'"):
            database.study("digit")

    def test_another_recipe_is_refused_with_the_difference(self, database: Database) -> None:
        old = {"search": {"trials": 30, "seed": 0}, "limits": {}, "objectives": ["accuracy"]}
        new = {
            "search": {"trials": 60, "seed": 0},
            "limits": {"max_macs": 5},
            "objectives": ["accuracy", "latency"],
        }
        new["space"] = {"choices": [f"choice {i}" for i in range(99)]}
        database.create_study("digits", recipe=json.dumps(old), versions={})
        with pytest.raises(StudyError) as error:
            database.create_study("digits", recipe=json.dumps(new), versions={})
        sentence = str(error.value)
        assert "search.trials: 30 -> 60" in sentence
        assert "limits.max_macs: not set -> 5" in sentence
        assert 'objectives: ["accuracy"] -> ["accuracy", "latency"]' in sentence
        assert "seed" not in sentence
        assert len(sentence) < 500
        assert "nas-attn resume digits" in sentence
        assert json.loads(database.study("digits").recipe) == old

    def test_studies_are_listed_with_their_candidates_by_state(
        self, store: StudyStore, lease: Lease, database: Database
    ) -> None:
        for i, state in enumerate(("running", "scored", "scored")):
            store.claim(f"key{i}", placement=BARE, trial=i, baseline=None, lease=lease)
            if state == "scored":
                store.end_candidate(f"key{i}", state="scored", reason="", lease=lease)
        database.create_study("empty", recipe="{}", versions={})
        first, second = database.studies()
        assert (first.name, first.candidates) == ("digits", {"running": 1, "scored": 2})
        assert (second.name, second.candidates) == ("empty", {})

    def test_a_deleted_study_is_gone_and_its_worker_cannot_write_into_its_successor(
        self, store: StudyStore, lease: Lease, database: Database
    ) -> None:
        other = database.create_study("other", recipe="{}", versions={})
        other.set(published="kept")
        store.claim("key", placement=BARE, trial=1, baseline=None, lease=lease)
        store.set(published="old")
        database.delete_study("digits")
        successor = database.create_study("digits", recipe=store.recipe, versions={})
        successor.acquire("trial/1", owner="me")
        with pytest.raises(LeaseLost):
            store.set_cost("key", {"params": 1, "macs": 2}, lease)
        with pytest.raises(LeaseLost):
            store.claim("key", placement=BARE, trial=1, baseline=None, lease=lease)
        assert successor.candidates() == []
        assert successor.settings.published is None
        assert other.settings.published == "kept"

    def test_the_first_latency_device_is_pinned(
        self, store: StudyStore, database: Database
    ) -> None:
        assert store.fingerprint is None
        assert store.set_fingerprint_once("first") == "first"
        assert database.study("digits").set_fingerprint_once("second") == "first"
        assert store.fingerprint == "first"

    def test_a_study_that_moves_measures_what_it_is_told_again(
        self, store: StudyStore, lease: Lease
    ) -> None:
        for trial, key in enumerate(("front", "other")):
            store.claim(key, placement=BARE, trial=trial, baseline=None, lease=lease)
            store.end_candidate(key, state="scored", reason="", lease=lease)
        ended = store.candidate("front").finished_at
        store.add_session(session_at(1.0), owner="me")
        store.set_fingerprint_once(json.dumps(asdict(session_at(1.0).fingerprint)))
        assert (len(store.sessions()), store.sessions(elsewhere=True)) == (1, [])
        store.move_to("another machine", again=["front"])
        assert store.fingerprint == "another machine"
        assert (store.sessions(), len(store.sessions(elsewhere=True))) == ([], 1)
        assert [row.state for row in store.candidates()] == ["running", "scored"]
        store.end_candidate("front", state="scored", reason="", lease=lease)
        assert store.candidate("front").finished_at == ended, "it was trained then"

    def test_settings_documents_and_test_readings_belong_to_their_study(
        self, store: StudyStore, database: Database
    ) -> None:
        other = database.create_study("other", recipe="{}", versions={})
        store.set(published="a")
        store.set(published="b")
        store.protocols.put("own", "long")
        store.protocols.put("own", "longer")
        store.labels.put("own", "not a protocol")
        store.log_test_reading("validate of stage1=se")
        store.log_test_reading("retrain")
        store.log_test_reading("validate of stage1=se")
        assert (store.settings.published, other.settings.published) == ("b", None)
        assert (store.protocols.all(), store.protocols.get("else"), other.protocols.all()) == (
            {"own": "longer"},
            None,
            {},
        )
        assert [reading.reason for reading in store.test_readings()] == [
            "validate of stage1=se",
            "retrain",
        ]
        assert other.test_readings() == []

    def test_what_another_study_has_is_copied_once_and_stays_there(
        self, database: Database, store: StudyStore, lease: Lease
    ) -> None:
        store.claim("key", placement=BARE, trial=0, baseline=None, lease=lease)
        store.queue.want([Run("key", BARE, 0), Run("key", BARE, 0, protocol="target")])
        store.weights_lost.put("key", "not kept")
        store.weights_lost.put("target:key:0:0", "the disk was full")
        store.add_session(session_at(1.0), owner="me")
        before = (store.candidates(), store.queue.rows(), store.sessions())
        new = database.create_study("new", recipe="{}", versions={}, trials=3, taking_over="old")
        copies = Copies(frozenset({"search"}), frozenset({"key"}), {"key": None}, latencies=True)
        held = new.acquire("scheduling", owner="me")
        assert held is not None
        for _ in range(2):
            copy_results(new, store, copies, held)
        assert (store.candidates(), store.queue.rows(), store.sessions()) == before
        assert [row.key for row in new.candidates()] == ["key"]
        assert new.queue.rows() == [], "what waits is no result"
        assert new.weights_lost.all() == {"key": "not kept"}
        assert len(new.sessions()) == 1
        assert (new.settings.trials, new.settings.taking_over) == (4, None)

    @pytest.mark.parametrize("name", CALLS)
    def test_a_call_whose_answer_is_lost_has_the_effect_of_one(
        self, database: Database, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        usual, unlucky = make(database, "usual"), make(database, "unlucky")
        before = contents(usual)
        assert contents(unlucky) == before
        CALLS[name](usual)
        with answer_lost(monkeypatch) as lost:
            CALLS[name](unlucky)
        assert lost, "it writes"
        assert contents(unlucky) == contents(usual)
        if name not in UNSEEN:
            assert contents(usual) != before


class TestSQLite(StoreContract):
    @pytest.fixture
    def url(self, sqlite_url: str) -> str:
        return sqlite_url


class TestPostgreSQL(StoreContract):
    @pytest.fixture
    def url(self, postgresql_url: str) -> str:
        return postgresql_url
