from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_attn.records import Fingerprint, Score, Session, SessionSample
from nas_attn.storage import Database, Lease, Run, StudyStore
from nas_attn.storage.rows import from_session, to_sessions

FLOATS = st.floats(allow_nan=False)
TEXTS = st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",)), max_size=20)


def test_a_candidate_is_claimed_by_one_trial(store: StudyStore, lease: Lease) -> None:
    row = store.claim("key", placement="stage1=se(reduction=8)", trial=1, baseline="uniform se", lease=lease)
    assert row is not None
    assert (row.key, row.placement, row.trial, row.baseline) == ("key", "stage1=se(reduction=8)", 1, "uniform se")
    assert (row.state, row.reason, row.cost) == ("running", "", None)
    assert store.claim("key", placement="stage1=se(reduction=8)", trial=2, baseline=None, lease=lease) is None
    # The trial resumes after a crash: it is still its own.
    assert store.claim("key", placement="stage1=se(reduction=8)", trial=1, baseline="uniform se", lease=lease) == row
    assert store.candidates() == [row]
    assert store.candidate("other") is None


def test_a_candidate_is_finished_once(store: StudyStore, lease: Lease) -> None:
    store.claim("key", placement="", trial=1, baseline=None, lease=lease)
    store.set_cost("key", {"params": 10**10, "macs": 10**12, "energy": 0.5}, lease)
    assert store.finish("key", state="pruned", reason="outranked at rung 0", lease=lease)
    assert not store.finish("key", state="scored", reason="", lease=lease)
    row = store.candidate("key")
    assert row is not None
    assert (row.state, row.reason) == ("pruned", "outranked at rung 0")
    assert row.cost == {"params": 10**10, "macs": 10**12, "energy": 0.5}


def test_candidates_come_by_trial(store: StudyStore, lease: Lease) -> None:
    for trial in (10, 2, 33):
        store.claim(f"key{trial}", placement="", trial=trial, baseline=None, lease=lease)
    assert [row.trial for row in store.candidates()] == [2, 10, 33]


def test_the_state_is_another_one_after_each_result(store: StudyStore, lease: Lease) -> None:
    seen = [store.state()]
    store.claim("key", placement="", trial=0, baseline=None, lease=lease)
    seen.append(store.state())
    store.add_score(Run("key", "none", 0), Score(0, 0, 1, {"accuracy": 0.5}), lease=lease)
    seen.append(store.state())
    store.finish("key", state="scored", reason="", lease=lease)
    seen.append(store.state())
    store.set(published="else")
    assert store.state() == seen[-1]
    assert len(set(seen)) == 4


def test_the_same_run_at_the_same_rung_is_stored_once(store: StudyStore, lease: Lease) -> None:
    old = Score(seed=0, rung=0, epochs=1, metrics={"accuracy": 0.5}, wall_s=9.0)
    new = Score(seed=0, rung=0, epochs=1, metrics={"accuracy": 0.6}, wall_s=1.0)
    run = Run("key", "none", 0)
    store.add_score(run, old, lease=lease)
    store.add_score(run, new, lease=lease)
    store.add_score(replace(run, way="target", purpose="validate"), old, lease=lease)
    found = [(stored.key, stored.purpose, stored.score) for stored in store.scores()]
    assert found == [("key", "search", new), ("key", "validate", old)]


def test_scores_are_selected_and_ordered(store: StudyStore, lease: Lease) -> None:
    for key, seed, rung in (("b", 0, 1), ("b", 0, 0), ("a", 1, 0), ("a", 0, 0)):
        store.add_score(Run(key, "none", seed), Score(seed, rung, 1, {}), lease=lease)
    store.add_score(Run("backbone", "none", 0, way="target", purpose="backbone"), Score(0, 0, 1, {}), lease=lease)
    order = [(s.key, s.score.seed, s.score.rung) for s in store.scores(way="search")]
    assert order == [("a", 0, 0), ("a", 1, 0), ("b", 0, 0), ("b", 0, 1)]
    assert [s.key for s in store.scores("b")] == ["b", "b"]
    assert store.scores("b", way="target") == []


