from __future__ import annotations

import shutil
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
from nas_attn.records import Cost, Score
from nas_attn.storage import Database, Lease, optuna_engine_arguments, schema, tables

ASSETS = Path(__file__).parent / "assets"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copy(ASSETS / "schema_0001.db", tmp_path / "old.db"))


def version_in(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("SELECT version_num FROM nas_alembic_version").fetchone()[0])


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
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    revisions = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(revisions)) == schema.VERSIONS


def test_every_older_version_has_an_asset() -> None:
    assert [path.stem for path in sorted(ASSETS.glob("*.db"))] == [f"schema_{v}" for v in schema.VERSIONS[:-1]]


def test_an_older_database_is_upgraded_and_keeps_its_rows(old: Path) -> None:
    with Database(f"sqlite:///{old}") as database:
        store = database.study("digits")
        first, second = store.candidates()
        assert (store.recipe, store.versions) == ('{"search": {"trials": 2}}', {"torch": "2.11.0"})
        assert (store.fingerprint, store.created_at) == ("0123456789ab", 1790000000.5)
        assert (first.key, first.state, first.values, first.told) == ("k0", "scored", (0.91, 1.0), True)
        assert first.cost == Cost(75_000, 10_000_000, 200_000)
        assert (second.state, second.baseline, second.told) == ("running", None, False)
        score = Score(0, 0, 1, {"accuracy": 0.91, "loss": 0.31}, b"\xf7", 8, 1.5, 1.25)
        assert [found.score for found in store.scores(with_correct=True)] == [score]
        assert store.sessions()[0].samples[0].calls == 40
        assert store.checkpoints("k1/0")[0].size == 1000
        assert store.leases()[0].number == 2
        store.put("note", "new table")
        assert store.test_readings() == []
    assert version_in(old) == schema.VERSIONS[-1]


def test_a_lease_of_an_older_version_is_held_and_renewed(tmp_path: Path) -> None:
    """It does not say how long it lasts."""
    path = Path(shutil.copy(ASSETS / "schema_0003.db", tmp_path / "old.db"))
    with Database(f"sqlite:///{path}") as database:
        store = database.study("digits")
        (row,) = (row for row in store.leases() if row.resource == "run/1")
        assert (row.owner, row.state) == ("a", "held")
        assert store.acquire("run/1", owner="b", ttl_s=60.0) is None
        lease = Lease("run/1", "a", row.number, 60.0, row.expires_at)
        assert store.renew(lease).expires_at > row.expires_at


def test_a_failed_upgrade_changes_nothing(old: Path) -> None:
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("CREATE TABLE nas_test_reading (mine)")
        connection.commit()
    with pytest.raises(StorageError, match="nas_test_reading already exists"):
        Database(f"sqlite:///{old}")
    assert version_in(old) == "0001"
    with closing(sqlite3.connect(old)) as connection:
        tables_there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        assert "nas_attribute" not in tables_there
        connection.execute("DROP TABLE nas_test_reading")
        connection.commit()
    with Database(f"sqlite:///{old}") as database:
        assert len(database.study("digits").candidates()) == 2


def test_a_newer_database_is_refused_and_left_alone(url: str) -> None:
    with Database(url) as database:
        database.create_study("a", recipe="{}", versions={})
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE nas_alembic_version SET version_num = '0999'")
    with pytest.raises(StorageError, match=r"newer nas_attn \(schema 0999.*upgrade nas_attn"):
        Database(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE nas_alembic_version SET version_num = '{schema.VERSIONS[-1]}'")
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
