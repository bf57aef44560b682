"""A study's documents of one kind, by name: JSON texts that only their writers and readers know the shape of."""

from __future__ import annotations

from sqlalchemy import Table, and_, select

from nas_attn.storage.connection import Connector, insert
from nas_attn.storage.outages import enduring


@enduring
class Documents:
    """One table of documents. Made by `StudyStore.ways` and its like."""

    def __init__(self, connector: Connector, study_id: int, table: Table) -> None:
        self._connector, self._id, self._table = connector, study_id, table

    def put(self, name: str, content: str) -> None:
        """Writes a document, or replaces it."""
        row = {"study_id": self._id, "name": name, "content": content}
        with self._connector.write() as connection:
            new = insert(connection, self._table).values(row)
            connection.execute(
                new.on_conflict_do_update(index_elements=["study_id", "name"], set_={"content": content})
            )

    def get(self, name: str) -> str | None:
        """A document; None where there is none."""
        named = and_(self._table.c.study_id == self._id, self._table.c.name == name)
        with self._connector.read() as connection:
            found: str | None = connection.scalar(select(self._table.c.content).where(named))
        return found

    def all(self) -> dict[str, str]:
        """Name -> document, by name."""
        query = select(self._table.c.name, self._table.c.content).where(self._table.c.study_id == self._id)
        with self._connector.read() as connection:
            return {row.name: row.content for row in connection.execute(query.order_by(self._table.c.name))}
