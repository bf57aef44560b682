"""The work of a study: leases, the queue of runs, and the workers with their signs of life.

A worker gives one sign of life for all that it holds: it renews its row. A lease goes to another
one when its holder has left, has died on this machine, or was seen unchanged for a minute. So no
clock decides.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import sqlalchemy as sa

from nas_attn.errors import LeaseLost, OperationError
from nas_attn.storage.connection import Connector
from nas_attn.storage.outages import repeatable
from nas_attn.storage.rows import Lease, Run, RunRow, WorkerRow
from nas_attn.storage.tables import (
    Base,
    LeaseTable,
    RunTable,
    WorkerTable,
)
from nas_attn.system.processes import is_dead
from nas_attn.system.waiting import Interrupted

# seconds after which a silent worker's work may be taken over
SILENT_S = 60.0
# least change of a worker's row by a sign of life, if the clock has not advanced
TICK_S = 0.001


def given(**values: object) -> dict[str, object]:
    """Column -> value that a query asks for; without those that are None: they may be any."""
    return {name: value for name, value in values.items() if value is not None}


@dataclass(eq=False)
class StudyPart:
    """What a study has in its tables; statements of it are about this study only."""

    _connector: Connector
    _id: int
    name: str

    def _select(self, *columns: Any, **equal: object) -> sa.Select[Any]:
        return sa.select(*columns).filter_by(study_id=self._id, **equal)

    def _update(self, table: type[Base], **equal: object) -> sa.Update:
        return sa.update(table).filter_by(study_id=self._id, **equal)

    def _insert(self, table: type[Base], **values: object) -> Any:
        return self._connector.insert(table).values(study_id=self._id, **values)

    @contextmanager
    def _fenced(self, lease: Lease) -> Iterator[sa.Connection]:
        """A transaction in which the lease is certainly ours: no other worker can take it before
        the end.
        """
        with self._connector.write() as connection:
            row = self._select(LeaseTable.number, **asdict(lease), released=False)
            if connection.scalar(row.with_for_update()) is None:
                raise LeaseLost(
                    f"study '{self.name}': '{lease.resource}' has been taken over by another worker"
                )
            yield connection


class Leases(StudyPart):
    """The leases of one study; a part of `StudyStore`."""

    @property
    def is_local(self) -> bool:
        """Whether only this machine's processes can work on the study."""
        return self._connector.is_sqlite

    @repeatable
    def acquire(self, resource: str, *, owner: str) -> Lease | None:
        """Takes a resource that is free, or whose holder is gone; None while another worker holds
        it. A holder that asks again gets what it has.
        """
        free = self._insert(LeaseTable, resource=resource, owner="", number=0, released=True)
        query = self._select(LeaseTable, resource=resource).with_for_update()
        with self._connector.write() as connection:
            connection.execute(free.on_conflict_do_nothing())
            there = connection.execute(query).one()
            if there.owner == owner and not there.released:
                return Lease(resource, owner, there.number)
            if not there.released and not self._is_gone(connection, there):
                return None
            lease = Lease(resource, owner, there.number + 1)
            taken = self._update(LeaseTable, resource=resource)
            connection.execute(taken.values(owner=owner, number=lease.number, released=False))
        return lease

    @repeatable
    def release(self, lease: Lease) -> None:
        """Gives a resource back; does nothing if the lease is no longer held."""
        held = self._update(LeaseTable, **asdict(lease), released=False)
        self._connector.execute(held.values(released=True))

    @contextmanager
    def holding(self, lease: Lease) -> Iterator[Lease]:
        """Gives the lease back at the end; if that fails, others take it once its holder has
        left.
        """
        try:
            yield lease
        finally:
            with suppress(OperationError, Interrupted):
                self.release(lease)

    @repeatable
    def check(self, lease: Lease) -> None:
        """Raises LeaseLost: another worker has taken over."""
        with self._fenced(lease):
            pass

    def held(self, beginning: str = "") -> list[Lease]:
        """The leases on resources with this beginning whose holders are there, by name."""
        return [
            lease
            for lease, is_gone in self._not_given_back()
            if not is_gone and lease.resource.startswith(beginning)
        ]

    def left(self) -> list[Lease]:
        """The leases whose holders are gone."""
        return [lease for lease, is_gone in self._not_given_back() if is_gone]

    @repeatable
    def _not_given_back(self) -> list[tuple[Lease, bool]]:
        query = self._select(LeaseTable, released=False).order_by(LeaseTable.resource)
        with self._connector.read() as connection:
            return [
                (Lease(row.resource, row.owner, row.number), self._is_gone(connection, row))
                for row in connection.execute(query).all()
            ]

    def _is_gone(self, connection: sa.Connection, lease: sa.Row[Any]) -> bool:
        """Whether a lease's holder works no more, as far as this process can know."""
        of_owner = self._select(WorkerTable.seen_at, WorkerTable.left_at, owner=lease.owner)
        worker = connection.execute(of_owner).one_or_none()
        if is_dead(lease.owner, local=self.is_local) or (worker and worker.left_at is not None):
            return True
        sign = (lease.number, worker and worker.seen_at)
        place = (self._id, lease.resource)
        now = time.monotonic()
        before, since = self._connector.signs.get(place, (None, now))
        if before != sign:
            since = now
        self._connector.signs[place] = (sign, since)
        # after an outage, each holder must have had the time to give a sign again
        return now - since >= SILENT_S and not self._connector.outage.just_over(SILENT_S)


WAITING = "waiting"
# what changes of a run that is wanted again
CHANGED = ("purpose", "round", "priority", "state")
# final states of a run; `withdrawn`: not wanted any more
ENDS = frozenset({"done", "pruned", "failed", "withdrawn"})


