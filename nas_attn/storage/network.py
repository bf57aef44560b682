"""Network file systems, on which SQLite's write-ahead log must not be used.

SQLite's own documentation (wal.html: "All processes using a database must be on the same host computer"): the log's
index is memory shared between processes, and locks on network file systems are often wrong.
"""

from __future__ import annotations

import re
from pathlib import Path

MOUNTS = Path("/proc/mounts")

KINDS = frozenset(
    """
    afs afs3 beegfs ceph cephfs cifs coda davfs fhgfs gcsfuse gfs2 glusterfs gpfs juicefs lustre moosefs ncpfs nfs nfs4
    ocfs2 orangefs panfs pvfs2 rclone s3fs smb smb2 smb3 smbfs sshfs
    """.split()  # noqa: SIM905 - a list of words reads better so
)
"""File systems that other machines may write to; with `fuse.` in front, too."""


def network_filesystem(path: Path, mounts: str | None = None) -> str | None:
    """The kind of network file system that a path is on, None where it is local or cannot be known.

    Args:
        path: a file or folder; symbolic links are followed, the file need not exist.
        mounts: text in the form of Linux's /proc/mounts; None reads that file (no such file: nothing is known).
    """
    if mounts is None:
        try:
            mounts = MOUNTS.read_text("utf-8", errors="surrogateescape")
        except OSError:
            return None
    real = path.resolve()
    kind, depth = None, -1
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = Path(_unescape(fields[1]))
        # A later mount on the same point hides the earlier one.
        if real.is_relative_to(point) and len(point.parts) >= depth:
            kind, depth = fields[2], len(point.parts)
            if kind == "9p" and "aname=drvfs" in line:  # a Windows drive seen from WSL
                kind = "drvfs"
    if kind is None:
        return None
    return kind if kind == "drvfs" or kind.removeprefix("fuse.") in KINDS else None


def _unescape(field: str) -> str:
    r"""Blanks and backslashes stand as octal in /proc/mounts: `\040`."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
