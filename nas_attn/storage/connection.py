"""Connections to a study database: their URLs, SQLite's settings for many processes, transactions,
outages, errors as sentences.

Settings, without which SQLite fails in 2 of 5 runs of 8 processes: write-ahead log (kept in the
file), `synchronous = NORMAL` and a busy timeout of 60 s (per connection). A power cut may lose the
last transactions, a killed process none; the file is not damaged.

An outage is a database that is away for a while: a lost connection, a restart, too many
connections, a full or locked file. Inside `waiting.reporting(…, storage_s=…)`, methods that are
marked `@repeatable` wait for its end, and are called again. A connection may be cut after the
database has committed and before it has confirmed this. So what is marked must have the same effect
if it is done twice.

PostgreSQL may stand behind a PgBouncer that pools transactions. So nothing here outlives its
transaction: no prepared statement, no session's lock or setting, no LISTEN.
"""

from __future__ import annotations

import os
import random
import re
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import URL, ExceptionContext, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import Pool

from nas_attn.errors import (
    NasAttnError,
    StorageAway,
    StorageError,
    StudyError,
    first_line,
    shorten,
    without_passwords,
)
from nas_attn.paths import user_path
from nas_attn.storage.log_file import LogFile, gone
from nas_attn.waiting import TICK_S, Interrupted, Waits, impatient, waits

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

T = TypeVar("T")
P = ParamSpec("P")
Owner = TypeVar("Owner")

# first and longest pause between attempts, each varied at random by a third
FIRST_S = 0.1
LONGEST_S = 10.0
# shorter outages are not reported: a cut connection is opened again at once
QUIET_S = 2.0
# seconds to wait after a request to stop, so that results can still be written
STOPPING_S = 5.0


class Outage:
    """Whether a database is away, for all its users in this process. It is over when nobody waits
    any more: reading may work while writing does not.
    """

    def __init__(self, where: str) -> None:
        """`where`: names the database, without its password."""
        self._where = where
        self._mutex = threading.Lock()
        self._waiting = 0
        # when the first wait began, by time.monotonic()
        self._since = 0.0
        self._said = False
        # time of the last wait, or of the last failure
        self._away_at: float | None = None
        # `.work`: whether this thread is in `endure`
        self._inside = threading.local()

    def just_over(self, seconds: float) -> bool:
        """Whether the database was away within the last `seconds`: other processes may not have
        given a sign of life since.
        """
        return self._away_at is not None and time.monotonic() - self._away_at < seconds

    def endure(self, work: Callable[[], T], renew: Callable[[], None]) -> T:
        """Repeats `work` until it succeeds, with `renew` before each further attempt; inside
        another `endure`, that one repeats. Raises StorageAway, Interrupted: it gave up.
        """
        if getattr(self._inside, "work", False):
            return work()
        self._inside.work = True
        try:
            try:
                return work()
            except StorageAway:
                self._away_at = time.monotonic()
                if waits().storage_s <= 0:
                    raise
            with self._awaited():
                return self._repeat(work, renew)
        finally:
            self._inside.work = False

    def _repeat(self, work: Callable[[], T], renew: Callable[[], None]) -> T:
        common = waits()
        began = time.monotonic()
        pause = FIRST_S
        stopping_at = None
        while True:
            if common.stop() and stopping_at is None:
                stopping_at = time.monotonic()
            _sleep(pause * random.uniform(0.67, 1.33), common)
            pause = min(2 * pause, LONGEST_S)
            renew()
            try:
                return work()
            except StorageAway as error:
                self._away_at = now = time.monotonic()
                if stopping_at is not None and now - stopping_at > STOPPING_S:
                    raise Interrupted from error
                if now - began > common.storage_s:
                    after = (
                        f"gave up after {shown_s(common.storage_s)} (change it with"
                        " NAS_ATTN_STORAGE_WAIT)"
                    )
                    raise StorageAway(f"{error}; {after}") from error
                self._tell(common, str(error))

    @contextmanager
    def _awaited(self) -> Iterator[None]:
        """Counts a waiting caller; when the last one has succeeded, the database is back."""
        with self._mutex:
            self._since = self._since if self._waiting else time.monotonic()
            self._waiting += 1
        back = False
        try:
            yield
            back = True
        finally:
            with self._mutex:
                self._waiting -= 1
                over = self._waiting == 0
                since = self._since
                self._away_at = time.monotonic()
                said = self._said
                self._said = self._said and not over
            if back and over and said:
                waits().report_end(
                    f"the database is back after {shown_s(time.monotonic() - since)}:"
                    f" '{self._where}'"
                )

    def _tell(self, common: Waits, reason: str) -> None:
        with self._mutex:
            if self._said or time.monotonic() - self._since < QUIET_S:
                return
            self._said = True
        # reporting itself must not wait
        with impatient():
            common.report(
                f"waiting for the database, for up to {shown_s(common.storage_s)}: {reason}"
            )


