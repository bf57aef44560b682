"""URLs of study databases: read, checked, and shown without their passwords."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from nas_attn.errors import (
    StudyError,
    shorten,
    without_passwords,
)
from nas_attn.system.importing import installing
from nas_attn.system.paths import user_path

NETWORK_FILE_SYSTEMS = re.compile(
    r"(fuse\.)?(afs3?|beegfs|ceph(fs)?|cifs|coda|davfs|drvfs|fhgfs|gcsfuse|gfs2|glusterfs|gpfs"
    r"|juicefs|lustre|moosefs|ncpfs|nfs4?|ocfs2|orangefs|panfs|pvfs2|rclone|s3fs|smb[23]?|smbfs|sshfs)"
)
"""SQLite's log must not be on a network file system: its index is shared memory."""
URL_FORMS = "write sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"


ENCODING = (
    "inside the user, the password or a setting, write @ as %40, : as %3A, / as %2F, ? as %3F and"
    " # as %23"
)
_SERVER = re.compile(
    r"[\w+]+://([^@:/?#]*(:[^@:/?#]*)?@)?(\[[^\]@]*\]|[^\s@:/?#\[\]]*)(:\d*)?(/[^@?#]*)?(\?[^@]*)?"
)
"""A URL of a server, of which can be told where the password ends."""


def shown_url(url: str | URL) -> str:
    """A storage URL for printing, without its password. If it cannot be told where the password
    ends, nothing of it is shown but the kind of database.
    """
    text = url if isinstance(url, str) else url.render_as_string(hide_password=False)
    scheme, separator, _ = text.partition("://")
    if not separator and "@" in text:
        return "***"
    if not separator or scheme.startswith("sqlite"):
        return without_passwords(text)
    if not _SERVER.fullmatch(text):
        return f"{scheme}://***"
    return without_passwords(make_url(url).render_as_string(hide_password=True))


def storage_url(text: str) -> URL:
    """The URL with an absolute path for SQLite and psycopg for PostgreSQL; StudyError if it cannot
    be used.
    """
    shown = shorten(shown_url(text))
    scheme, separator, _ = text.partition("://")
    if not separator:
        hint = "" if "@" in text else f"; for a file write sqlite:///{shown}"
        raise StudyError(f"storage '{shown}' is not a URL: {URL_FORMS}{hint}")
    if not scheme.startswith("sqlite") and not _SERVER.fullmatch(text):
        raise StudyError(f"storage '{shown}' is not a URL: {URL_FORMS}; {ENCODING}")
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise StudyError(f"storage '{shown}' is not a URL: {URL_FORMS}") from None
    if url.drivername in ("sqlite", "sqlite+pysqlite"):
        return _sqlite_url(text, url, shown)
    if url.drivername not in ("postgresql", "postgresql+psycopg"):
        raise StudyError(
            f"storage '{shown}': '{shorten(url.drivername)}' is not supported: {URL_FORMS}"
        )
    if not _could_be_a_host(url.host or ""):
        raise StudyError(
            f"storage '{shown}': '{shorten(str(url.host))}' cannot be the name of a host:"
            f" {URL_FORMS}"
        )
    if not url.database:
        raise StudyError(f"storage '{shown}' names no database: {URL_FORMS}")
    if find_spec("psycopg") is None:
        raise StudyError(f"storage '{shown}' needs psycopg: {installing('postgres')}")
    return url.set(drivername="postgresql+psycopg")


def _could_be_a_host(name: str) -> bool:
    """Whether a resolver accepts the name; for others the driver raises UnicodeError."""
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return not re.search(r"[\s\[\]]", name)


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
    # unlike Path.is_dir, False if a folder above cannot be entered
    if os.path.isdir(path):
        raise StudyError(
            f"storage '{shown}' is a folder: name a file in it, sqlite:///{path / 'nas_attn.db'}"
        )
    if not os.path.isdir(path.parent):
        raise StudyError(
            f"storage '{shown}': the folder '{path.parent}' does not exist or cannot be entered:"
            " create it"
        )
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise StudyError(
            f"storage '{shown}': the folder '{path.parent}' is not writable: choose another storage"
        )
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
            depth = len(point.parts)
            kind = mount.fstype
            # a Windows drive seen from WSL
            if "aname=drvfs" in mount.opts:
                kind = "drvfs"
            # Windows' name for it
            if "remote" in mount.opts.split(","):
                kind = "cifs"
    return kind if NETWORK_FILE_SYSTEMS.fullmatch(kind) else None
