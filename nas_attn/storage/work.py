"""The work of a study: leases, the queue of runs, and the workers with their signs of life.

PostgreSQL's clock decides when a lease expires. SQLite has no clock: there a lease has expired when
a process has seen its row unchanged for the lease's whole duration, in which its holder renews it
several times.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, replace
from typing import Any

import sqlalchemy as sa

from nas_attn.errors import LeaseLost
from nas_attn.storage import tables
from nas_attn.storage.connection import Connector, insert
from nas_attn.storage.outages import repeatable
from nas_attn.storage.rows import (
    FormerWorker,
    Lease,
    LeaseRow,
    Run,
    RunRow,
    WorkerRow,
    read_all,
    to_runs,
)

# least change of a lease by a renewal, if the clock has not advanced
LEASE_TICK_S = 0.001


class Leases:
    """The leases of one study; a part of `StudyStore`."""

    def __init__(self, connector: Connector, *, id: int, name: str) -> None:
        self._connector = connector
        self._id = id
        self.name = name

    @property
    def is_local(self) -> bool:
        """Whether only this machine's processes can work on the study."""
        return self._connector.is_sqlite

    def acquire(self, resource: str, *, owner: str, ttl_s: float) -> Lease | None:
        """Takes a resource that is free, released or expired; None while another worker holds
        it.
        """
        return self._acquire(resource, owner, ttl_s, set())

    @repeatable
    def _acquire(self, resource: str, owner: str, ttl_s: float, tried: set[int]) -> Lease | None:
        """`tried`: numbers that earlier attempts may have taken, if the answer of the database was
        lost.
        """
        lease = tables.lease
        taken = {
            "owner": owner,
            "expires_at": self._connector.clock + ttl_s,
            "released": False,
            "ttl_s": ttl_s,
        }
        with self._connector.write() as connection:
            there = connection.execute(
                self._leases(self._lease(resource)).with_for_update()
            ).one_or_none()
            if (
                there is not None
                and there.owner == owner
                and there.number in tried
                and not there.released
            ):
                return Lease(resource, owner, there.number, ttl_s, there.expires_at)
            tried.add(1 if there is None else there.number + 1)
            if there is None:
                new = insert(connection, lease).values(
                    study_id=self._id, resource=resource, number=1, **taken
                )
                first = new.on_conflict_do_nothing().execution_options(preserve_rowcount=True)
                if connection.execute(first).rowcount == 0:
                    return None
            elif self._state(there) == "held":
                return None
            else:
                again = (
                    sa.update(lease)
                    .where(self._lease(resource))
                    .values(number=there.number + 1, **taken)
                )
                connection.execute(again)
            row = connection.execute(
                sa.select(lease.c.number, lease.c.expires_at).where(self._lease(resource))
            ).one()
        return Lease(resource, owner, row.number, ttl_s, row.expires_at)

    @repeatable
    def renew(self, lease: Lease) -> Lease:
        """Extends a lease, also after expiry. LeaseLost: another worker took it. The row always
        changes, as a sign of life.
        """
        with self._connector.write() as connection:
            clock = self._connector.clock + lease.ttl_s
            before = tables.lease.c.expires_at + LEASE_TICK_S
            longer = {"expires_at": sa.case((clock > before, clock), else_=before)}
            if (
                connection.execute(
                    sa.update(tables.lease).where(self._held(lease)).values(longer)
                ).rowcount
                == 0
            ):
                raise self._lost(lease)
            row = connection.execute(
                sa.select(tables.lease.c.expires_at).where(self._held(lease))
            ).one()
        return replace(lease, expires_at=row.expires_at)

    @repeatable
    def release(self, lease: Lease) -> None:
        """Gives a resource back; does nothing if the lease is no longer held."""
        with self._connector.write() as connection:
            connection.execute(
                sa.update(tables.lease).where(self._held(lease)).values(released=True)
            )

    @repeatable
    def leases(self, *, released: bool = True) -> list[LeaseRow]:
        """All leases ever taken, by name; `released`: include returned ones, of which there may be
        thousands.
        """
        mine = tables.lease.c.study_id == self._id
        if not released:
            mine = sa.and_(mine, tables.lease.c.released == sa.false())
        with self._connector.read() as connection:
            rows = connection.execute(self._leases(mine).order_by(tables.lease.c.resource)).all()
            return read_all(LeaseRow, ({**row._mapping, "state": self._state(row)} for row in rows))

    def _leases(self, which: sa.ColumnElement[bool]) -> sa.Select[Any]:
        overdue = tables.lease.c.expires_at < self._connector.clock
        # no lease could be renewed while the server was down
        if not self.is_local:
            began = sa.cast(sa.func.extract("epoch", sa.func.pg_postmaster_start_time()), sa.Double)
            overdue = sa.and_(overdue, self._connector.clock - began > tables.lease.c.ttl_s)
        return sa.select(tables.lease, overdue.label("overdue")).where(which)

    def _state(self, row: sa.Row[Any]) -> str:
        if row.released:
            return "released"
        over = self._silent(row) if self.is_local else row.overdue
        if over and not self._connector.outage.just_over(row.ttl_s):
            return "expired"
        return "held"

    def _silent(self, row: sa.Row[Any]) -> bool:
        """Whether this process has seen a lease unchanged for its whole duration."""
        seen = self._connector.seen_leases
        place = (self._id, row.resource)
        now = time.monotonic()
        if place not in seen or seen[place][:2] != (row.number, row.expires_at):
            seen[place] = (row.number, row.expires_at, now)
        return bool(now - seen[place][2] >= row.ttl_s)

    def _lease(self, resource: str) -> Any:
        return sa.and_(tables.lease.c.study_id == self._id, tables.lease.c.resource == resource)

    def _held(self, lease: Lease) -> Any:
        mine = sa.and_(tables.lease.c.owner == lease.owner, tables.lease.c.number == lease.number)
        return sa.and_(self._lease(lease.resource), mine, tables.lease.c.released == sa.false())

    def _lost(self, lease: Lease) -> LeaseLost:
        return LeaseLost(
            f"study '{self.name}': '{lease.resource}' has been taken over by another worker"
        )

    @contextmanager
    def _fenced(self, lease: Lease) -> Iterator[sa.Connection]:
        """A transaction in which the lease is certainly ours: no other worker can take it before
        the end.
        """
        with self._connector.write() as connection:
            row = sa.select(tables.lease.c.number).where(self._held(lease)).with_for_update()
            if connection.scalar(row) is None:
                raise self._lost(lease)
            yield connection