def _sleep(seconds: float, common: Waits) -> None:
    """Pauses without a message. After a request to stop, it tries again at once, then each
    second.
    """
    if common.stop():
        time.sleep(min(seconds, 1.0))
        return
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not common.stop():
        time.sleep(min(left, TICK_S))


class Enduring(Protocol):
    """Repeats work while a database is away: a `Connector`, or Optuna's storage."""

    def endure(self, work: Callable[[], T]) -> T: ...


class _Connected(Protocol):
    @property
    def _connector(self) -> Enduring: ...


def repeatable(
    method: Callable[Concatenate[Owner, P], T],
) -> Callable[Concatenate[Owner, P], T]:
    """Marks a method that has the same effect if it is done again: it waits while the database is
    away, and is then called again. Its first call may have been committed, with the answer lost. A
    method of a class with a `_connector` that is not marked is no single transaction, or takes care
    of itself; it says how.
    """

    @wraps(method)
    def call(self: Owner, /, *given: P.args, **named: P.kwargs) -> T:
        return cast(_Connected, self)._connector.endure(lambda: method(self, *given, **named))

    return call


def shown_s(seconds: float) -> str:
    """`40 s`, `30 min`."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


NETWORKS = frozenset(
    [
        "afs",
        "afs3",
        "beegfs",
        "ceph",
        "cephfs",
        "cifs",
        "coda",
        "davfs",
        "fhgfs",
        "gcsfuse",
        "gfs2",
        "glusterfs",
        "gpfs",
        "juicefs",
        "lustre",
        "moosefs",
        "ncpfs",
        "nfs",
        "nfs4",
        "ocfs2",
        "orangefs",
        "panfs",
        "pvfs2",
        "rclone",
        "s3fs",
        "smb",
        "smb2",
        "smb3",
        "smbfs",
        "sshfs",
    ]
)
"""Network file systems, also after `fuse.`. SQLite's log must not be there: its index is shared
memory.
"""
FORMS = "write sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"


def shown_url(url: str | URL) -> str:
    """A storage URL for printing, without its password. If it cannot be told where the password
    ends, nothing of it is shown but the kind of database.
    """
    text = url if isinstance(url, str) else url.render_as_string(hide_password=False)
    scheme, separator, rest = text.partition("://")
    if not separator:
        return "***" if "@" in text else without_passwords(text)
    if scheme.startswith("sqlite"):
        return without_passwords(text)
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return f"{scheme}://***"
    if _not_encoded(rest):
        return f"{scheme}://***"
    return without_passwords(parsed.render_as_string(hide_password=True))


def _not_encoded(rest: str) -> bool:
    """Whether a URL's part behind `://` has letters in its password or user that end these."""
    before_host, host, _ = rest.rpartition("@")
    return bool(host) and (before_host.count(":") > 1 or bool(re.search(r"[@/?#]", before_host)))


ENCODING = (
    "inside the user, the password or a setting, write @ as %40, : as %3A, / as %2F, ? as %3F and"
    " # as %23"
)


