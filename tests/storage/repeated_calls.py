"""Calls of the store that write, and a database whose answer to one is lost: it has committed, the
connection is cut, and the call is done again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy

from nas_attn.errors import StorageAway
from nas_attn.space.placement import BARE
from nas_attn.storage import tables
from nas_attn.storage.connection import Connector
from nas_attn.storage.database import Database
from nas_attn.storage.records import Fingerprint, Score, Session, SessionSample
from nas_attn.storage.rows import Lease, Run, RunRow
from nas_attn.storage.store import StudyStore
from nas_attn.system.waiting import reporting

RUN = Run("key", BARE, 0)
SESSION = Session(
    Fingerprint("cpu", "a machine", ()),
    {"batch_size": 1},
    20.0,
    3.0,
    1.0,
    0.001,
    (SessionSample("key", 0.1, 1.1, 0.2, 1.2, 40),),
)


@dataclass
class Made:
    """A study with a run that a worker has begun."""

    database: Database
    store: StudyStore
    lease: Lease

    @property
    def begun(self) -> RunRow:
        return self.store.queue.rows()[0]

    @property
    def checkpoint(self) -> tables.CheckpointTable:
        return self.store.checkpoints("r")[0]


def make(database: Database, name: str) -> Made:
    store = database.create_study(name, recipe="{}", versions={})
    lease = store.acquire("run/1", owner="me")
    assert lease is not None
    store.claim("key", placement=BARE, trial=0, baseline=None, lease=lease)
    store.queue.want([RUN])
    store.queue.begin(store.queue.rows()[0], lease)
    store.add_checkpoint("r", artifact="a", sha256="ab", size=1, epochs=1, lease=lease)
    store.workers.here("me", device="cpu", doing="trial 1")
    return Made(database, store, lease)


OTHER = Run("other", BARE, 1)
CALLS: dict[str, Callable[[Made], object]] = {
    "acquire": lambda m: m.store.acquire("run/9", owner="me"),
    "check": lambda m: m.store.check(m.lease),
    "release": lambda m: m.store.release(m.lease),
    "put": lambda m: m.store.curves.put("name", "text"),
    "put_once": lambda m: m.store.curves.put_once("name", "text"),
    "set": lambda m: m.store.set(trials=7),
    "set_fingerprint_once": lambda m: m.store.set_fingerprint_once("device"),
    "move_to": lambda m: m.store.move_to("device", again=["key"]),
    "claim": lambda m: m.store.claim("new", placement=BARE, trial=1, baseline=None, lease=m.lease),
    "set_cost": lambda m: m.store.set_cost("key", {"params": 3}, m.lease),
    "end_candidate": lambda m: m.store.end_candidate(
        "key", state="scored", reason="", lease=m.lease
    ),
    "add_score": lambda m: m.store.add_score(RUN, Score(0, 0, 1, {}), lease=m.lease),
    "add_session": lambda m: m.store.add_session(SESSION, owner="me"),
    "add_checkpoint": lambda m: m.store.add_checkpoint(
        "r", artifact="b", sha256="ab", size=1, epochs=2, lease=m.lease
    ),
    "drop_checkpoint": lambda m: m.store.drop_checkpoint(m.checkpoint),
    "log_test_reading": lambda m: m.store.log_test_reading("why"),
    "want": lambda m: m.store.queue.want([RUN, OTHER]),
    "begin": lambda m: m.store.queue.begin(m.begun, m.lease),
    "hand_back": lambda m: m.store.queue.hand_back(m.begun, m.lease),
    "finish a run": lambda m: m.store.queue.finish(m.begun, "done", "", m.lease),
    "again": lambda m: m.store.queue.again([m.begun.id]),
    "here": lambda m: m.store.workers.here("you", device="cpu", doing="trial 1"),
    "gone": lambda m: m.store.workers.gone("me"),
    "create_study": lambda m: m.database.create_study(m.store.name + "2", recipe="{}", versions={}),
    "delete_study": lambda m: m.database.delete_study(m.store.name),
}
UNEQUAL = {"id", "study_id", "name", "created_at", "finished_at", "began_at"}
UNEQUAL |= {"since", "seen_at", "left_at", "recorded_at", "read_at"}
"""Columns that are not equal in two studies that were written alike."""


def contents(made: Made) -> dict[str, list[str]]:
    """Table -> the study's rows, without what is never equal."""
    found = {}
    with made.database._connector.read() as connection:
        for table in tables.Base.metadata.sorted_tables:
            mine = (
                table.c.study_id == made.store._id if "study_id" in table.c else sqlalchemy.true()
            )
            if table is tables.StudyTable.__table__:
                mine = table.c.name.startswith(made.store.name)
            rows = connection.execute(sqlalchemy.select(table).where(mine)).mappings()
            kept = [{name: row[name] for name in row if name not in UNEQUAL} for row in rows]
            found[table.name] = sorted(map(repr, kept))
    return found


@contextmanager
def answer_lost(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Inside, the answer to the first transaction that writes is lost after it was committed."""
    lost: list[str] = []
    whole: Callable[[Connector], AbstractContextManager[Any]] = Connector.write

    @contextmanager
    def write(self: Connector) -> Iterator[Any]:
        with whole(self) as connection:
            yield connection
        if not lost:
            lost.append("once")
            raise StorageAway("the connection was cut")

    with monkeypatch.context() as patched, reporting(print, lambda: False, 60.0):
        patched.setattr(Connector, "write", write)
        yield lost


UNSEEN = {"check", "begin"}
"""Writes whose effect is a time, or was there before."""
