"""URLs of study databases: read, checked, and shown without their passwords."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from nas_attn.errors import StudyError, shorten, without_passwords
from nas_attn.system.paths import user_path

_NETWORK = re.compile(
    r"(^|,)(fuse\.)?(afs3?|beegfs|ceph(fs)?|cifs|coda|davfs|drvfs|fhgfs|gcsfuse|gfs2|glusterfs|gpfs"
    r"|juicefs|lustre|moosefs|ncpfs|nfs4?|ocfs2|orangefs|panfs|pvfs2|rclone|s3fs|smb[23]?|smbfs|sshfs"
    r"|aname=drvfs|remote)([,;]|$)"
)
"""File systems and mount options of a network, where SQLite's log must not be: its index is shared
memory. The last two are a Windows drive's, in WSL and in Windows.
"""
URL_FORMS = "write sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"
ENCODING = (
    "inside the user, the password or a setting, write @ as %40, : as %3A, / as %2F, ? as %3F and"
    " # as %23"
)
_UNENCODED = re.compile(r"\s|[@/?#].*@|:.*:.*@")
"""In a server's URL: it cannot be told where the password ends."""


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
    parsed = _parsed(text)
    if parsed is None:
        return f"{scheme}://***"
    return without_passwords(parsed.render_as_string(hide_password=True))


def _parsed(text: str) -> URL | None:
    """The URL; None if it is none, or it cannot be told where the password ends."""
    scheme, _, rest = text.partition("://")
    if not scheme.startswith("sqlite") and _UNENCODED.search(rest):
        return None
    try:
        url = make_url(text)
        if url.host:
            # of a name that no resolver takes, the driver says UnicodeError
            url.host.encode("idna")
    except (ArgumentError, ValueError):
        return None
    return url


def storage_url(text: str) -> URL:
    """The URL with an absolute path for SQLite and psycopg for PostgreSQL; StudyError if it cannot
    be used.
    """
    shown = shorten(shown_url(text))
    url = _parsed(text)
    if "://" not in text:
        hint = "" if "@" in text else f"; for a file write sqlite:///{shown}"
        raise StudyError(f"storage '{shown}' is not a URL: {URL_FORMS}{hint}")
    if url is None:
        raise StudyError(f"storage '{shown}' is not a URL: {URL_FORMS}; {ENCODING}")
    if url.drivername in ("sqlite", "sqlite+pysqlite"):
        return _sqlite_url(text, url, shown)
    if url.drivername not in ("postgresql", "postgresql+psycopg") or not url.database:
        raise StudyError(f"storage '{shown}' names no database of the two kinds: {URL_FORMS}")
    return url.set(drivername="postgresql+psycopg")


def _sqlite_url(text: str, url: URL, shown: str) -> URL:
    file = url.database or ":memory:"
    if file == ":memory:" or file.startswith("file:") or url.host or "?" in text:
        raise StudyError(
            f"storage '{shown}' names no file: write sqlite:///FILE (sqlite:////ABSOLUTE/FILE), and"
            " a ? in its name as %3F"
        )
    path = user_path(file, what=f"storage '{shown}'", error=StudyError, home=False).absolute()
    # unlike Path.is_dir, False if a folder above cannot be entered
    if os.path.isdir(path):
        raise StudyError(
            f"storage '{shown}' is a folder: name a file in it, sqlite:///{path / 'nas_attn.db'}"
        )
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise StudyError(
            f"storage '{shown}': the folder '{path.parent}' does not exist or is not writable:"
            " create it, or choose another storage"
        )
    kind = network_filesystem(path)
    if kind is not None:
        why = "where SQLite's locks and shared memory do not work and studies get damaged"
        way_out = "use a local disk, or PostgreSQL for several machines"
        raise StudyError(
            f"storage '{shown}' is on a network file system ({kind}), {why}: {way_out}"
        )
    return URL.create("sqlite", database=str(path))


def network_filesystem(path: Path) -> str | None:
    """The kind of network file system of a path, after following links; None if it is local or
    unknown.
    """
    import psutil

    real = path.resolve()
    mounts = [m for m in psutil.disk_partitions(all=True) if real.is_relative_to(m.mountpoint)]
    # A later mount on the same point hides the earlier one.
    mount = max(reversed(mounts), key=lambda one: len(one.mountpoint), default=None)
    if mount is None or not _NETWORK.search(f"{mount.fstype},{mount.opts}"):
        return None
    return mount.fstype
