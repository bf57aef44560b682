"""Optuna's storage, as nas_attn uses it: in the same database, patient while that is away."""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session, scoped_session

from nas_attn.errors import StorageError
from nas_attn.storage.connection import optuna_engine_arguments
from nas_attn.storage.database import Database
from nas_attn.storage.driver_errors import explained, translate_errors
from nas_attn.storage.outages import Outage, repeatable
from nas_attn.storage.urls import sqlite_url

T = TypeVar("T")


class PatientStorage(RDBStorage):
    """Waits while the database is away, and repeats the calls that are listed in REPEATABLE."""

    def __init__(self, url: str, engine_kwargs: dict[str, Any], outage: Outage) -> None:
        self._outage = outage
        # Asked after a KeyError: the error of a study that somebody has deleted, or None.
        self.deleted: Callable[[], StorageError | None] = lambda: None
        super().__init__(url, engine_kwargs=engine_kwargs)

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


REPEATABLE: tuple[Callable[..., Any], ...] = (
    # If the answer is lost, a second trial is made or begun; the first is RUNNING, but no worker
    # has it. The search gives it up (`TrialBook.ask_again`).
    RDBStorage.create_new_trial,
    RDBStorage._create_new_trial,
    RDBStorage.set_trial_state_values,
    # Who makes a study takes one that is there (`load_if_exists`).
    RDBStorage.create_new_study,
    # These write what is already there.
    RDBStorage._set_trial_param,
    RDBStorage.set_study_system_attr,
    RDBStorage.set_study_user_attr,
    RDBStorage.set_trial_intermediate_value,
    RDBStorage.set_trial_param,
    RDBStorage.set_trial_system_attr,
    RDBStorage.set_trial_user_attr,
    # These only read.
    RDBStorage._get_best_trial_id,
    RDBStorage._get_trials,
    RDBStorage.get_all_studies,
    RDBStorage.get_all_trials,
    RDBStorage.get_best_trial,
    RDBStorage.get_n_trials,
    RDBStorage.get_study_directions,
    RDBStorage.get_study_id_from_name,
    RDBStorage.get_study_name_from_id,
    RDBStorage.get_study_system_attrs,
    RDBStorage.get_study_user_attrs,
    RDBStorage.get_trial,
    RDBStorage.get_trial_id_from_study_id_trial_number,
    RDBStorage.get_trial_number_from_id,
    RDBStorage.get_trial_param,
    RDBStorage.get_trial_params,
    RDBStorage.get_trial_system_attrs,
    RDBStorage.get_trial_user_attrs,
)
"""The calls of Optuna's storage that may be repeated. Its own cache calls the private ones."""

for _method in REPEATABLE:
    setattr(PatientStorage, _method.__name__, repeatable(_method))


def open_storage(database: Database) -> PatientStorage:
    """Optuna's part of a database; its tables are made if they are missing. Raises StorageError: it
    cannot be opened.
    """
    return database.outage.endure(lambda: _open(database), lambda: None)


def check_revision(revision: str, where: str) -> None:
    """Raises StorageError if Optuna cannot use a database, `where`, whose tables have this
    revision; tries it on an empty one.
    """
    with TemporaryDirectory(prefix="nas_attn-") as folder:
        file = Path(folder, "revision.db")
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32))")
            connection.execute("INSERT INTO alembic_version VALUES (?)", (revision,))
        try:
            storage = RDBStorage(sqlite_url(file))
        except RuntimeError as error:
            raise _unusable(where, error) from None
        storage.engine.dispose()


def _unusable(where: str, error: RuntimeError) -> StorageError:
    """`error`: Optuna's word for a schema of another version."""
    return StorageError(f"Optuna {optuna.__version__} cannot use the database '{where}': {error}")


def _open(database: Database) -> PatientStorage:
    address, arguments = optuna_engine_arguments(database.url)
    try:
        storage = PatientStorage(address, arguments, database.outage)
    except RuntimeError as error:
        raise _unusable(str(database), error) from None
    except (SQLAlchemyError, StorageInternalError) as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) else error
        if isinstance(cause, DBAPIError) and cause.orig is not None:
            raise explained(cause.orig, str(database)) from error
        raise StorageError(f"the database '{database}' cannot be opened: {error}") from None
    translate_errors(storage.engine, str(database))
    # at the latest when the process ends
    weakref.finalize(storage, _close, storage.scoped_session, storage.engine)
    return storage


def _close(sessions: scoped_session[Session], engine: Engine) -> None:
    """SQLite folds its log into the file when the last connection is closed."""
    sessions.remove()
    engine.dispose()
