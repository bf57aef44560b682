"""Each public call of the store is marked as repeatable, or takes care of itself."""

from __future__ import annotations

import inspect

import pytest
from optuna.storages import BaseStorage

from nas_attn.storage.database import Database
from nas_attn.storage.optuna_storage import PatientStorage
from nas_attn.storage.store import Documents, StudyStore
from nas_attn.storage.work import Leases, RunQueue, WorkerBook

OF_ITSELF = {
    # Its transaction is marked: the number tells one attempt from another.
    "delete_study",
    # What they read is read by calls that are marked.
    "studies",
    "held",
    "left",
    "measured_s",
    # They use no transaction of ours.
    "backup",
    "close",
    "creating",
    "is_local",
    "is_current",
    "fingerprint",
    "sites",
    "outage",
    "path",
}


@pytest.mark.parametrize("kind", [Database, StudyStore, Leases, Documents, RunQueue, WorkerBook])
def test_every_public_call_is_marked_or_takes_care_of_itself(kind: type) -> None:
    for name, member in vars(kind).items():
        method = member.fget if isinstance(member, property) else member
        if name.startswith("_") or not callable(method):
            continue
        marked = inspect.unwrap(method) is not method
        assert marked != (name in OF_ITSELF), f"{kind.__name__}.{name}"


def test_optunas_storage_repeats_all_that_it_is_asked() -> None:
    """What a newer Optuna adds is to be looked at, too."""
    members = inspect.getmembers(PatientStorage, inspect.isfunction)
    marked = {name for name, method in members if inspect.unwrap(method) is not method}
    asked = {
        name
        for name, member in vars(BaseStorage).items()
        if callable(member) and not name.startswith("_")
    }
    assert asked - marked == {"delete_study", "remove_session", "check_trial_is_updatable"}
