from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
from sqlalchemy import create_engine, make_url

from nas_attn.errors import StorageAway, StorageError, StudyError
from nas_attn.storage.connection import engine_arguments
from nas_attn.storage.database import Database
from nas_attn.storage.store import StudyStore
from nas_attn.storage.urls import network_filesystem, shown_url, storage_url


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("nas_attn.db", "write sqlite:///nas_attn.db"),
        ("mysql://root@localhost/x", "no database of the two kinds"),
        ("postgresql+psycopg2://a@b/c", "no database of the two kinds"),
        ("postgres://a@b/c", "write sqlite:///FILE or postgresql"),
        ("postgres-ql://host/db", "is not a URL: write sqlite:///FILE or postgresql"),
        ("my-db://me:secret@host/db", "is not a URL: write sqlite:///FILE or postgresql"),
        ("post gres://host/db", "is not a URL: write sqlite:///FILE or postgresql"),
        ("postgresql://me:secret@host", "no database of the two kinds"),
        ("postgresql://me:secret@a..b/c", "is not a URL: write sqlite:///FILE or postgresql"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite:///file:x.db?uri=true", "names no file"),
        ("sqlite:///a?b.db", r"a \? in its name as %3F"),
        ("sqlite:////no/such/folder/x.db", "the folder '/no/such/folder' does not exist"),
        ("sqlite:////proc", "is a folder"),
        ("sqlite:///a\0b.db", "cannot be a file: .*embedded null"),
        (f"sqlite:///{'x' * 300}.db", "cannot be a file: File name too long"),
    ],
)
def test_an_unusable_url_is_refused_with_the_way_out(text: str, sentence: str) -> None:
    with pytest.raises(StudyError, match=sentence) as error:
        Database(text)
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://me:top@hidden@host/db",
        "postgresql://me:top:hidden@host/db",
        "postgresql://me:top/hidden@host/db",
        "postgresql://me:top?hidden@host/db",
        "postgresql://me:top#hidden@host/db",
        "postgresql://me:top@hidden/hidden:hidden@host:5432/db",
        "postgresql://me:top@hidden:hidden/hidden@host:5432/db",
        "postgresql://top@hidden:hidden@host/db",
        "postgresql://me:hidden/db",
    ],
)
def test_a_password_that_is_not_encoded_is_not_printed_and_the_way_out_is(text: str) -> None:
    with pytest.raises(StudyError, match="write @ as %40") as error:
        Database(text)
    for part in ("top", "hidden"):
        assert part not in str(error.value)
        assert part not in shown_url(text)
    assert "\n" not in str(error.value)


def test_an_encoded_password_reaches_the_driver_as_it_is() -> None:
    pytest.importorskip("psycopg", reason="psycopg is not installed (extra `postgres`)")
    url = storage_url("postgresql://me:p%40s%3As%2Fw@host:5/db")
    assert (url.password, url.host, url.database) == ("p@s:s/w", "host", "db")
    assert shown_url(url) == "postgresql+psycopg://me:***@host:5/db"


READER = "CREATE ROLE {name} LOGIN PASSWORD 'reads'"
RIGHTS = {
    "reader": ["GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {name}"],
    "careful": [
        "GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {name}",
        "ALTER ROLE {name} SET default_transaction_read_only = on",
    ],
}


@pytest.mark.parametrize("kind", RIGHTS)
def test_a_user_who_may_only_read_reads_and_is_told_that_he_may_not_write(
    own_schema: str, kind: str
) -> None:
    url = make_url(own_schema)
    name, schema = f"{kind}_{uuid.uuid4().hex[:8]}", str(url.query["options"]).partition("=")[2]
    orders = [READER, "GRANT USAGE ON SCHEMA {schema} TO {name}", *RIGHTS[kind]]
    with Database(url.render_as_string(hide_password=False)) as database:
        database.create_study("digits", recipe="{}", versions={})
    engine = create_engine(url)
    with engine.begin() as connection:
        for order in orders:
            connection.exec_driver_sql(order.format(name=name, schema=schema))
    engine.dispose()
    theirs = url.set(username=name, password="reads").render_as_string(hide_password=False)
    with Database(theirs) as database:
        store = database.study("digits")
        assert store.settings.trials == 0
        with pytest.raises(StorageError, match="it refuses this") as error:
            store.set(trials=1)
        assert not isinstance(error.value, StorageAway), "waiting would not help"
        assert "\n" not in str(error.value)


