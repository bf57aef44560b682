"""The database of studies: opening, listing, creating, deleting, copying."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import delete, func, select

from nas_attn.errors import StudyError, did_you_mean
from nas_attn.storage import tables
from nas_attn.storage.backup import backup_sqlite
from nas_attn.storage.connection import Connector
from nas_attn.storage.rows import StudySummary
from nas_attn.storage.schema import creation_lock, prepare
from nas_attn.storage.store import StudyStore, insert
from nas_attn.storage.url import storage_url

PART = "~"
"""In a name: what stands before it is the study that this one is a part of (`digits~fidelity/…`); a recipe cannot hold it."""
_SHOWN_DIFFERENCES = 5
_SHOWN_LENGTH = 60


class Database:
    """Our tables in one SQLite file or PostgreSQL database, created or upgraded on opening.

    Safe to use from several threads; a child process, spawned rather than forked, opens its own by
    `Database(database.url)`.

    Args:
        url: `sqlite:///FILE` or `postgresql+psycopg://…`.
        must_exist: refuse to create an SQLite file.

    Raises:
        StudyError: the URL cannot be used: another kind of database, a network file system, an unwritable folder,
            a file that is no database.
        StorageError: the database is damaged, unreachable, or from a newer version.
    """

    def __init__(self, url: str, *, must_exist: bool = False) -> None:
        parsed = storage_url(url)
        self.url = parsed.render_as_string(hide_password=False)
        """With an absolute path and the password: what a child process needs."""
        self._connector = Connector(parsed)
        path = self.path
        if must_exist and path is not None and not path.is_file():
            raise StudyError(f"there is no study database '{path}': go to the folder of your search, or give --storage")
        prepare(self._connector)

    def __str__(self) -> str:
        """The URL without a password."""
        return str(self._connector)

    @property
    def path(self) -> Path | None:
        """The file, None on PostgreSQL."""
        return Path(str(self._connector.url.database)) if self._connector.is_sqlite else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; they reopen on the next use."""
        self._connector.close()

    def creating(self) -> AbstractContextManager[None]:
        """Hold this while Optuna creates its tables: then several processes may start on a new database at once."""
        return creation_lock(self._connector)

    def now(self) -> float:
        """Unix seconds by the database's clock, the one that leases go by."""
        with self._connector.read() as connection:
            return float(connection.scalar(select(self._connector.clock)) or 0.0)

    def create_study(
        self, name: str, *, recipe: str, versions: Mapping[str, str], fingerprint: str | None = None
    ) -> StudyStore:
        """A new study, or the one there is with the same name and recipe.

        Args:
            recipe: the recipe as JSON.
            versions: library -> version.
            fingerprint: the device that its latencies are pinned to; None: whatever measures first.

        Raises:
            StudyError: the name is taken by a study with another recipe; shows the difference.
        """
        with self._connector.write() as connection:
            row = {"name": name, "recipe": recipe, "versions": json.dumps(dict(versions)), "fingerprint": fingerprint}
            new = insert(connection, tables.study).values(created_at=self._connector.clock, **row)
            connection.execute(new.on_conflict_do_nothing())
        store = self.study(name)
        difference = differing_keys(json.loads(store.recipe), json.loads(recipe))
        if difference:
            shown = ", ".join(difference[:_SHOWN_DIFFERENCES])
            more = f" and {len(difference) - _SHOWN_DIFFERENCES} more" if len(difference) > _SHOWN_DIFFERENCES else ""
            raise StudyError(
                f"study '{name}' exists with another recipe ({shown}{more}): give the new one another name, or go on "
                f"with the old one by `nas-attn resume {name}`"
            )
        return store

    def study(self, name: str) -> StudyStore:
        """The study of this name.

        Raises:
            StudyError: there is none; names the nearest.
        """
        with self._connector.read() as connection:
            row = connection.execute(select(tables.study).where(tables.study.c.name == name)).one_or_none()
            names = [] if row is not None else list(connection.scalars(select(tables.study.c.name)))
        if row is None:
            raise StudyError(f"there is no study '{name}' in '{self}': {did_you_mean(name, names)}")
        return StudyStore(
            self._connector,
            id=row.id,
            name=row.name,
            recipe=row.recipe,
            versions=json.loads(row.versions),
            created_at=row.created_at,
        )

    def studies(self) -> list[StudySummary]:
        """All studies, the oldest first; their parts (`PART`) are not listed."""
        study, candidate = tables.study, tables.candidate
        columns = (candidate.c.study_id, candidate.c.state)
        counting = select(*columns, func.count().label("count")).group_by(*columns).order_by(*columns)
        states: defaultdict[int, dict[str, int]] = defaultdict(dict)
        with self._connector.read() as connection:
            rows = connection.execute(select(study).order_by(study.c.created_at, study.c.id)).all()
            for found in connection.execute(counting).mappings():
                states[found["study_id"]][found["state"]] = found["count"]
        return [
            StudySummary(row.name, row.created_at, row.fingerprint, states[row.id])
            for row in rows
            if PART not in row.name
        ]

    def delete_study(self, name: str) -> None:
        """Delete a study and its parts from our tables; their workers lose their leases. Optuna's is the caller's to delete.

        Raises:
            StudyError: there is none; names the nearest.
        """
        number, study = self.study(name)._id, tables.study
        with self._connector.write() as connection:
            parts = select(study.c.id).where(study.c.name.startswith(f"{name}{PART}", autoescape=True))
            numbers = [number, *connection.scalars(parts)]
            for table in tables.metadata.sorted_tables:
                column = table.c.id if table is tables.study else table.c.study_id
                connection.execute(delete(table).where(column.in_(numbers)))

    def backup(self, path: str | Path) -> Path:
        """Write a consistent copy, Optuna's tables included, into one file; workers may go on writing.

        Returns:
            The absolute path of the copy; what was there before is replaced once the copy is whole.

        Raises:
            StudyError: the path cannot take a copy, or the database is not SQLite.
            StorageError: reading or writing failed; what was at the path is still there.
        """
        source = self.path
        if source is None:
            raise StudyError(f"storage '{self}' is backed up by PostgreSQL's own means: pg_dump -Fc DATABASE > FILE")
        return backup_sqlite(source, Path(path).expanduser().absolute())


def differing_keys(old: Any, new: Any, prefix: str = "") -> list[str]:
    """Where two recipes differ, `search.trials: 30 -> 60`, sorted by key."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            line
            for key in sorted(old.keys() | new.keys())
            for line in differing_keys(
                old.get(key, _MISSING), new.get(key, _MISSING), f"{prefix}.{key}" if prefix else key
            )
        ]
    return [] if old == new else [f"{prefix}: {_shown(old)} -> {_shown(new)}"]


class _Missing:
    pass


_MISSING = _Missing()


def _shown(value: Any) -> str:
    text = "not set" if value is _MISSING else json.dumps(value, sort_keys=True)
    return text if len(text) <= _SHOWN_LENGTH else f"{text[: _SHOWN_LENGTH - 1]}…"
