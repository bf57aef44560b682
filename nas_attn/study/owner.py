"""Who a worker is, so that another one on the same machine can tell that it has died."""

from __future__ import annotations

import os
import socket
import uuid
from pathlib import Path

from nas_attn.storage import Lease, StudyStore

SEPARATOR = "/"


def owner_name() -> str:
    """A unique name of this process: machine, PID namespace, PID, start time, and a random part."""
    parts = [socket.gethostname(), _boot(), _namespace(), str(os.getpid()), _started(os.getpid()), uuid.uuid4().hex[:8]]
    return SEPARATOR.join(part.replace(SEPARATOR, "-") for part in parts)


def is_dead(owner: str) -> bool:
    """Whether an owner was a process of this machine, since its last start, that is gone.

    False where that cannot be known from here (another machine, another container): its lease has to expire.
    """
    parts = owner.split(SEPARATOR)
    if len(parts) != 6 or parts[:3] != [socket.gethostname(), _boot(), _namespace()] or not parts[1]:
        return False
    return _started(int(parts[3])) != parts[4]


def release_dead(store: StudyStore, prefix: str) -> None:
    """Frees the leases, on resources named so, of processes of this machine that have died; others' have to expire."""
    for row in store.leases():
        if row.state == "held" and row.resource.startswith(prefix) and is_dead(row.owner):
            store.release(Lease(row.resource, row.owner, row.number, 0.0, row.expires_at))


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:
        return ""


def _started(pid: int) -> str:
    """Start time of a process in clock ticks since boot, empty where there is none (or it is a zombie)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