WAITING = "waiting"
# final states of a run; `withdrawn`: not wanted any more
ENDS = frozenset({"done", "pruned", "failed", "withdrawn"})

_run = tables.run


class RunQueue:
    """The runs of one study. Made by `StudyStore.queue`."""

    def __init__(
        self,
        connector: Connector,
        study_id: int,
        fenced: Callable[[Lease], AbstractContextManager[sa.Connection]],
    ) -> None:
        self._connector = connector
        self._id = study_id
        self._fenced = fenced

    @repeatable
    def want(self, runs: Iterable[Run]) -> None:
        """Enqueues runs. If one waits already, it gets the higher priority, with its purpose; a
        withdrawn one waits again.
        """
        identity = ["study_id", "key", "protocol", "seed", "backbone"]
        entered = {"study_id": self._id, "reason": "", "attempts": 0}
        with self._connector.write() as connection:
            for run in runs:
                new = insert(connection, _run).values(
                    state=WAITING, **entered, **asdict(run) | {"placement": str(run.placement)}
                )
                more = sa.and_(_run.c.state == WAITING, _run.c.priority < run.priority)
                wanted = {
                    "purpose": run.purpose,
                    "round": run.round,
                    "priority": run.priority,
                    "state": WAITING,
                }
                again = sa.or_(more, _run.c.state == "withdrawn")
                connection.execute(
                    new.on_conflict_do_update(index_elements=identity, set_=wanted, where=again)
                )

    @repeatable
    def rows(
        self,
        *,
        state: str | None = None,
        purposes: Collection[str] | None = None,
        key: str | None = None,
        protocol: str | None = None,
    ) -> list[RunRow]:
        """Runs in the order in which they are taken: by priority, then by age."""
        query = sa.select(_run).where(
            _run.c.study_id == self._id,
            sa.true() if state is None else _run.c.state == state,
            sa.true() if purposes is None else _run.c.purpose.in_(purposes),
            sa.true() if key is None else _run.c.key == key,
            sa.true() if protocol is None else _run.c.protocol == protocol,
        )
        with self._connector.read() as connection:
            return to_runs(
                connection.execute(query.order_by(_run.c.priority.desc(), _run.c.id)).mappings()
            )

    @repeatable
    def row(self, number: int) -> RunRow:
        with self._connector.read() as connection:
            return to_runs(
                connection.execute(sa.select(_run).where(self._mine(number))).mappings()
            )[0]

    @repeatable
    def is_first(self, run: Run) -> bool:
        """Whether no other study of the database had such a run before this one."""
        alike = sa.and_(
            _run.c.key == run.key, _run.c.protocol == run.protocol, _run.c.seed == run.seed
        )
        query = sa.select(_run.c.study_id).where(alike).order_by(_run.c.id).limit(1)
        with self._connector.read() as connection:
            return connection.scalar(query) in (None, self._id)

    @repeatable
    def counts(self) -> dict[tuple[str, str], int]:
        """(purpose, state) -> runs."""
        columns = (_run.c.purpose, _run.c.state)
        query = (
            sa.select(*columns, sa.func.count())
            .where(_run.c.study_id == self._id)
            .group_by(*columns)
        )
        with self._connector.read() as connection:
            return {(purpose, state): count for purpose, state, count in connection.execute(query)}

    @repeatable
    def begin(self, row: RunRow, lease: Lease) -> RunRow:
        """Records that a worker takes a run, which was read under the lease. LeaseLost: another
        worker has it.
        """
        begun = replace(row, attempts=row.attempts + 1)
        self._change(row, lease, attempts=begun.attempts)
        return begun

    @repeatable
    def hand_back(self, row: RunRow, lease: Lease) -> None:
        """Records that a worker stops a run properly, so that any worker can continue it."""
        self._change(row, lease, attempts=row.attempts - 1)

    @repeatable
    def finish(self, row: RunRow, state: str, reason: str, lease: Lease) -> None:
        """Ends a run; does nothing if it has ended. LeaseLost: another worker has it."""
        assert state in ENDS
        self._change(row, lease, state=state, reason=reason, finished_at=self._connector.clock)

    @repeatable
    def again(self, numbers: Collection[int]) -> None:
        """Lets ended runs wait again."""
        with self._connector.write() as connection:
            mine = sa.and_(_run.c.study_id == self._id, _run.c.id.in_(numbers))
            connection.execute(
                sa.update(_run)
                .where(mine)
                .values(state=WAITING, reason="", attempts=0, finished_at=None)
            )

    def _change(self, row: RunRow, lease: Lease, **values: object) -> None:
        with self._fenced(lease) as connection:
            waiting = sa.and_(self._mine(row.id), _run.c.state == WAITING)
            connection.execute(sa.update(_run).where(waiting).values(values))

    def _mine(self, number: int) -> sa.ColumnElement[bool]:
        return sa.and_(_run.c.study_id == self._id, _run.c.id == number)