def storage_url(text: str) -> URL:
    """The URL with an absolute path for SQLite and psycopg for PostgreSQL; StudyError if it cannot
    be used.
    """
    shown = shorten(shown_url(text))
    scheme, separator, rest = text.partition("://")
    if separator and not scheme.startswith("sqlite") and _not_encoded(rest):
        raise StudyError(f"storage '{shown}' is not a URL: {ENCODING}")
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        hint = ""
        if separator:
            hint = f"; {ENCODING}"
        elif "@" not in text:
            hint = f"; for a file write sqlite:///{shown}"
        raise StudyError(f"storage '{shown}' is not a URL: {FORMS}{hint}") from None
    if url.drivername in ("sqlite", "sqlite+pysqlite"):
        return _sqlite_url(text, url, shown)
    if url.drivername not in ("postgresql", "postgresql+psycopg"):
        raise StudyError(
            f"storage '{shown}': '{shorten(url.drivername)}' is not supported: {FORMS}"
        )
    if not _could_be_a_host(url.host or ""):
        raise StudyError(
            f"storage '{shown}': '{shorten(str(url.host))}' cannot be the name of a host: {FORMS}"
        )
    if not url.database:
        raise StudyError(f"storage '{shown}' names no database: {FORMS}")
    if find_spec("psycopg") is None:
        raise StudyError(f"storage '{shown}' needs psycopg: pip install 'nas-attn[postgres]'")
    return url.set(drivername="postgresql+psycopg")


def _could_be_a_host(name: str) -> bool:
    """Whether a resolver accepts the name; for others the driver raises UnicodeError."""
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return not re.search(r"[\s\[\]]", name)


def sqlite_url(file: Path) -> str:
    """The URL of a file, whatever letters its name has."""
    return URL.create("sqlite", database=str(file)).render_as_string()


def _sqlite_url(text: str, url: URL, shown: str) -> URL:
    if not url.database or url.database == ":memory:":
        raise StudyError(
            f"storage '{shown}' would be in one process's memory: give a file,"
            " sqlite:///nas_attn.db"
        )
    if url.host or url.query or url.database.startswith("file:") or "?" in text:
        raise StudyError(
            f"storage '{shown}' is more than a file path: write sqlite:///FILE"
            " (sqlite:////ABSOLUTE/FILE), and a ? in its name as %3F"
        )
    path = user_path(
        url.database, what=f"storage '{shown}'", error=StudyError, home=False
    ).absolute()
    _check_file(path, shown)
    return URL.create("sqlite", database=str(path))