class RunQueue(StudyPart):
    """The runs of one study. Made by `StudyStore.queue`."""

    @repeatable
    def want(self, runs: Iterable[Run]) -> None:
        """Enqueues runs. If one waits already, it gets the higher priority, with its purpose; a
        withdrawn one waits again.
        """
        identity = ["study_id", "key", "protocol", "seed", "backbone"]
        entered = {"state": WAITING, "reason": "", "attempts": 0}
        statements = []
        for run in runs:
            row = {**asdict(run), "placement": str(run.placement)}
            new = self._insert(RunTable, **entered, **row)
            more = sa.and_(RunTable.state == WAITING, RunTable.priority < run.priority)
            wanted = {name: new.excluded[name] for name in CHANGED}
            again = sa.or_(more, RunTable.state == "withdrawn")
            statements.append(
                new.on_conflict_do_update(index_elements=identity, set_=wanted, where=again)
            )
        self._connector.execute(*statements)

    @repeatable
    def rows(
        self,
        *,
        state: str | None = None,
        purposes: Collection[str] | None = None,
        key: str | None = None,
        protocol: str | None = None,
    ) -> list[RunRow]:
        """Reads runs in the order in which they are taken: by priority, then by age.

        Args:
            state: of the runs; None: any.
            purposes: what they are for; None: anything.
            key: of their network; None: of all.
            protocol: by which they are trained; None: by any.
        """
        of_purposes = sa.true() if purposes is None else RunTable.purpose.in_(purposes)
        return self._read(of_purposes, **given(state=state, key=key, protocol=protocol))

    @repeatable
    def row(self, number: int) -> RunRow:
        return self._read(sa.true(), id=number)[0]

    def _read(self, which: sa.ColumnElement[bool], **values: object) -> list[RunRow]:
        query = self._select(RunTable, **values).where(which)
        ordered = query.order_by(RunTable.priority.desc(), RunTable.id)
        return self._connector.rows(RunRow, ordered, within="run")

    @repeatable
    def counts(self) -> dict[tuple[str, str], int]:
        """(purpose, state) -> runs."""
        columns = (RunTable.purpose, RunTable.state)
        query = self._select(*columns, sa.func.count()).group_by(*columns)
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
        """Ends a run; does nothing if it has ended.

        Args:
            row: the run, as its worker took it.
            state: one of ENDS.
            reason: why it ended so, for people; empty: nothing to say.
            lease: on the run.

        Raises:
            LeaseLost: another worker has it.
        """
        assert state in ENDS
        self._change(row, lease, state=state, reason=reason, finished_at=self._connector.clock)

    @repeatable
    def again(self, numbers: Collection[int]) -> None:
        """Lets ended runs wait again."""
        again = self._update(RunTable).where(RunTable.id.in_(numbers))
        self._connector.execute(
            again.values(state=WAITING, reason="", attempts=0, finished_at=None)
        )

    def _change(self, row: RunRow, lease: Lease, **values: object) -> None:
        with self._fenced(lease) as connection:
            waiting = self._update(RunTable, id=row.id, state=WAITING)
            connection.execute(waiting.values(values))


# a worker has ended in order
HAS_LEFT = "left"
# a worker has ended without a word
LOST = "lost"
NO_DEVICE = ""
"""Of a process that trains nothing, but takes runs over, or writes to trackers."""
TRAINS = WorkerTable.device != NO_DEVICE


class WorkerBook(StudyPart):
    """The workers of one study. Made by `StudyStore.workers`."""

    @repeatable
    def here(self, owner: str, *, device: str, doing: str, waiting: str = "") -> None:
        """Records a worker's sign of life and current task.

        Args:
            owner: its name in leases.
            device: that it trains on; NO_DEVICE: it trains nothing.
            doing: its task.
            waiting: what it waits for; empty: for nothing.
        """
        clock = self._connector.clock
        row = {"device": device, "doing": doing, "waiting": waiting}
        later = WorkerTable.seen_at + TICK_S
        changed: dict[str, Any] = {
            **row,
            "since": sa.case((WorkerTable.doing == doing, WorkerTable.since), else_=clock),
            # the row always changes
            "seen_at": sa.case((clock > later, clock), else_=later),
            "left_at": None,
            "ending": None,
        }
        new = self._insert(
            WorkerTable, owner=owner, **row, began_at=clock, since=clock, seen_at=clock
        )
        self._connector.execute(
            new.on_conflict_do_update(index_elements=["study_id", "owner"], set_=changed)
        )

    @repeatable
    def gone(self, owner: str, *, ending: str = HAS_LEFT) -> None:
        """Records that a worker has ended: it LEFT in order, or is LOST. Its row stays. Does
        nothing if that is recorded already.
        """
        assert ending in (HAS_LEFT, LOST)
        here = self._update(WorkerTable, owner=owner, left_at=None)
        self._connector.execute(
            here.values(left_at=self._connector.clock, ending=ending, waiting="")
        )

    @repeatable
    def at_once(self) -> int:
        """How many workers are here; where none is, how many were when the last one came. At least
        one.
        """
        query = self._select(WorkerTable.began_at, WorkerTable.left_at).where(TRAINS)
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
        now = self._connector.clock
        spans = (
            (now - WorkerTable.began_at).label("here_s"),
            (now - WorkerTable.since).label("at_it_s"),
            sa.case((now > WorkerTable.seen_at, now - WorkerTable.seen_at), else_=0.0).label(
                "silent_s"
            ),
        )
        here = self._select(WorkerTable, left_at=None).add_columns(*spans)
        return self._connector.rows(
            WorkerRow, here.order_by(WorkerTable.began_at, WorkerTable.owner)
        )
