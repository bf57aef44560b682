"""Processes of this machine: their identity, whether they are alive, whether they are suspended."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psutil

SEPARATOR = "/"
# The highest of the descriptors that every program has
STDERR = 2
# Starts of one process number within this time are one process: the machine's clock may be set
SAME_S = 2.0
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = Path("/proc/self/ns/pid")


def owner_name() -> str:
    """A unique name of this process: host, kernel, PID namespace, PID, start time, and a random
    part.
    """
    import psutil

    pid = os.getpid()
    started = _started(psutil.Process(pid))
    parts = [*_here(), str(pid), started, uuid.uuid4().hex[:8]]
    return SEPARATOR.join(part.replace(SEPARATOR, "-") for part in parts)


def _here() -> list[str]:
    """Host, kernel and PID namespace of this process."""
    namespace = ""
    with suppress(OSError):
        namespace = str(_NAMESPACE.stat().st_ino)
    return [socket.gethostname(), kernel(), namespace]


def kernel() -> str:
    """A text that tells kernels with the same host name apart."""
    try:
        return _BOOT.read_text("ascii").strip()[:8]
    except OSError:
        return f"{uuid.getnode():012x}"


def is_dead(owner: str, *, local: bool = False) -> bool:
    """Whether an owner was a process of this machine that is gone. False if that is unknown: then
    only its silence tells it.
    `local`: only this machine's processes can own it, so one from before the last boot is gone.
    """
    parts = owner.split(SEPARATOR)
    here = _here()
    if len(parts) != 6 or parts[0] != here[0]:
        return False
    if parts[1] != here[1]:
        # elsewhere a kernel has no name that changes at each start
        return local and _BOOT.exists()
    return parts[2] == here[2] and _process(int(parts[3]), parts[4]) is None


def machine_and_pid(owner: str) -> tuple[str, str]:
    """An owner's machine and the number of its process there; for other names the owner itself."""
    parts = owner.split(SEPARATOR)
    return (parts[0], parts[3]) if len(parts) == 6 else (owner, "")


def owner_shown(owner: str) -> str:
    """An owner for a person."""
    host, pid = machine_and_pid(owner)
    return f"pid {pid} on {host}" if pid else owner


def _process(pid: int, started: str) -> psutil.Process | None:
    """The process of this number that began then; None if it has ended."""
    import psutil

    with suppress(psutil.Error, OverflowError):
        process = psutil.Process(pid)
        same = abs(float(_started(process)) - float(started)) < SAME_S
        if same and process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return process
    return None


def _started(process: psutil.Process) -> str:
    """Seconds: since the machine's start on Linux, since 1970 elsewhere."""
    import psutil

    since = process.create_time()
    # On Linux psutil adds the time of the boot, which changes whenever the clock is set.
    return f"{since - psutil.boot_time() if psutil.LINUX else since:.2f}"


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def words_of(command: str) -> list[str]:
    """A command's words, for no shell; on Windows, a backslash is a part of a path. ValueError: a
    quotation does not end.
    """
    lexer = shlex.shlex(command, posix=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    if os.name == "nt":
        lexer.escape = ""
    return list(lexer)


def apart(*, outliving: bool = False) -> dict[str, Any]:
    """Arguments of `Popen` for a process that Ctrl-C in this terminal does not reach; `outliving`:
    nor does its closing.
    """
    if sys.platform == "win32":
        # With a console of its own, not with none: programs that it runs would show theirs.
        hidden = subprocess.CREATE_NO_WINDOW if outliving else 0
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | hidden}
    else:  # noqa: RET505 - after this block, mypy takes it for unreachable on Windows
        return {"start_new_session": True}
