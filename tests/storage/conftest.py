"""A fresh database for each test: an SQLite file, and a PostgreSQL schema where a server can be
started.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import sqlalchemy
from command_line import nas  # noqa: F401
from table_study import table  # noqa: F401

from nas_attn.storage.database import Database
from nas_attn.storage.rows import Lease
from nas_attn.storage.store import StudyStore


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


PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
SETTINGS = """
[databases]
{database} = host=127.0.0.1 port={server_port} dbname={database}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = plain
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = 3
logfile = {folder}/log
"""


@pytest.fixture(scope="session")
def pgbouncer(postgres_url: str, open_folder: Path) -> Iterator[str]:
    """The URL of an empty database behind a PgBouncer that pools transactions, as many servers
    have.
    """
    if PGBOUNCER is None:
        pytest.skip("PgBouncer is not installed (Debian: apt-get install pgbouncer)")
    server, database = sqlalchemy.make_url(postgres_url), f"pooled_{uuid.uuid4().hex}"
    engine = sqlalchemy.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {database}")
    engine.dispose()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = open_folder / "pgbouncer"
    folder.mkdir()
    folder.chmod(0o777)  # PgBouncer runs as another user where root starts it
    (folder / "users").write_text(f'"{server.username}" "{server.password}"\n')
    settings = {"database": database, "server_port": server.port, "port": port, "folder": folder}
    (folder / "settings").write_text(SETTINGS.format(**settings))
    url = server.set(port=port, database=database).render_as_string(hide_password=False)
    user = "nobody" if os.getuid() == 0 else None
    with subprocess.Popen([PGBOUNCER, "-q", str(folder / "settings")], user=user) as process:
        try:
            _await_answer(process, port)
            yield url
        finally:
            process.terminate()


def _await_answer(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None, "PgBouncer has ended"
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        assert time.monotonic() < deadline, "PgBouncer does not answer"
        time.sleep(0.05)


@pytest.fixture(scope="session")
def shared_schema(postgres_url: str) -> Iterator[Database]:
    with Database(schema_in(postgres_url)) as database:
        yield database


@pytest.fixture
def own_schema(postgres_url: str) -> str:
    """The URL of a new schema on the private server."""
    return schema_in(postgres_url)


@pytest.fixture
def postgresql_url(request: pytest.FixtureRequest) -> str:
    """A PostgreSQL schema with the tables and no study; a new one if the test makes the tables."""
    if "database" not in request.fixturenames:
        return schema_in(request.getfixturevalue("postgres_url"))
    shared: Database = request.getfixturevalue("shared_schema")
    for study in shared.studies():
        shared.delete_study(study.name)
    return shared.url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """Of a fresh database, of each kind in turn."""
    return str(request.getfixturevalue(f"{request.param}_url"))


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
    taken = store.acquire("trial/1", owner="me")
    assert taken is not None
    return taken
