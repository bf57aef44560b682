"""The database of studies: opening, listing, creating, deleting; and copying an SQLite file in use,
its log included.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any, Self

from pydantic import Json
from sqlalchemy import delete, func, inspect, orm, select, text

from nas_attn.errors import StudyError, did_you_mean, few
from nas_attn.storage import tables
from nas_attn.storage.connection import Connector, TunedConnection
from nas_attn.storage.driver_errors import explained
from nas_attn.storage.outages import Outage, repeatable
from nas_attn.storage.preparing import creation_lock, known_version, prepare
from nas_attn.storage.records import FILLED
from nas_attn.storage.rows import StudySummary, read_all
from nas_attn.storage.store import StudyStore
from nas_attn.storage.urls import storage_url
from nas_attn.system.paths import output_path, whole_file

# in small letters
_SQLITE_HEADER = b"sqlite format 3\x00"
# in Optuna's table
_OPTUNAS = text("SELECT study_id FROM studies WHERE study_name = :name")


class Database:
    """Our tables in one SQLite file or PostgreSQL database, for several threads; a spawned child
    opens its own. Raises StudyError: a bad URL, or no file and `must_exist`. Raises StorageError:
    it is damaged, unreachable, or from a newer version.
    """

    def __init__(self, url: str, *, must_exist: bool = False, prepared: bool = True) -> None:
        """`prepared`: our tables are made or upgraded; else only `look` may be called."""
        parsed = storage_url(url)
        # absolute, with password: for child processes
        self.url = parsed.render_as_string(hide_password=False)
        self._connector = Connector(parsed)
        path = self.path
        if must_exist and path is not None and not path.is_file():
            raise StudyError(
                f"there is no study database '{path}': go to your search's folder, or name its"
                " storage"
            )
        if prepared:
            self._connector.endure(lambda: prepare(self._connector))

    def __str__(self) -> str:
        """The URL without a password."""
        return str(self._connector)

    @property
    def path(self) -> Path | None:
        """The file, None on PostgreSQL."""
        if not self._connector.is_sqlite:
            return None
        return Path(str(self._connector.url.database))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def outage(self) -> Outage:
        """Whether the database is away, for its other users in this process."""
        return self._connector.outage

    def close(self) -> None:
        """Closes all connections; they reopen on the next use."""
        self._connector.engine.dispose()

    def creating(self) -> AbstractContextManager[None]:
        """Hold this while Optuna creates its tables, so that several processes can start on a new
        database at once.
        """
        return creation_lock(self._connector)

    @repeatable
    def now(self) -> float:
        """Unix seconds by the database's clock; on SQLite it is this machine's."""
        with self._connector.read() as connection:
            return float(connection.scalar(select(self._connector.clock)) or 0.0)

    @repeatable
    def look(self, name: str) -> tuple[str, int] | None:
        """The recipe of the study of this name, and how many candidates it has begun; None: there
        is none. Writes nothing, also where nothing is prepared. Raises StorageError: the database
        cannot be read, or is from a newer version.
        """
        study = tables.StudyTable
        begun = select(func.count()).where(tables.CandidateTable.study_id == study.id)
        query = select(study.recipe, begun.scalar_subquery()).where(study.name == name)
        # a connection would make the file
        if self.path is not None and not self.path.is_file():
            return None
        with self._connector.read() as connection:
            if known_version(connection, self._connector) is None:
                return None
            return connection.execute(query).one_or_none()

    @repeatable
    def create_study(
        self,
        name: str,
        *,
        recipe: str,
        versions: Mapping[str, str],
        trials: int = 0,
        artifacts: str = ".",
        taking_over: str | None = None,
    ) -> StudyStore:
        """Creates a study, or opens the one of its name.

        Args:
            name: of the study.
            recipe: as JSON.
            versions: library -> version.
            trials: candidates in all.
            artifacts: the folder or bucket of its files.
            taking_over: the study from which a new one takes over; None: it begins empty.

        Raises:
            StudyError: the existing one has another recipe.
        """
        new = self._connector.insert(tables.StudyTable).values(
            name=name,
            recipe=recipe,
            versions=json.dumps(dict(versions)),
            trials=trials,
            artifacts=artifacts,
            rounds_before=0,
            batches=FILLED,
            taking_over=taking_over,
            created_at=self._connector.clock,
        )
        self._connector.execute(new.on_conflict_do_nothing())
        store = self.study(name)
        check_same_recipe(name, store.recipe, recipe)
        return store

    @repeatable
    def study(self, name: str) -> StudyStore:
        """The study of this name. Raises StudyError, which names the nearest: there is none."""
        study = tables.StudyTable
        with self._connector.read() as connection:
            row = orm.Session(connection).scalar(select(study).filter_by(name=name))
            if row is None:
                near = did_you_mean(name, connection.scalars(select(study.name)))
                raise StudyError(f"there is no study '{name}' in '{self}': {near}")
            (versions,) = read_all(Json[dict[str, str]], [row.versions])
        return StudyStore(self._connector, row, versions)

    def studies(self) -> list[StudySummary]:
        """All studies, the oldest first."""
        return [
            StudySummary(
                name=store.name,
                created_at=store.created_at,
                fingerprint=store.fingerprint,
                candidates=dict(Counter(sorted(row.state for row in store.candidates()))),
                workers=len(store.workers.rows()),
                lost=not self.has_trials(store.name),
            )
            for store in self.stores()
        ]

    def delete_study(self, name: str) -> None:
        """Deletes our part of a study, not Optuna's; its workers lose their leases. StudyError:
        there is none.
        """
        self._delete(self.study(name)._id)

    @repeatable
    def _delete(self, number: int) -> None:
        self._connector.execute(
            *(
                delete(table).filter_by(**{"study_id" if "study_id" in table.c else "id": number})
                for table in tables.Base.metadata.sorted_tables
            )
        )

    def backup(
        self, path: str | Path, *, overwrite: bool = False, artifacts: str | None = None
    ) -> Path:
        """Writes a consistent copy to a file, and returns its path; workers may go on.

        Args:
            path: of the copy.
            overwrite: whether it may replace an older one.
            artifacts: the folder of files that the copy names; None: the same.

        Raises:
            StudyError: no copy can be written there.
            StorageError: it failed; the target is unchanged.
        """
        source = self.path
        if source is None:
            instead = "run pg_dump -Fc DATABASE > FILE, and copy the artifacts folder, too"
            raise StudyError(
                f"storage '{self}' is not an SQLite file, which is all that this command copies:"
                f" {instead}"
            )
        replaces = (_SQLITE_HEADER,)
        target = output_path(path, what="backup", error=StudyError, replaces=replaces).absolute()
        if target.exists():
            if target.samefile(source) or target.with_name(target.name + "-wal").exists():
                raise StudyError(f"backup '{target}' is a database in use: name another file")
            if not overwrite:
                raise StudyError(
                    f"backup '{target}' exists: name another file, or force to replace that copy"
                )
        try:
            with whole_file(target) as file:
                shutil.copymode(source, file.name)
                with closing(sqlite3.connect(source, factory=TunedConnection)) as connection:
                    connection.execute("VACUUM INTO ?", (file.name,)).close()
                if artifacts is not None:
                    change = "UPDATE nas_study SET artifacts = ? WHERE artifacts NOT LIKE 's3://%'"
                    with closing(sqlite3.connect(file.name)) as copy, copy:
                        copy.execute(change, (artifacts,))
        except sqlite3.Error as error:
            raise explained(error, f"backup of '{source}'") from error
        except OSError as error:
            raise StudyError(f"backup '{target}' cannot be written: {error}") from error
        return target

    @repeatable
    def has_trials(self, name: str) -> bool:
        """Whether Optuna has a study of this name in its tables here. Writes nothing."""
        # a connection would make the file
        if self.path is not None and not self.path.is_file():
            return False
        with self._connector.read() as connection:
            if not inspect(connection).has_table("studies"):
                return False
            return connection.execute(_OPTUNAS, {"name": name}).first() is not None

    @repeatable
    def stores(self) -> list[StudyStore]:
        """All studies' stores."""
        by_age = select(tables.StudyTable.name).order_by(tables.StudyTable.id)
        with self._connector.read() as connection:
            names = list(connection.scalars(by_age))
        return [self.study(name) for name in names]


def check_same_recipe(name: str, old: str, new: str) -> None:
    """Raises StudyError, which tells the first differences, if two recipes as JSON differ."""
    before = _by_key(json.loads(old))
    after = _by_key(json.loads(new))
    changes = [
        f"{key}: {_shown(before.get(key, _MISSING))} -> {_shown(after.get(key, _MISSING))}"
        for key in sorted(before | after)
        if before.get(key, _MISSING) != after.get(key, _MISSING)
    ]
    if changes:
        way_out = (
            f"give the new one another name, or go on with the old one by `nas-attn resume {name}`"
        )
        shown = few(changes, quote="")
        raise StudyError(f"study '{name}' exists with another recipe ({shown}): {way_out}")


_MISSING = object()


def _by_key(value: Any, key: str = "") -> dict[str, Any]:
    """Dotted key -> value of a recipe."""
    if not isinstance(value, dict):
        return {key: value}
    values: dict[str, Any] = {}
    for name, inner in value.items():
        values |= _by_key(inner, f"{key}.{name}" if key else name)
    return values


def _shown(value: Any) -> str:
    return "not set" if value is _MISSING else json.dumps(value, sort_keys=True)