def test_a_value_that_the_driver_refuses_is_not_waited_for(
    own_schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAS_ATTN_STORAGE_WAIT", "0.5")
    with Database(own_schema) as database:
        with pytest.raises(StorageError, match="NUL") as error:
            database.study("dig\0its")
        assert not isinstance(error.value, StorageAway)


def test_a_plain_postgresql_url_means_psycopg() -> None:
    pytest.importorskip("psycopg", reason="psycopg is not installed (extra `postgres`)")
    found = storage_url("postgresql://a:b@c:5/d")
    assert found.render_as_string(hide_password=False) == "postgresql+psycopg://a:b@c:5/d"


def test_missing_psycopg_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StudyError, match=r"pip install '.+\[postgres\]'"):
        Database("postgresql://me@localhost/x")


def test_a_relative_url_stays_the_same_file_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Database("sqlite:///here.db") as database:
        (tmp_path / "sub").mkdir()
        monkeypatch.chdir(tmp_path / "sub")
        assert database.path == tmp_path / "here.db"
        assert storage_url(database.url) == make_url(database.url)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no users on this system")
def test_an_unwritable_folder_is_refused() -> None:
    base = Path(tempfile.mkdtemp())  # not tmp_path, whose parents only this user may enter
    base.chmod(0o755)
    folder = base / "locked"
    folder.mkdir(mode=0o555)
    program = """
import os, sys
from nas_attn.errors import StudyError
from nas_attn.storage.database import Database
if os.geteuid() == 0:
    os.setuid(65534)
try:
    Database(sys.argv[1])
except StudyError as error:
    print(error)
"""
    command = [sys.executable, "-c", program, f"sqlite:///{folder}/x.db"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    shutil.rmtree(base)
    assert "writable" in done.stdout, done.stderr


def mounted(monkeypatch: pytest.MonkeyPatch, *mounts: tuple[str, str, str]) -> None:
    """Mounts these (folder, file system, options), in this order."""
    found = [
        SimpleNamespace(mountpoint=point, fstype=kind, opts=options)
        for point, kind, options in mounts
    ]
    monkeypatch.setattr("psutil.disk_partitions", lambda all: found)


MOUNTS = (
    ("/", "ext4", "rw"),
    ("/home", "nfs4", "rw,vers=4.2"),
    ("/home/me/local disk", "xfs", "rw"),
    ("/mnt/ssh", "fuse.sshfs", "rw"),
    ("/mnt/share", "cifs", "rw"),
    ("/scratch", "lustre", "rw"),
    ("/mnt/c", "9p", "rw,aname=drvfs;path=C:\\"),
    ("/mnt/gofer", "9p", "rw"),
    ("/mnt/z", "NTFS", "rw,remote"),
    ("/scratch/ram", "tmpfs", "rw"),
)


def test_network_file_systems_are_told_by_the_deepest_mount(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mounted(monkeypatch, *MOUNTS)
    local = (
        "/var/x.db",
        "/homework/x.db",
        "/home/me/local disk/x.db",
        "/scratch/ram/x.db",
        "/mnt/gofer/x.db",
    )
    assert [network_filesystem(Path(path)) for path in local] == [None] * 5
    far = {
        "/home/me/x": "nfs4",
        "/mnt/ssh/a/b/x": "fuse.sshfs",
        "/mnt/share/x": "cifs",
        "/scratch/x": "lustre",
    }
    far |= {"/mnt/c/x": "9p", "/mnt/z/x": "NTFS"}
    assert {path: network_filesystem(Path(path)) for path in far} == far


def test_a_later_mount_hides_an_earlier_one_and_links_are_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted(monkeypatch, ("/a", "nfs", "rw"), ("/a", "ext4", "rw"))
    assert network_filesystem(Path("/a/x")) is None
    (tmp_path / "far").mkdir()
    (tmp_path / "near").symlink_to(tmp_path / "far")
    mounted(monkeypatch, ("/", "ext4", "rw"), (str(tmp_path / "far"), "nfs", "rw"))
    with pytest.raises(StudyError, match=r"network file system \(nfs\).*PostgreSQL"):
        Database(f"sqlite:///{tmp_path}/near/x.db")
    assert not (tmp_path / "far" / "x.db").exists()


@pytest.mark.parametrize("content", [b"hello, I am a text file" * 99, b"\x00" * 4096])
def test_a_file_that_is_no_database_is_refused_and_left_alone(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(StudyError, match="SQLite"):
        Database(f"sqlite:///{path}")
    assert path.read_bytes() == content


def test_a_damaged_database_is_one_sentence(sqlite_url: str) -> None:
    with Database(sqlite_url) as database:
        store = database.create_study("a", recipe="{}", versions={})
        for i in range(300):
            store.protocols.put(f"name {i}", "text" * 99)
        path = database.path
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(StorageError, match="backup"):
        Database(sqlite_url).study("a").protocols.get("name 1")


def test_a_missing_file_is_not_created_where_one_must_exist(
    sqlite_url: str, tmp_path: Path
) -> None:
    with pytest.raises(StudyError, match="no study database"):
        Database(sqlite_url, must_exist=True)
    assert list(tmp_path.iterdir()) == []


WORKER = Path(__file__).with_name("storage_worker.py")


@pytest.fixture
def here(sqlite_url: str) -> Iterator[Database]:
    with Database(sqlite_url) as database:
        yield database


@pytest.fixture
def filled(here: Database) -> StudyStore:
    store = here.create_study("digits", recipe="{}", versions={})
    store.set(published="text")
    return store


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "copies").mkdir()
    return tmp_path / "copies" / "copy.db"


def test_a_copy_taken_while_another_process_writes_is_whole(
    sqlite_url: str, here: Database, target: Path
) -> None:
    command = [sys.executable, str(WORKER), "write", sqlite_url]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        for _ in range(3):
            before = int(writer.stdout.readline())
            assert here.backup(target, overwrite=True) == target
            assert list(target.parent.iterdir()) == [target]
            with Database(f"sqlite:///{target}") as copy:
                keys = [row.key for row in copy.study("digits").candidates()]
                scored = {score.key for score in copy.study("digits").scores(with_correct=True)}
            assert len(scored) > before
            # Candidate and score are two transactions: the copy may lie between them.
            assert scored in ({*keys}, {*keys[:-1]})
    finally:
        writer.kill()
        writer.communicate()


def test_a_copy_holds_optunas_tables_too(here: Database, filled: StudyStore, target: Path) -> None:
    arguments = engine_arguments(make_url(here.url))
    study = optuna.create_study(
        study_name="digits", storage=optuna.storages.RDBStorage(here.url, engine_kwargs=arguments)
    )
    study.tell(study.ask(), 0.5)
    # A bare copy of the file would miss this: it is still in the log.
    here.backup(str(target))
    copied = optuna.load_study(study_name="digits", storage=f"sqlite:///{target}")
    assert [trial.value for trial in copied.trials] == [0.5]
    with Database(f"sqlite:///{target}") as copy:
        assert copy.study("digits").settings.published == "text"


def test_an_older_copy_is_replaced_only_when_told(
    here: Database, filled: StudyStore, target: Path
) -> None:
    here.backup(target)
    filled.set(published="newer")
    with pytest.raises(StudyError, match="force"):
        here.backup(target)
    with Database(f"sqlite:///{target}") as copy:
        assert copy.study("digits").settings.published == "text"
    here.backup(target, overwrite=True)
    with Database(f"sqlite:///{target}") as copy:
        assert copy.study("digits").settings.published == "newer"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nas_attn.db", "is a database in use"),
        ("link.db", "is a database in use"),
        ("notes.txt", "is another kind of file"),
        ("open.db", "is a database in use"),
        ("copies", "is a folder"),
        ("missing/copy.db", "cannot be written"),
    ],
)
def test_what_must_not_be_overwritten_is_left_alone(
    here: Database, filled: StudyStore, tmp_path: Path, target: Path, name: str, sentence: str
) -> None:
    (tmp_path / "notes.txt").write_text("my notes")
    (tmp_path / "link.db").symlink_to(tmp_path / "nas_attn.db")
    with Database(f"sqlite:///{tmp_path}/open.db") as other:
        other.create_study("other", recipe="{}", versions={})
        with pytest.raises(StudyError, match=sentence):
            here.backup(tmp_path / name, overwrite=True)
        assert [study.name for study in other.studies()] == ["other"]
    assert (tmp_path / "notes.txt").read_text() == "my notes"
    assert filled.settings.published == "text"


def test_a_damaged_database_gives_no_copy_and_keeps_the_last_one(
    here: Database, filled: StudyStore, target: Path
) -> None:
    for i in range(100):
        filled.protocols.put(f"name {i}", "text" * 99)
    here.backup(target)
    before = target.read_bytes()
    here.close()
    content = bytearray(here.path.read_bytes())
    content[-12_288:] = b"\xa5" * 12_288
    here.path.write_bytes(content)
    with pytest.raises(StorageError, match="damaged"):
        here.backup(target, overwrite=True)
    assert target.read_bytes() == before
    assert list(target.parent.iterdir()) == [target]


def test_postgresql_is_backed_up_by_its_own_means(postgres_url: str, target: Path) -> None:
    with Database(postgres_url) as database, pytest.raises(StudyError, match="pg_dump"):
        database.backup(target)