def test_correct_images_are_loaded_only_when_asked_for(store: StudyStore, lease: Lease) -> None:
    score = Score(seed=0, rung=0, epochs=1, metrics={}, correct=bytes(range(256)), examples=2048)
    store.add_score(Run("key", "none", score.seed), score, lease=lease)
    assert store.scores("key")[0].score.correct is None
    assert store.scores("key", with_correct=True)[0].score == score


def test_a_diverged_loss_is_kept(store: StudyStore, lease: Lease) -> None:
    store.add_score(Run("key", "none", 0), Score(0, 0, 1, {"loss": math.nan, "other": math.inf}), lease=lease)
    metrics = store.scores("key")[0].score.metrics
    assert math.isnan(metrics["loss"])
    assert metrics["other"] == math.inf


@pytest.fixture(scope="module")
def one_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StudyStore]:
    with Database(f"sqlite:///{tmp_path_factory.mktemp('scores') / 'x.db'}") as database:
        yield database.create_study("a", recipe="{}", versions={})


@settings(max_examples=40, deadline=None)
@given(
    score=st.builds(
        Score,
        seed=st.integers(0, 2**63 - 1),
        rung=st.integers(0, 9),
        epochs=st.integers(0, 10**6),
        metrics=st.dictionaries(TEXTS, FLOATS, max_size=4),
        correct=st.none() | st.binary(max_size=50),
        examples=st.integers(0, 10**6),
        wall_s=FLOATS,
        device_s=FLOATS,
    ),
    key=TEXTS,
)
def test_any_score_comes_back(one_store: StudyStore, score: Score, key: str) -> None:
    lease = one_store.acquire("run", owner="me", ttl_s=-1.0)
    assert lease is not None
    one_store.add_score(Run(key, "none", score.seed, purpose="confirm"), score, lease=lease)
    assert score in [stored.score for stored in one_store.scores(key, with_correct=True)]


KNOBS = st.none() | st.booleans() | st.integers() | FLOATS | TEXTS


@settings(max_examples=40, deadline=None)
@given(
    session=st.builds(
        Session,
        fingerprint=st.builds(
            Fingerprint, device=TEXTS, name=TEXTS, details=st.lists(st.tuples(TEXTS, TEXTS)).map(tuple)
        ),
        conditions=st.dictionaries(TEXTS, KNOBS, max_size=3),
        started_at=FLOATS,
        duration_s=FLOATS,
        reference_ms=FLOATS,
        control_log_ratio=FLOATS,
        samples=st.lists(
            st.builds(SessionSample, TEXTS, FLOATS, FLOATS, FLOATS, FLOATS, calls=st.integers()), max_size=3
        ).map(tuple),
        notes=st.dictionaries(TEXTS, TEXTS, max_size=3),
    )
)
def test_any_session_comes_back_with_the_same_identity(session: Session) -> None:
    (found,) = to_sessions([from_session(session)])
    assert found == session
    assert found.fingerprint.id == session.fingerprint.id


def session_at(started_at: float) -> Session:
    fingerprint = Fingerprint("cpu", "a machine", (("torch", "2.11"),))
    samples = (SessionSample("key", 0.1, 1.1, 0.2, 1.2, 40),)
    return Session(fingerprint, {"batch_size": 1, "dtype": "float32"}, started_at, 3.0, 1.0, 0.001, samples)


def test_sessions_come_in_the_order_they_began(store: StudyStore, database: Database) -> None:
    store.add_session(session_at(20.0))
    store.add_session(session_at(10.0))
    assert store.sessions() == [session_at(10.0), session_at(20.0)]
    assert database.create_study("other", recipe="{}", versions={}).sessions() == []


def test_checkpoints_come_newest_first_and_can_be_dropped(store: StudyStore, lease: Lease) -> None:
    first, second = (
        store.add_checkpoint("key/0", artifact=f"a{i}", sha256="ab", size=10**10, epochs=i, lease=lease) for i in (1, 2)
    )
    store.add_checkpoint("key/1", artifact="else", sha256="ab", size=1, epochs=1, lease=lease)
    assert store.checkpoints("key/0") == [second, first]
    store.drop_checkpoint(second)
    assert store.checkpoints("key/0") == [first]
    assert (first.run, first.artifact, first.sha256, first.size, first.epochs) == ("key/0", "a1", "ab", 10**10, 1)
