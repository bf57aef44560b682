"""The queue of a study's runs: what is wanted, what is done. Who holds the lease `run/ID` is at a waiting one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager
from dataclasses import asdict, replace

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select, true, update

from nas_attn.storage import tables
from nas_attn.storage.connection import Connector, insert
from nas_attn.storage.outages import enduring
from nas_attn.storage.rows import Lease, Run, RunRow, to_runs

WAITING = "waiting"
ENDS = frozenset({"done", "pruned", "failed", "withdrawn"})
"""What a run ends as; `withdrawn`: nobody wants it any more."""

_run = tables.run


@enduring
class RunQueue:
    """The runs of one study. Made by `StudyStore.queue`."""

    def __init__(
        self, connector: Connector, study_id: int, fenced: Callable[[Lease], AbstractContextManager[Connection]]
    ) -> None:
        """Args:
        fenced: a transaction in which a lease is known to be held.
        """
        self._connector, self._id, self._fenced = connector, study_id, fenced

    def want(self, runs: Iterable[Run]) -> None:
        """Enters runs. One that waits already takes the higher priority and its purpose; one that ended stays ended.

        Runs that were withdrawn wait again.
        """
        with self._connector.write() as connection:
            for run in runs:
                new = insert(connection, _run).values(
                    study_id=self._id,
                    state=WAITING,
                    reason="",
                    attempts=0,
                    wanted_at=self._connector.clock,
                    **asdict(run),
                )
                more = and_(_run.c.state == WAITING, _run.c.priority < run.priority)
                wanted = {"purpose": run.purpose, "round": run.round, "priority": run.priority, "state": WAITING}
                connection.execute(
                    new.on_conflict_do_update(
                        index_elements=["study_id", "key", "way", "seed", "backbone"],
                        set_=wanted,
                        where=or_(more, _run.c.state == "withdrawn"),
                    )
                )

    def rows(
        self,
        *,
        state: str | None = None,
        purposes: Collection[str] | None = None,
        key: str | None = None,
        way: str | None = None,
    ) -> list[RunRow]:
        """Runs in the order in which they are taken: by priority, then by age."""
        query = select(_run).where(
            _run.c.study_id == self._id,
            true() if state is None else _run.c.state == state,
            true() if purposes is None else _run.c.purpose.in_(purposes),
            true() if key is None else _run.c.key == key,
            true() if way is None else _run.c.way == way,
        )
        with self._connector.read() as connection:
            return to_runs(connection.execute(query.order_by(_run.c.priority.desc(), _run.c.id)).mappings())

    def row(self, number: int) -> RunRow:
        """A run as it is now."""
        with self._connector.read() as connection:
            return to_runs(connection.execute(select(_run).where(self._mine(number))).mappings())[0]

    def counts(self) -> dict[tuple[str, str], int]:
        """(purpose, state) -> runs."""
        columns = (_run.c.purpose, _run.c.state)
        query = select(*columns, func.count()).where(_run.c.study_id == self._id).group_by(*columns)
        with self._connector.read() as connection:
            return {(purpose, state): count for purpose, state, count in connection.execute(query)}

    def begin(self, row: RunRow, lease: Lease) -> RunRow:
        """Notes that a worker takes a run, read under the lease; `LeaseLost` where it is no longer the worker's."""
        begun = replace(row, attempts=row.attempts + 1)
        self._change(row, lease, attempts=begun.attempts)
        return begun

    def hand_back(self, row: RunRow, lease: Lease) -> None:
        """Notes that a worker leaves a run that it has begun, in good order, for whoever takes it up."""
        self._change(row, lease, attempts=row.attempts - 1)

    def finish(self, row: RunRow, state: str, reason: str, lease: Lease) -> None:
        """Ends a run, once: one that has ended stays as it is. `LeaseLost` where it is no longer the worker's."""
        assert state in ENDS
        self._change(row, lease, state=state, reason=reason)

    def withdraw(self, key: str, lease: Lease) -> None:
        """Nobody wants the waiting runs of a network any more."""
        with self._fenced(lease) as connection:
            mine = and_(_run.c.study_id == self._id, _run.c.key == key, _run.c.state == WAITING)
            connection.execute(update(_run).where(mine).values(state="withdrawn"))

    def again(self, numbers: Collection[int]) -> None:
        """Runs that have ended wait again."""
        with self._connector.write() as connection:
            mine = and_(_run.c.study_id == self._id, _run.c.id.in_(numbers))
            connection.execute(update(_run).where(mine).values(state=WAITING, reason="", attempts=0))

    def _change(self, row: RunRow, lease: Lease, **values: object) -> None:
        with self._fenced(lease) as connection:
            waiting = and_(self._mine(row.id), _run.c.state == WAITING)
            connection.execute(update(_run).where(waiting).values(values))

    def _mine(self, number: int) -> ColumnElement[bool]:
        return and_(_run.c.study_id == self._id, _run.c.id == number)
