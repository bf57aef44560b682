"""Network file systems, on which SQLite's write-ahead log must not be used.

SQLite's own documentation (wal.html: "All processes using a database must be on the same host computer"): the log's
index is memory shared between processes, and locks on network file systems are often wrong.
"""

from __future__ import annotations

from pathlib import Path

KINDS = frozenset(
    """
    afs afs3 beegfs ceph cephfs cifs coda davfs fhgfs gcsfuse gfs2 glusterfs gpfs juicefs lustre moosefs ncpfs nfs nfs4
    ocfs2 orangefs panfs pvfs2 rclone s3fs smb smb2 smb3 smbfs sshfs
    """.split()  # noqa: SIM905 - a list of words reads better so
)
"""File systems that other machines may write to; with `fuse.` in front, too."""


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
    return kind if kind == "drvfs" or kind.removeprefix("fuse.") in KINDS else None
