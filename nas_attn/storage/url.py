"""Storage URLs: which databases a study may live in, and what keeps a file from being one of them."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from nas_attn.errors import StudyError, shorten, without_passwords
from nas_attn.paths import user_path

NETWORKS = frozenset(
    """
    afs afs3 beegfs ceph cephfs cifs coda davfs fhgfs gcsfuse gfs2 glusterfs gpfs juicefs lustre moosefs ncpfs nfs nfs4
    ocfs2 orangefs panfs pvfs2 rclone s3fs smb smb2 smb3 smbfs sshfs
    """.split()  # noqa: SIM905 - a list of words reads better so
)
"""File systems that other machines may write to; with `fuse.` in front, too. SQLite's write-ahead log must not be on one: its index
is memory shared between processes, and locks are often wrong there (wal.html)."""
FORMS = "write sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"


def shown_url(url: str | URL) -> str:
    """A storage URL as it may be printed: without its password."""
    try:
        text = make_url(url).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        text = str(url)
    return without_passwords(text)


def storage_url(text: str) -> URL:
    """The URL in the one form we use: an absolute path for SQLite, psycopg for PostgreSQL.

    Raises:
        StudyError: not a URL, another database, no psycopg, a folder that is missing, unwritable or on a network.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        text = shorten(without_passwords(text))
        hint = f"; for a file write sqlite:///{text}" if "://" not in text else ""
        raise StudyError(f"storage '{text}' is not a URL: {FORMS}{hint}") from None
    if url.drivername in ("sqlite", "sqlite+pysqlite"):
        return _sqlite_url(url)
    if url.drivername in ("postgresql", "postgresql+psycopg"):
        return _postgresql_url(url)
    shown = shorten(shown_url(url))
    raise StudyError(f"storage '{shown}': '{shorten(url.drivername)}' is not supported: {FORMS}")


def _postgresql_url(url: URL) -> URL:
    shown = shorten(shown_url(url))
    if not url.database:
        raise StudyError(f"storage '{shown}' names no database: {FORMS}")
    if find_spec("psycopg") is None:
        raise StudyError(f"storage '{shown}' needs psycopg: pip install 'nas-attn[postgres]'")
    return url.set(drivername="postgresql+psycopg")


def _sqlite_url(url: URL) -> URL:
    shown = shorten(shown_url(url))
    if not url.database or url.database == ":memory:":
        raise StudyError(f"storage '{shown}' would be in one process's memory: give a file, sqlite:///nas_attn.db")
    if url.host or url.query or url.database.startswith("file:"):
        raise StudyError(
            f"storage '{shown}' has more than a file path: write sqlite:///FILE (sqlite:////ABSOLUTE/FILE)"
        )
    path = user_path(url.database, what=f"storage '{shown}'", error=StudyError, home=False).absolute()
    _check_file(path, shown)
    return URL.create("sqlite", database=str(path))


def _check_file(path: Path, shown: str) -> None:
    folder = path.parent
    if os.path.isdir(path):  # unlike Path.is_dir, False where a folder above may not be entered
        raise StudyError(f"storage '{shown}' is a folder: name a file in it, sqlite:///{path / 'nas_attn.db'}")
    if not os.path.isdir(folder):
        raise StudyError(
            f"storage '{shown}': the folder '{folder}' does not exist or cannot be entered: create it, or choose another"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StudyError(f"storage '{shown}': the folder '{folder}' is not writable: choose another storage")
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        raise StudyError(f"storage '{shown}': the file is not readable and writable for this user")
    kind = network_filesystem(path)
    if kind is not None:
        raise StudyError(
            f"storage '{shown}' is on a network file system ({kind}), where SQLite's locks and shared memory do not "
            "hold and studies get damaged: use a local disk, or PostgreSQL for several machines"
        )


def network_filesystem(path: Path) -> str | None:
    """The kind of network file system that a path is on, None where it is local or cannot be known.

    Args:
        path: a file or folder; symbolic links are followed, the file need not exist.
    """
    import psutil

    real, kind, depth = path.resolve(), "", -1
    for mount in psutil.disk_partitions(all=True):
        point = Path(mount.mountpoint)
        # A later mount on the same point hides the earlier one.
        if real.is_relative_to(point) and len(point.parts) >= depth:
            kind, depth = mount.fstype, len(point.parts)
            if "aname=drvfs" in mount.opts:  # a Windows drive seen from WSL
                kind = "drvfs"
            if "remote" in mount.opts.split(","):  # so Windows says it
                kind = "cifs"
    return kind if kind == "drvfs" or kind.removeprefix("fuse.") in NETWORKS else None