def _check_file(path: Path, shown: str) -> None:
    folder = path.parent
    # unlike Path.is_dir, False if a folder above cannot be entered
    if os.path.isdir(path):
        raise StudyError(
            f"storage '{shown}' is a folder: name a file in it, sqlite:///{path / 'nas_attn.db'}"
        )
    if not os.path.isdir(folder):
        raise StudyError(
            f"storage '{shown}': the folder '{folder}' does not exist or cannot be entered:"
            " create it"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StudyError(
            f"storage '{shown}': the folder '{folder}' is not writable: choose another storage"
        )
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        raise StudyError(f"storage '{shown}': the file is not readable and writable for this user")
    kind = network_filesystem(path)
    if kind is not None:
        why = "where SQLite's locks and shared memory do not work and studies get damaged"
        way_out = "use a local disk, or PostgreSQL for several machines"
        raise StudyError(
            f"storage '{shown}' is on a network file system ({kind}), {why}: {way_out}"
        )


def network_filesystem(path: Path) -> str | None:
    """The kind of network file system of a path, after following links; None if it is local or
    unknown.
    """
    import psutil

    real = path.resolve()
    kind = ""
    depth = -1
    for mount in psutil.disk_partitions(all=True):
        point = Path(mount.mountpoint)
        # A later mount on the same point hides the earlier one.
        if real.is_relative_to(point) and len(point.parts) >= depth:
            kind = mount.fstype
            depth = len(point.parts)
            # a Windows drive seen from WSL
            if "aname=drvfs" in mount.opts:
                kind = "drvfs"
            # Windows' name for it
            if "remote" in mount.opts.split(","):
                kind = "cifs"
    return kind if kind == "drvfs" or kind.removeprefix("fuse.") in NETWORKS else None


BUSY_TIMEOUT_S = 60
# for a PostgreSQL server to answer; `?connect_timeout=` in the URL overrides it
CONNECT_TIMEOUT_S = 15


def insert(connection: sa.Connection, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
    """An insert with `on_conflict`, which each dialect has in its own class."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table)


class TunedConnection(sqlite3.Connection):
    """An SQLite connection with its settings. As `factory` it survives pickling, unlike an event
    listener. StorageError in a process forked from one that uses SQLite: the library would wait
    forever, or remove the parent's log.
    """

    _process: int | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if TunedConnection._process not in (None, os.getpid()):
            what = (
                "an SQLite study database cannot be used in a process forked from one that uses it"
            )
            raise StorageError(
                f"{what}: start the process by multiprocessing's 'spawn', or as a command"
            )
        TunedConnection._process = os.getpid()
        super().__init__(*args, **kwargs)
        self.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}").close()
        self.execute("PRAGMA synchronous = NORMAL").close()


def engine_arguments(url: URL) -> dict[str, Any]:
    """Keyword arguments for `sqlalchemy.create_engine`."""
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"factory": TunedConnection, "timeout": BUSY_TIMEOUT_S}}
    # Behind a PgBouncer that pools transactions, the next transaction may have another server's
    # connection, in which nothing is prepared.
    driver: dict[str, Any] = {"prepare_threshold": None}
    if "connect_timeout" not in url.query:
        driver["connect_timeout"] = CONNECT_TIMEOUT_S
    return {"pool_pre_ping": True, "connect_args": driver}


def optuna_engine_arguments(url: str) -> tuple[str, dict[str, Any]]:
    """URL and `engine_kwargs` for Optuna's `RDBStorage`; open it with `Database` first. Raises
    StudyError: bad URL.
    """
    parsed = storage_url(url)
    return parsed.render_as_string(hide_password=False), engine_arguments(parsed)


class Connector:
    """Transactions on one database, for several threads; a forked child reconnects; to SQLite, that
    is an error.
    """

    def __init__(self, url: URL) -> None:
        self.url = url
        self.is_sqlite = url.get_backend_name() == "sqlite"
        arguments = engine_arguments(url)
        if self.is_sqlite:
            # The driver must not begin transactions by itself: see _begin.
            arguments["connect_args"]["isolation_level"] = None
        try:
            self.engine: sa.Engine = sa.create_engine(url, **arguments)
        except ImportError as error:
            raise StudyError(
                f"storage '{self}' cannot be used: {error}: pip install 'nas-attn[postgres]'"
            ) from None
        if self.is_sqlite:
            sa.event.listen(self.engine, "begin", _begin)
        # (study, resource) -> (number, expires_at, since when this process has seen it so)
        self.seen_leases: dict[tuple[int, str], tuple[int, float, float]] = {}
        self.outage = Outage(str(self))
        self._writing = self.engine.execution_options(nas_attn_write=True)
        # device and inode of the SQLite file, as first seen
        self._file: tuple[int, int] | None = None
        self._log: LogFile | None = None
        if self.is_sqlite:
            self._log = LogFile(Path(str(url.database)))
            self._log.watch(self.engine)
        _connectors.add(self)
        weakref.finalize(self, self.engine.dispose)

    def __str__(self) -> str:
        return shown_url(self.url)

    def endure(self, work: Callable[[], T]) -> T:
        """Does `work`, which must be repeatable; waits while the database is away, and then repeats
        it.
        """
        # Connections to a server that has become a standby still answer, but cannot write.
        return self.outage.endure(work, self.engine.dispose)

    @property
    def clock(self) -> sa.ColumnElement[float]:
        """The database's clock in Unix seconds, as an SQL expression. For SQLite it is this
        machine's clock.
        """
        if self.is_sqlite:
            return sa.literal_column("((julianday('now') - 2440587.5) * 86400.0)", sa.Double)
        return sa.cast(sa.func.extract("epoch", sa.func.clock_timestamp()), sa.Double)

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A transaction that reads one state; StorageError if the database fails, or holds values
        that nas_attn never writes.
        """
        self._check_in_place()
        try:
            with self.errors(writing=False), self.engine.connect() as connection:
                yield connection
                self._remember_log()
        except NasAttnError:
            raise
        except (
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            RecursionError,
        ) as error:
            # a row that cannot be read
            what = (
                "holds a row that cannot be read"
                f" ({shorten(f'{type(error).__name__}: {error}', 120)})"
            )
            raise StorageError(
                f"storage '{self}' {what}: restore the database from a backup"
            ) from error

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction that writes: all of it, or on an exception nothing."""
        self._check_in_place()
        with self.errors(), self._writing.begin() as connection:
            yield connection
            self._remember_log()

    def _remember_log(self) -> None:
        if self._log is not None:
            self._log.remember()

    def _check_in_place(self) -> None:
        """Raises StorageError if the SQLite file or its log was removed: open connections would go
        on, and all their writes be lost.
        """
        if self._log is None:
            return
        self._log.check(str(self))
        here = None
        try:
            found = os.stat(str(self.url.database))
            here = (found.st_dev, found.st_ino)
        except FileNotFoundError:
            pass
        except OSError:
            # opening it reports the reason
            return
        if self._file in (None, here):
            # None: it does not exist yet
            self._file = here
            return
        what = f"storage '{self}': the file was removed, moved or replaced while it was in use"
        raise StorageError(f"{what}: put it back, or its last backup, then resume")

    @contextmanager
    def errors(self, *, writing: bool = True) -> Iterator[None]:
        """Inside, the driver's errors become ours."""
        try:
            yield
        except DBAPIError as error:
            original = error.orig or error
            raise explained(original, str(self), writing=writing, engine=self.engine) from error
        except SQLAlchemyError as error:
            raise StorageError(f"storage '{self}': {error}") from error


def _begin(connection: sa.Connection) -> None:
    """Writers take SQLite's write lock at once: after a read, taking it fails without a wait if
    another process wrote meanwhile.
    """
    writing = connection.get_execution_options().get("nas_attn_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


# errors that may pass
_PASSING = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL", "SQLITE_IOERR")
_SENTENCES = {
    "SQLITE_CORRUPT": (
        "the file is damaged: put the last `nas-attn backup` in its place or try `sqlite3 FILE"
        " .recover`"
    ),
    "SQLITE_BUSY": "another program keeps the file locked: close it, then resume",
    "SQLITE_LOCKED": "another program keeps the file locked: close it, then resume",
    "SQLITE_FULL": "the disk is full: make room, then resume",
    "SQLITE_READONLY": "the file cannot be written: check its permissions and those of its folder",
    "SQLITE_CANTOPEN": "the file cannot be opened: check its permissions and those of its folder",
    "SQLITE_IOERR": "reading or writing the disk failed: check the disk and its free space",
}


def explained(
    original: BaseException, where: str, *, writing: bool = True, engine: sa.Engine | None = None
) -> StorageError | StudyError:
    """A database driver's error as one sentence with the way out. `writing`: whether it came of an
    attempt to write; `engine`: leads to the same server.
    """
    lines = without_passwords(str(original)).strip().splitlines() or [type(original).__name__]
    if _tables_gone(original):
        what = f"storage '{where}' has lost its tables ({lines[0]}): it was emptied or replaced"
        return StorageError(f"{what}, so put it back, or its last backup, then resume")
    if _column_gone(original):
        what = f"storage '{where}' was written by another version of nas_attn ({lines[0]})"
        return StorageError(f"{what}: read it with that version, or name another database")
    name: str | None = getattr(original, "sqlite_errorname", None)
    if name is not None:
        return _explained_by_sqlite(name, original, where)
    state: str | None = getattr(original, "sqlstate", None)
    if state == _NO_RIGHT or (state == _READ_ONLY and engine and not _is_standby(engine)):
        act = "write" if writing else "read"
        what = f"storage '{where}': its user may not {act} there ({lines[0]})"
        return StorageError(f"{what}: name a user that may, or another storage")
    refused = next((line.strip() for line in lines if _REFUSED.search(line)), None)
    if refused is not None:
        about_encryption = _ENCRYPTION.search(refused)
        check = "certificates and sslmode" if about_encryption else "user, password, host, database"
        return StorageError(f"storage '{where}' cannot be opened: {refused}: check {check}")
    return _explained_by_server(state, lines[0], where)


def _explained_by_sqlite(
    name: str, original: BaseException, where: str
) -> StorageError | StudyError:
    """`name`: SQLite's own of the error."""
    if name == "SQLITE_NOTADB":
        return StudyError(f"storage '{where}' is not an SQLite database: name another file")
    if name == "SQLITE_IOERR_SHORT_READ":
        # The log is shorter than what the programs that use it know of it.
        return StorageError(gone(where, f"{where.rpartition('/')[2]}-wal"))
    kind = StorageAway if name.startswith(_PASSING) else StorageError
    for prefix, sentence in _SENTENCES.items():
        if name.startswith(prefix):
            return kind(f"storage '{where}': {sentence} (SQLite says: {original})")
    return StorageError(f"storage '{where}': {first_line(original)}")


def _explained_by_server(state: str | None, message: str, where: str) -> StorageError:
    """`state`: PostgreSQL's code of the error; None if its server did not answer."""
    if state == _DISK_FULL:
        return StorageAway(
            f"storage '{where}': the server's disk is full: make room, then resume ({message})"
        )
    if state is not None and state.startswith(_OVERRUN):
        return StorageAway(f"storage '{where}': {message}")
    if state is not None and not state.startswith(_NO_SERVER):
        return StorageError(f"storage '{where}': {message}")
    # Perhaps the host's name is right, and its service has not started yet.
    check = ": check the host's name" if _UNRESOLVED.search(message) else ""
    return StorageAway(
        f"storage '{where}' does not answer: {message}{check}; when it is back, resume"
    )


def _is_standby(engine: sa.Engine) -> bool:
    """Whether the server only follows another one, which may pass; also if it does not say."""
    try:
        with engine.connect() as connection:
            return bool(connection.scalar(sa.text("SELECT pg_is_in_recovery()")))
    except (SQLAlchemyError, NasAttnError):
        return True


def translate_errors(engine: sa.Engine, where: str) -> None:
    """Makes another library's engine raise our errors for a database that is full, gone or broken;
    not for others.
    """

    def translate(context: ExceptionContext) -> None:
        original = context.original_exception
        if not context.is_pre_ping and _lasting(original):
            writing = not (context.statement or "").lstrip().upper().startswith("SELECT")
            raise explained(original, where, writing=writing, engine=engine) from original

    sa.event.listen(engine, "handle_error", translate)


_DISK_FULL = "53100"
_NO_COLUMN = "42703"
# a standby, or a user who may only read
_READ_ONLY = "25006"
# to read or to write this table, or to make one
_NO_RIGHT = "42501"
# PostgreSQL's states of a lost connection and of a server that shuts down
_NO_SERVER = (
    "08",
    "57P",
    "25P03",
)
# out of resources, a standby, conflicts
_OVERRUN = (
    "53",
    _READ_ONLY,
    "40001",
    "40P01",
    "55P03",
    "57014",
)
_UNRESOLVED = re.compile("translate host name|failed to resolve host")
_ENCRYPTION = re.compile("SSL|sslmode|certificate|private key file")
_REFUSED = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|(role|database) \".*\" does"
    r" not exist"
    r"|no such (user|database)|unsupported startup parameter"
    r"|is not permitted to log in|invalid (connection option|port|integer value|\w+"
    r" value)|permission denied"
    r"|certificate verify failed|does not support SSL|does not match host name|weak sslmode"
    r"|(root certificate|certificate|private key) file"
)
"""Messages of a server or driver about lasting errors; connecting gives no states."""


def _lasting(original: BaseException) -> bool:
    """Whether a driver's error means that the database is full, gone or broken; the caller handles
    other errors.
    """
    if _tables_gone(original):
        return True
    name: str | None = getattr(original, "sqlite_errorname", None)
    if name is not None:
        return name == "SQLITE_NOTADB" or name.startswith(tuple(_SENTENCES))
    state: str | None = getattr(original, "sqlstate", None)
    # never reached the server, or lost it
    if state is None:
        return type(original).__name__ == "OperationalError"
    return state.startswith((*_NO_SERVER, "53", _READ_ONLY, _NO_RIGHT))


def _column_gone(original: BaseException) -> bool:
    message = first_line(original)
    by_sqlite = "no such column" in message or "has no column" in message
    return by_sqlite or getattr(original, "sqlstate", None) == _NO_COLUMN


def _tables_gone(original: BaseException) -> bool:
    return "no such table" in str(original) or getattr(original, "sqlstate", None) in (
        "42P01",
        "3D000",
    )


_connectors: weakref.WeakSet[Connector] = weakref.WeakSet()
_parents_pools: list[Pool] = []


def _forget_connections() -> None:
    """In a forked child, keeps the parent's connections unused and referenced, since losing the
    last reference would close them.
    """
    for connector in _connectors:
        _parents_pools.append(connector.engine.pool)
        connector.engine.dispose(close=False)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_connections)
