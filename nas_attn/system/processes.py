"""Processes of this machine: their identity, whether they are alive, whether they are suspended."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_attn.errors import shorten, without_passwords

if TYPE_CHECKING:
    import psutil

SEPARATOR = "/"
# The highest of the descriptors that every program has
STDERR = 2
# Of a command
COMMAND_LETTERS = 100
# Starts of one process number within this time are one process: the machine's clock may be set
SAME_S = 2.0
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = Path("/proc/self/ns/pid")


@dataclass(frozen=True, slots=True)
class Process:
    """A process of this machine; its start time tells it from a later one with the same number."""

    pid: int
    # Seconds: since the machine's start on Linux, since 1970 elsewhere
    started: str

    @property
    def runs(self) -> bool:
        """Whether it is still alive."""
        process = _find(self.pid)
        return process is not None and abs(float(_started(process)) - float(self.started)) < SAME_S

    @property
    def stopped(self) -> bool:
        """Whether it is suspended, by `kill -STOP`, Ctrl-Z or a debugger."""
        import psutil

        process = _find(self.pid)
        try:
            return (
                process is not None
                and self.runs
                and process.status() in ("stopped", "tracing-stop")
            )
        except psutil.Error:
            return False

    def __str__(self) -> str:
        """In words: number, command, start time, and whether it is suspended."""
        if self.pid == os.getpid():
            return "another thread of this process"
        return f"pid {self.pid}{_about(self.pid)}{', which is suspended' if self.stopped else ''}"


def process(pid: int) -> Process | None:
    """The process with this number; None if there is none."""
    process_there = _find(pid)
    return None if process_there is None else Process(pid, _started(process_there))


def owner_name() -> str:
    """A unique name of this process: host, kernel, PID namespace, PID, start time, and a random
    part.
    """
    me = process(os.getpid())
    assert me is not None
    parts = [
        socket.gethostname(),
        kernel(),
        _namespace(),
        str(me.pid),
        me.started,
        uuid.uuid4().hex[:8],
    ]
    return SEPARATOR.join(part.replace(SEPARATOR, "-") for part in parts)


def kernel() -> str:
    """A text that tells kernels with the same host name apart."""
    try:
        return _BOOT.read_text("ascii").strip()[:8]
    except OSError:
        return f"{uuid.getnode():012x}"


def is_dead(owner: str, *, local: bool = False) -> bool:
    """Whether an owner was a process of this machine that is gone. False if that is unknown: then
    its lease must expire.
    `local`: only this machine's processes can own it, so one from before the last boot is gone.
    """
    parts = owner.split(SEPARATOR)
    if len(parts) != 6 or parts[0] != socket.gethostname():
        return False
    if parts[1] != kernel():
        # elsewhere a kernel has no name that changes at each start
        return local and _BOOT.exists()
    return parts[2] == _namespace() and not Process(int(parts[3]), parts[4]).runs


def is_stopped(owner: str) -> bool:
    """Whether an owner is a suspended process of this machine."""
    process_there = _here(owner)
    return process_there is not None and process_there.stopped


def machine_and_pid(owner: str) -> tuple[str, str]:
    """An owner's machine and the number of its process there; for other names the owner itself."""
    parts = owner.split(SEPARATOR)
    return (parts[0], parts[3]) if len(parts) == 6 else (owner, "")


def owner_shown(owner: str) -> str:
    """An owner for a person."""
    host, pid = machine_and_pid(owner)
    if not pid:
        return owner or "a process of another machine or container"
    process_there = _here(owner)
    if process_there is None:
        return f"pid {pid} on {host}"
    return str(process_there) if process_there.runs else f"pid {pid}, which has ended"


def _here(owner: str) -> Process | None:
    """The process of an owner; None if it cannot be seen from here."""
    parts = owner.split(SEPARATOR)
    seen = len(parts) == 6 and parts[:3] == [socket.gethostname(), kernel(), _namespace()]
    return Process(int(parts[3]), parts[4]) if seen else None


def _find(pid: int) -> psutil.Process | None:
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD) else process
    except psutil.AccessDenied:
        return process
    except (psutil.Error, OverflowError):
        return None


def _started(process: psutil.Process) -> str:
    import psutil

    try:
        since = process.create_time()
    except psutil.NoSuchProcess:
        return "-1"
    # On Linux psutil adds the time of the boot, which changes whenever the clock is set.
    return f"{since - psutil.boot_time() if psutil.LINUX else since:.2f}"


def _about(pid: int) -> str:
    """Command and start time, in brackets; empty if they cannot be read."""
    import psutil

    try:
        process = psutil.Process(pid)
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(process.create_time()))
        words = " ".join(process.cmdline())
    except psutil.Error:
        return ""
    command = shorten(without_passwords(words), COMMAND_LETTERS)
    return f" ({command}, since {since})" if command else f" (since {since})"


def _namespace() -> str:
    try:
        return str(_NAMESPACE.stat().st_ino)
    except OSError:
        return ""


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
