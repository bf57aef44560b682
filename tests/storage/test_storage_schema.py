from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import optuna
import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from nas_attn.errors import StorageError
from nas_attn.storage import Database, optuna_engine_arguments, tables


def test_the_migrations_end_where_the_tables_are(database: Database) -> None:
    engine = sqlalchemy.create_engine(database.url)
    options = {
        "version_table": tables.VERSION_TABLE,
        "compare_server_default": True,
        "include_name": lambda name, kind, parents: kind != "table" or name.startswith(tables.PREFIX),
    }
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts=options), tables.metadata) == []
    engine.dispose()


def test_the_known_versions_are_the_revisions() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(tables.__file__).parent / "migrations"))
    revisions = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(revisions)) == tables.VERSIONS


def test_tables_that_cannot_be_made_leave_the_database_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "others.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE nas_worker (mine)")
    with pytest.raises(StorageError, match="nas_worker already exists"):
        Database(f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as connection:
        assert [name for (name,) in connection.execute("SELECT name FROM sqlite_master")] == ["nas_worker"]
        connection.execute("DROP TABLE nas_worker")
    with Database(f"sqlite:///{path}") as database:
        assert database.studies() == []


def test_a_newer_database_is_refused_and_left_alone(url: str) -> None:
    with Database(url) as database:
        database.create_study("a", recipe="{}", versions={})
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE nas_alembic_version SET version_num = '0999'")
    with pytest.raises(StorageError, match=r"newer nas_attn \(schema 0999.*upgrade nas_attn"):
        Database(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE nas_alembic_version SET version_num = '{tables.VERSIONS[-1]}'")
    engine.dispose()
    with Database(url) as database:
        assert [study.name for study in database.studies()] == ["a"]


def test_our_tables_come_into_a_database_that_optuna_made(url: str) -> None:
    plain = optuna.storages.RDBStorage(url)
    optuna.create_study(study_name="theirs", storage=plain)
    plain.remove_session()
    plain.engine.dispose()
    with Database(url) as database:
        database.create_study("ours", recipe="{}", versions={})
    address, arguments = optuna_engine_arguments(url)
    storage = optuna.storages.RDBStorage(address, engine_kwargs=arguments)
    assert optuna.get_all_study_names(storage) == ["theirs"]
    optuna.delete_study(study_name="theirs", storage=storage)
    assert optuna.get_all_study_names(storage) == []
    storage.remove_session()
    storage.engine.dispose()


def test_no_foreign_key_leads_out_of_our_tables(database: Database) -> None:
    engine = sqlalchemy.create_engine(database.url)
    inspector = sqlalchemy.inspect(engine)
    names = inspector.get_table_names()
    assert names
    assert all(name.startswith(tables.PREFIX) for name in names)
    assert all(inspector.get_foreign_keys(name) == [] for name in names)
    engine.dispose()
