"""A PostgreSQL server of one's own, from the installed binaries: no service, no root, gone when you
stop it.

    with PrivateServer(Path("postgres_data")) as server:
        print(server.url())

The data folder is created on first use and can be started again later. The server listens on one
address, asks for a password, and runs as another user when started by root, which PostgreSQL
refuses to run as.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

USER = "nas_attn"
_FOLDERS = ("/usr/lib/postgresql", "/usr/local/opt", "/opt/homebrew/opt", "/usr")
_ATTEMPTS = 5
_PATIENCE_S = "600"
"""Seconds that starting or stopping may take: on a busy machine a minute is not enough."""
_PORT_LINE = 3
"""Line of postmaster.pid with the port, counted from 0."""


class ServerError(Exception):
    """The server cannot be started: one sentence."""


def find_binaries() -> Path | None:
    """The folder with `initdb` and `pg_ctl`: the one on the PATH, else the newest of the usual
    places.
    """
    found = shutil.which("pg_ctl")
    folders = [Path(found).parent] if found else []
    for root in _FOLDERS:
        versions = [
            *Path(root).glob("[0-9]*/bin"),
            *Path(root).glob("pgsql-*/bin"),
            *Path(root).glob("postgresql*/bin"),
        ]
        folders += sorted(
            versions,
            key=lambda folder: [int(d) for d in re.findall(r"\d+", folder.parent.name)],
            reverse=True,
        )
    return next((f for f in folders if (f / "initdb").exists() and (f / "pg_ctl").exists()), None)


class PrivateServer:
    """One PostgreSQL server; a context manager that starts and stops it.

    Args:
        folder: its data; created if missing.
        host: address to listen on; `0.0.0.0` lets other machines in (with the password).
        port: None takes a free one.
        settings: entries of postgresql.conf.

    Raises:
        ServerError: there are no binaries, no user to run as, or the server does not start; says
            why.
    """

    def __init__(
        self,
        folder: Path,
        *,
        host: str = "127.0.0.1",
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        binaries = find_binaries()
        if binaries is None:
            raise ServerError(
                "PostgreSQL's initdb and pg_ctl are not installed (Debian: apt-get install"
                " postgresql)"
            )
        self._binaries = binaries
        self.folder = folder.absolute()
        self.host = host
        self.port = port
        self._wanted_port = port
        self._started = False
        self._settings = dict(settings or {})
        self._user = _other_user() if os.getuid() == 0 else None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def url(self, database: str = "postgres", *, host: str | None = None) -> str:
        """The storage URL of one of its databases, with the password; `host` as others call this
        machine.
        """
        if host is None:
            host = "127.0.0.1" if self.host == "0.0.0.0" else self.host
        return (
            f"postgresql+psycopg://{USER}:{quote(self._password())}@{host}:{self.port}/{database}"
        )

    def start(self) -> None:
        """Create the data if need be, and start; returns when the server answers.

        A server that still runs on this folder (whoever started it was killed) is used as it is,
        and left running.
        """
        if not (self._data / "PG_VERSION").exists():
            self._create()
        if self._run("pg_ctl", "status", "-D", str(self._data)).returncode == 0:
            self.port = int(
                (self._data / "postmaster.pid").read_text("utf-8").splitlines()[_PORT_LINE]
            )
            return
        # A free port may be taken by somebody else before the server has it.
        for attempt in range(_ATTEMPTS):
            self.port = self._wanted_port or _free_port(self.host)
            failure = self._try_start()
            if failure is None:
                self._started = True
                return
            if self._wanted_port is not None or attempt == _ATTEMPTS - 1:
                raise ServerError(f"PostgreSQL does not start in '{self.folder}': {failure}")

    def stop(self) -> None:
        """Stop, if it is we who started it; open transactions are rolled back."""
        if self._started:
            self._run(
                "pg_ctl", "stop", "-D", str(self._data), "-m", "fast", "-w", "-t", _PATIENCE_S, "-s"
            )
            self._started = False

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _password(self) -> str:
        return (self.folder / "password").read_text("utf-8").strip()

    def _create(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        password = self.folder / "password"
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(18) + "\n", "utf-8")
        for path in (self.folder, password):
            if self._user is not None:
                os.chown(path, self._user.pw_uid, self._user.pw_gid)
        options = (
            "-U",
            USER,
            "--pwfile",
            str(password),
            "--auth",
            "scram-sha-256",
            "-E",
            "UTF8",
            "--locale",
            "C",
        )
        careless = ("--no-sync",) if self._settings.get("fsync") == "off" else ()
        done = self._run("initdb", "-D", str(self._data), *options, *careless)
        if done.returncode != 0:
            raise ServerError(f"PostgreSQL cannot create '{self._data}': {_last_line(done.stderr)}")
        with (self._data / "pg_hba.conf").open("a", encoding="utf-8") as rules:
            rules.write("host all all all scram-sha-256\n")  # whom to listen to is `host`'s to say

    def _try_start(self) -> str | None:
        log = self.folder / "log"
        settings = {
            "listen_addresses": self.host,
            "port": str(self.port),
            "unix_socket_directories": "",
            **self._settings,
        }
        options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        done = self._run(
            "pg_ctl",
            "start",
            "-D",
            str(self._data),
            "-l",
            str(log),
            "-w",
            "-t",
            _PATIENCE_S,
            "-s",
            "-o",
            options,
        )
        if done.returncode == 0:
            return None
        told = log.read_text("utf-8", errors="replace") if log.exists() else done.stderr
        fatal = [line for line in told.splitlines() if "FATAL" in line]
        return _last_line("\n".join(fatal) or told)

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one of PostgreSQL's programs, as another user where we are root.

        Output goes to a file: a pipe would be inherited by the server and never close.
        """
        command = [str(self._binaries / program), *arguments]
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
                check=False,
                user=self._user and self._user.pw_uid,
                group=self._user and self._user.pw_gid,
                extra_groups=self._user and [],
            )
            output.seek(0)
            return subprocess.CompletedProcess(command, done.returncode, "", output.read())


def _other_user() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise ServerError(
        "PostgreSQL does not run as root, and there is neither a user 'postgres' nor 'nobody'"
    )


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1]
