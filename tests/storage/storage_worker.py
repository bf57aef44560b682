"""A process of its own for the tests: `python storage_worker.py TASK URL …`."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable

from sqlalchemy import make_url

from nas_attn.attention.choice import Choice
from nas_attn.errors import StorageError
from nas_attn.space.placement import BARE, Assignment, Placement
from nas_attn.storage.connection import engine_arguments
from nas_attn.storage.database import Database
from nas_attn.storage.records import Score
from nas_attn.storage.rows import Run

PARAMETERS = 12


def search(url: str, trials: str) -> None:
    """Open a database that may not exist yet, as a worker does, and run trials with Optuna's tables
    and ours.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with Database(url) as database:
        arguments = engine_arguments(make_url(url))
        with database.creating():
            storage = optuna.storages.RDBStorage(url, engine_kwargs=arguments)
            study = optuna.create_study(study_name="digits", storage=storage, load_if_exists=True)
            store = database.create_study("digits", recipe="{}", versions={})
        for _ in range(int(trials)):
            trial = study.ask()
            choices = [
                trial.suggest_categorical(f"stage{i}", ["none", "se", "ela"])
                for i in range(PARAMETERS)
            ]
            lease = store.acquire(f"trial/{trial.number}", owner=str(os.getpid()))
            key = f"key{trial.number}"
            placement = Placement(
                tuple(Assignment(f"stage{i}", Choice(choice)) for i, choice in enumerate(choices))
            )
            store.claim(key, placement=placement, trial=trial.number, baseline=None, lease=lease)
            store.add_score(
                Run(key, BARE, 0),
                Score(0, 0, 1, {"accuracy": 0.5}, b"x" * 1250, 10_000),
                lease=lease,
            )
            trial.set_user_attr("placement", str(placement))
            assert store.end_candidate(key, state="scored", reason="", lease=lease)
            study.tell(trial, 0.5)
            store.release(lease)
        storage.scoped_session.remove()
        storage.engine.dispose()


def write(url: str) -> None:
    """Write candidates with their scores until killed; print each number once it is in the
    database.
    """
    with Database(url) as database:
        store = database.create_study("digits", recipe="{}", versions={})
        lease = store.acquire("trial/1", owner="killed")
        for number in itertools.count():
            store.claim(f"key{number}", placement=BARE, trial=number, baseline=None, lease=lease)
            store.add_score(
                Run(f"key{number}", BARE, 0),
                Score(0, 0, 1, {}, os.urandom(5000), 40_000),
                lease=lease,
            )
            print(number, flush=True)


def fill(url: str, size: str) -> None:
    """Write as `write` does, on a disk that takes files of so many bytes; ends with the error."""
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), int(size)))
    try:
        write(url)
    except StorageError as error:
        print(error)


if __name__ == "__main__":
    tasks: dict[str, Callable[..., None]] = {"search": search, "write": write, "fill": fill}
    tasks[sys.argv[1]](*sys.argv[2:])
