"""Optuna's storage in our database: the same settings, the same sentences, and the same patience where it is away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import TrialState
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from nas_attn.errors import StorageError
from nas_attn.storage import Database, explained, optuna_engine_arguments, translate_errors

_BEHIND_THE_CACHE = ("_create_new_trial", "_set_trial_param", "_get_trials", "_get_best_trial_id")
"""What Optuna's cache calls of the storage beside the storage's own interface."""


class EnduringStorage(RDBStorage):
    """Waits for a database that is away, as ours do: each call is a transaction, which is repeated.

    A trial that was made or taken without our hearing of it is RUNNING and nobody's: the next turn puts it in order.
    """

    def __init__(self, database: Database) -> None:
        self._outage = database.outage
        address, arguments = optuna_engine_arguments(database.url)
        super().__init__(address, engine_kwargs=arguments)
        translate_errors(self.engine, str(database))

    def endure(self, work: Callable[[], Any]) -> Any:
        return self._outage.endure(work, self.engine.dispose)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """As Optuna's; a trial that an earlier attempt has finished so is finished."""
        attempts = 0

        def once() -> bool:
            nonlocal attempts
            attempts += 1
            try:
                return bool(RDBStorage.set_trial_state_values(self, trial_id, state, values))
            except UpdateFinishedTrialError:
                if attempts > 1 and self.get_trial(trial_id).state == state:
                    return True
                raise

        return bool(self.endure(once))


def _enduring(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(self: EnduringStorage, *arguments: Any, **named: Any) -> Any:
        return self.endure(lambda: method(self, *arguments, **named))

    return call


for _name in (*sorted(BaseStorage.__abstractmethods__), *_BEHIND_THE_CACHE):
    if _name not in vars(EnduringStorage):
        setattr(EnduringStorage, _name, _enduring(getattr(RDBStorage, _name)))


def open_storage(database: Database) -> EnduringStorage:
    """Raises:
    StorageError: the database cannot be opened, or is one of another Optuna.
    """
    return database.outage.endure(lambda: _opened(database), lambda: None)


def _opened(database: Database) -> EnduringStorage:
    try:
        return EnduringStorage(database)
    except RuntimeError as error:  # Optuna's word for a schema of another version
        raise StorageError(f"Optuna {optuna.__version__} cannot use the database '{database}': {error}") from None
    except (SQLAlchemyError, StorageInternalError) as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) else error
        if isinstance(cause, DBAPIError) and cause.orig is not None:
            raise explained(cause.orig, str(database)) from error
        raise StorageError(f"the database '{database}' cannot be opened: {error}") from None