_worker = tables.worker
_lease = tables.lease
# a worker has ended in order
HAS_LEFT = "left"
# a worker has ended without a word
LOST = "lost"


class WorkerBook:
    """The workers of one study. Made by `StudyStore.workers`."""

    def __init__(self, connector: Connector, study_id: int) -> None:
        self._connector = connector
        self._id = study_id

    @repeatable
    def here(self, owner: str, *, device: str, doing: str, waiting: str = "") -> None:
        """Records a worker's sign of life and current task."""
        clock = self._connector.clock
        row = {
            "study_id": self._id,
            "owner": owner,
            "device": device,
            "doing": doing,
            "waiting": waiting,
        }
        with self._connector.write() as connection:
            new = insert(connection, _worker).values(
                **row, began_at=clock, since=clock, seen_at=clock
            )
            since = sa.case((_worker.c.doing == doing, _worker.c.since), else_=clock)
            back = {"left_at": None, "ending": None}
            changed: dict[str, Any] = {**row, **back, "since": since, "seen_at": clock}
            connection.execute(
                new.on_conflict_do_update(index_elements=["study_id", "owner"], set_=changed)
            )

    @repeatable
    def gone(self, owner: str, *, ending: str = HAS_LEFT) -> None:
        """Records that a worker has ended: it LEFT in order, or is LOST. Its row stays. Does
        nothing if that is recorded already.
        """
        assert ending in (HAS_LEFT, LOST)
        with self._connector.write() as connection:
            mine = sa.and_(_worker.c.study_id == self._id, _worker.c.owner == owner)
            here = sa.and_(mine, _worker.c.left_at.is_(None))
            ended = {"left_at": self._connector.clock, "ending": ending, "waiting": ""}
            connection.execute(sa.update(_worker).where(here).values(ended))

    @repeatable
    def former(self) -> list[FormerWorker]:
        """The workers that have ended, the oldest first, with what they have written. The scores
        that a later worker has written anew are the later one's.
        """
        score = tables.score
        session = tables.session
        written = [
            sa.select(sa.func.count())
            .where(table.c.study_id == self._id, table.c.owner == _worker.c.owner)
            .scalar_subquery()
            .label(name)
            for name, table in (("scores", score), ("sessions", session))
        ]
        query = (
            sa.select(_worker, *written)
            .where(_worker.c.study_id == self._id, _worker.c.left_at.is_not(None))
            .order_by(_worker.c.began_at, _worker.c.owner)
        )
        with self._connector.read() as connection:
            return read_all(FormerWorker, connection.execute(query).mappings())

    @repeatable
    def at_once(self) -> int:
        """How many workers are here; where none is, how many were when the last one came. At least
        one.
        """
        columns = (_worker.c.began_at, _worker.c.left_at)
        query = sa.select(*columns).where(_worker.c.study_id == self._id)
        with self._connector.read() as connection:
            spans = [(row.began_at, row.left_at) for row in connection.execute(query)]
        here = sum(left_at is None for _, left_at in spans)
        if here or not spans:
            return max(1, here)
        last = max(began_at for began_at, _ in spans)
        return sum(left_at >= last for _, left_at in spans)

    @repeatable
    def rows(self) -> list[WorkerRow]:
        """The workers that are here, the oldest first, killed ones included."""
        renewed = (
            sa.select(sa.func.max(_lease.c.expires_at - _lease.c.ttl_s))
            .where(_lease.c.study_id == self._id, _lease.c.owner == _worker.c.owner)
            .scalar_subquery()
        )
        columns = (*_worker.c, renewed.label("renewed_at"), self._connector.clock.label("now"))
        here = sa.and_(_worker.c.study_id == self._id, _worker.c.left_at.is_(None))
        query = sa.select(*columns).where(here)
        with self._connector.read() as connection:
            rows = []
            for row in connection.execute(
                query.order_by(_worker.c.began_at, _worker.c.owner)
            ).mappings():
                silent_s = max(0.0, row["now"] - max(row["seen_at"], row["renewed_at"] or 0.0))
                spans = {
                    "here_s": row["now"] - row["began_at"],
                    "at_it_s": row["now"] - row["since"],
                }
                rows.append({**row, **spans, "silent_s": silent_s})
            return read_all(WorkerRow, rows)
