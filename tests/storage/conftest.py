"""A fresh database for each test: an SQLite file, and a PostgreSQL schema where a server can be
started.
"""

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


def schema_in(server_url: str) -> str:
    """A schema of its own is as good as a database of its own, and cheaper."""
    server, name = sqlalchemy.make_url(server_url), f"test_{uuid.uuid4().hex}"
    engine = sqlalchemy.create_engine(server)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {name}")
    engine.dispose()
    return server.set(query={"options": f"-csearch_path={name}"}).render_as_string(
        hide_password=False
    )


@pytest.fixture(scope="session")
def shared_schema(postgres_url: str) -> Iterator[Database]:
    with Database(schema_in(postgres_url)) as database:
        yield database


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "sqlite":
        return str(request.getfixturevalue("sqlite_url"))
    if "database" not in request.fixturenames:  # the test makes the tables
        return schema_in(request.getfixturevalue("postgres_url"))
    shared: Database = request.getfixturevalue("shared_schema")
    for study in shared.studies():
        shared.delete_study(study.name)
    return shared.url


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    with Database(url) as database:
        yield database


@pytest.fixture
def store(database: Database) -> StudyStore:
    return database.create_study(
        "digits", recipe='{"search": {"trials": 30}}', versions={"torch": "2.11"}
    )


@pytest.fixture
def lease(store: StudyStore) -> Lease:
    taken = store.acquire("trial/1", owner="me", ttl_s=1000)
    assert taken is not None
    return taken
