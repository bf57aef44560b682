"""How a study computes: decided once, by whichever process comes first; and databases that were
written before it was recorded.
"""

from __future__ import annotations

import tarfile
import threading
from pathlib import Path

import pytest

from nas_attn.space.placement import BARE
from nas_attn.storage.database import Database
from nas_attn.storage.records import FILLED, Arithmetic, Score
from nas_attn.storage.rows import Lease, Run
from nas_attn.storage.store import StudyStore

BEFORE = Path(__file__).with_name("before") / "0001.tar.xz"
PLAIN = Arithmetic("float32", "channels_last", "eager", "none", True, FILLED)


@pytest.fixture
def before(tmp_path: Path) -> Database:
    """A database with the first schema: a study, stopped in the middle of its second network."""
    with tarfile.open(BEFORE) as archive:
        archive.extractall(tmp_path, filter="data")
    return Database(f"sqlite:///{tmp_path / 'before.db'}", must_exist=True)


def test_of_many_that_decide_at_once_all_read_what_the_first_one_stored(database: Database) -> None:
    database.create_study("shared", recipe="{}", versions={})
    together, read = threading.Barrier(8), list[str]()

    def decide(number: int) -> None:
        store = database.study("shared")
        together.wait()
        read.append(store.arithmetics.put_once("cpu", f"by {number}"))

    threads = [threading.Thread(target=decide, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read) == 8
    assert set(read) == {database.study("shared").arithmetics.get("cpu")}


def test_a_score_says_how_it_was_computed(store: StudyStore, lease: Lease) -> None:
    run = Run("a", BARE, 0)
    store.add_score(run, Score(0, 0, 1, {"accuracy": 0.5}, arithmetic=PLAIN.text), lease=lease)
    store.add_score(run, Score(0, 1, 3, {"accuracy": 0.5}), lease=lease)
    first, second = store.scores("a")
    assert Arithmetic.from_text(first.score.arithmetic or "") == PLAIN
    assert second.score.arithmetic is None


def test_a_new_study_fills_its_batches(store: StudyStore) -> None:
    assert store.settings.batches == FILLED


def test_a_study_from_before_opens_and_has_no_arithmetic(before: Database) -> None:
    store = before.study("before")
    assert store.settings.batches is None
    assert store.arithmetics.all() == {}
    scores = store.scores()
    assert len(scores) == 3
    assert {stored.score.arithmetic for stored in scores} == {None}
    assert before.create_study("new", recipe="{}", versions={}).settings.batches == FILLED
