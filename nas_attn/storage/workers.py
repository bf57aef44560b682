"""Who works on a study: what each worker is at, since when, and its last sign of life. For people; nothing depends on it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import and_, case, delete, func, select

from nas_attn.storage import tables
from nas_attn.storage.connection import Connector, insert
from nas_attn.storage.outages import enduring
from nas_attn.storage.rows import WorkerRow, read_all

_worker, _lease = tables.worker, tables.lease


@enduring
class WorkerBook:
    """The workers of one study. Made by `StudyStore.workers`."""

    def __init__(self, connector: Connector, study_id: int) -> None:
        self._connector, self._id = connector, study_id

    def here(self, owner: str, *, device: str, doing: str, waiting: str = "") -> None:
        """A worker's sign of life, and what it is at."""
        clock = self._connector.clock
        row = {"study_id": self._id, "owner": owner, "device": device, "doing": doing, "waiting": waiting}
        with self._connector.write() as connection:
            new = insert(connection, _worker).values(**row, began_at=clock, since=clock, seen_at=clock)
            changed: dict[str, Any] = {
                **row,
                "since": case((_worker.c.doing == doing, _worker.c.since), else_=clock),
                "seen_at": clock,
            }
            connection.execute(new.on_conflict_do_update(index_elements=["study_id", "owner"], set_=changed))

    def gone(self, owner: str) -> None:
        """A worker has ended, or is known to be dead."""
        with self._connector.write() as connection:
            mine = and_(_worker.c.study_id == self._id, _worker.c.owner == owner)
            connection.execute(delete(_worker).where(mine))

    def rows(self) -> list[WorkerRow]:
        """All that have come and not gone, the first first; those that were killed among them."""
        renewed = (
            select(func.max(_lease.c.expires_at - _lease.c.ttl_s))
            .where(_lease.c.study_id == self._id, _lease.c.owner == _worker.c.owner)
            .scalar_subquery()
        )
        columns = (*_worker.c, renewed.label("renewed_at"), self._connector.clock.label("now"))
        query = select(*columns).where(_worker.c.study_id == self._id)
        with self._connector.read() as connection:
            found = connection.execute(query.order_by(_worker.c.began_at, _worker.c.owner)).mappings()
            return read_all(
                WorkerRow,
                (
                    {
                        **row,
                        "here_s": row["now"] - row["began_at"],
                        "at_it_s": row["now"] - row["since"],
                        "silent_s": max(0.0, row["now"] - max(row["seen_at"], row["renewed_at"] or 0.0)),
                    }
                    for row in found
                ),
            )
