"""A fresh database for each test: an SQLite file, and a PostgreSQL schema where a server can be started."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy

from nas_attn.storage import Database, Lease, StudyStore


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'nas_attn.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "sqlite":
        return str(request.getfixturevalue("sqlite_url"))
    server = sqlalchemy.make_url(request.getfixturevalue("postgres_url"))
    # A schema of its own is as good as a database of its own, and cheaper.
    name = f"test_{uuid.uuid4().hex}"
    engine = sqlalchemy.create_engine(server)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {name}")
    engine.dispose()
    return server.set(query={"options": f"-csearch_path={name}"}).render_as_string(hide_password=False)


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    with Database(url) as database:
        yield database


@pytest.fixture
def store(database: Database) -> StudyStore:
    return database.create_study("digits", recipe='{"search": {"trials": 30}}', versions={"torch": "2.11"})


@pytest.fixture
def lease(store: StudyStore) -> Lease:
    lease = store.acquire("trial/1", owner="me", ttl_s=1000)
    assert lease is not None
    return lease
