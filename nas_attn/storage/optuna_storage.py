"""Optuna's storage, as nas_attn uses it: in the same database, patient while that is away."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import Engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, scoped_session

from nas_attn.errors import StorageError
from nas_attn.storage.connection import engine_arguments
from nas_attn.storage.database import Database
from nas_attn.storage.driver_errors import explained, translate_errors
from nas_attn.storage.outages import repeatable

T = TypeVar("T")


class PatientStorage(RDBStorage):
    """Waits while the database is away, and repeats calls (below)."""

    def __init__(self, database: Database) -> None:
        self._outage = database.outage
        # Asked after a KeyError: the error of a study that somebody has deleted, or None.
        self.deleted: Callable[[], StorageError | None] = lambda: None
        arguments = engine_arguments(make_url(database.url))
        super().__init__(database.url, engine_kwargs=arguments)

    @property
    def _connector(self) -> PatientStorage:
        """Of `repeatable`: its `endure` repeats the calls."""
        return self

    def endure(self, work: Callable[[], T]) -> T:
        """Does `work`. Raises StorageError, not KeyError, where the study has been deleted."""
        try:
            return self._outage.endure(work, lambda: self.engine.dispose())
        except KeyError as error:
            # of a study or a trial that is not there
            deleted = self.deleted()
            if deleted is None:
                raise
            raise deleted from error

    def close(self) -> None:
        """Closes all connections; they reopen on the next use."""
        _close(self.scoped_session, self.engine)


# Deleting is not repeated. If the answer to a new trial is lost, a second one is made or begun. The
# first is RUNNING, but no worker has it: the search gives it up (`TrialBook.ask_again`). Who makes
# a study takes one that is there. All others read, or write what is there already. Optuna's own
# cache calls the private ones.
_REPEATABLE = ("create_", "get_", "set_", "_create_", "_get_", "_set_")
for _name, _method in inspect.getmembers(RDBStorage, inspect.isfunction):
    is_static = isinstance(inspect.getattr_static(RDBStorage, _name), staticmethod)
    if _name.startswith(_REPEATABLE) and not is_static:
        setattr(PatientStorage, _name, repeatable(_method))


@contextmanager
def optuna_errors(database: Database) -> Iterator[None]:
    """Inside, errors of the database that Optuna raises become ours."""
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) else error
        original = getattr(cause, "orig", None) or cause or error
        raise explained(original, str(database)) from error


def open_storage(database: Database) -> PatientStorage:
    """Optuna's part of a database; its tables are made if they are missing. Raises StorageError: it
    cannot be opened.
    """
    return database.outage.endure(lambda: _open(database), lambda: None)


def _open(database: Database) -> PatientStorage:
    try:
        with optuna_errors(database):
            storage = PatientStorage(database)
    except RuntimeError as error:
        # of a schema of another version
        raise StorageError(
            f"Optuna {optuna.__version__} cannot use the database '{database}': {error}"
        ) from None
    translate_errors(storage.engine, str(database))
    # at the latest when the process ends
    weakref.finalize(storage, _close, storage.scoped_session, storage.engine)
    return storage


def _close(sessions: scoped_session[Session], engine: Engine) -> None:
    """SQLite folds its log into the file when the last connection is closed."""
    sessions.remove()
    engine.dispose()
