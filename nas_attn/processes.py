"""Processes of this machine as others see them: who they are, whether they live, what they hold. Standard library only.

Read from Linux's /proc; elsewhere less is known, and nobody is taken for dead.
"""

from __future__ import annotations

import os
import re
import socket
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SEPARATOR = "/"
PROC = Path("/proc")
SHOWN_LENGTH = 100
"""Letters of a command that are shown."""
_PROGRAM = re.compile(r"^\S*python\S* (?:-\S+ )*?(?:-m nas_attn\.cli\.main|\S*/nas-attn)(?= |$)")
_PASSWORD = re.compile(r"(://[^:/@\s]*:)[^@\s]*@")


@dataclass(frozen=True, slots=True)
class Process:
    """A process of this machine, told from a later one of the same number by when it started."""

    pid: int
    started: str
    """Clock ticks since the machine's start, as the kernel gives them."""

    @property
    def stopped(self) -> bool:
        """Whether it stands still, by `kill -STOP`, Ctrl-Z or a debugger."""
        state, started = _stat(self.pid)
        return started == self.started and state in ("T", "t")

    def __str__(self) -> str:
        """For a person: number, command, since when it runs, and whether it is stopped."""
        if self.pid == os.getpid():
            return "another thread of this process"
        return f"pid {self.pid}{_about(self)}{', which is stopped' if self.stopped else ''}"


def process(pid: int) -> Process | None:
    """The process of this number; None where there is none."""
    started = _stat(pid)[1]
    return Process(pid, started) if started else None


def shown(processes: Sequence[Process]) -> str:
    """Several processes for a person."""
    return "; ".join(map(str, processes)) or "a process that cannot be seen from here"


# ------------------------------------------------------------------------------------------- owners of leases


def owner_name() -> str:
    """A unique name of this process: machine, PID namespace, PID, start time, and a random part."""
    pid = os.getpid()
    parts = [socket.gethostname(), _boot(), _namespace(), str(pid), _stat(pid)[1], uuid.uuid4().hex[:8]]
    return SEPARATOR.join(part.replace(SEPARATOR, "-") for part in parts)


def is_dead(owner: str, *, local: bool = False) -> bool:
    """Whether an owner was a process of this machine that is gone.

    False where that cannot be known from here (another machine, another container): its lease has to expire.

    Args:
        local: what it owns can be owned by processes of this machine only, so that one of the same host name from
            before the machine's last start is gone.
    """
    parts = owner.split(SEPARATOR)
    if len(parts) != 6 or parts[0] != socket.gethostname() or not parts[1]:
        return False
    if parts[1] != _boot():
        return local and bool(_boot())
    return parts[2] == _namespace() and _stat(int(parts[3]))[1] != parts[4]


def machine_and_pid(owner: str) -> tuple[str, str]:
    """An owner's machine, and the number of its process there; the owner as it is where it is named otherwise."""
    parts = owner.split(SEPARATOR)
    return (parts[0], parts[3]) if len(parts) == 6 else (owner, "")


def owner_shown(owner: str) -> str:
    """An owner for a person."""
    parts = owner.split(SEPARATOR)
    if len(parts) != 6:
        return owner
    host, boot, namespace, pid, started, _ = parts
    if [host, boot, namespace] != [socket.gethostname(), _boot(), _namespace()]:
        return f"pid {pid} on {host}"
    return str(Process(int(pid), started)) if _stat(int(pid))[1] == started else f"pid {pid}, which is gone"


# ------------------------------------------------------------------------------------------- holders of locks


def flock_holders(descriptor: int) -> list[Process]:
    """Who holds a lock by flock on an open file; empty where nobody does, or it cannot be seen from here."""
    try:
        lines = (PROC / "locks").read_text("ascii").splitlines()
    except OSError:
        return []
    status = os.fstat(descriptor)
    device = (os.major(status.st_dev), os.minor(status.st_dev))
    same_number, same_device = [], []
    for words in map(
        str.split, lines
    ):  # 1: FLOCK ADVISORY WRITE 4711 fe:00:1234 0 EOF; who waits has "->" before FLOCK
        if len(words) < 6 or words[1] != "FLOCK":
            continue
        major, minor, number = words[5].split(":")
        if int(number) == status.st_ino:
            same_number.append(int(words[4]))
            if (int(major, 16), int(minor, 16)) == device:
                same_device.append(int(words[4]))
    pids = same_device or same_number  # an overlay's files have another device than their locks
    return [found for pid in dict.fromkeys(pids) if (found := process(pid)) is not None]


# ------------------------------------------------------------------------------------------- /proc


def _stat(pid: int) -> tuple[str, str]:
    """(state, start in clock ticks since boot) of a process; both empty where there is none (or it is a zombie)."""
    try:
        fields = (PROC / str(pid) / "stat").read_text("utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return "", ""
    return ("", "") if fields[0] in "ZX" else (fields[0], fields[19])


def _about(found: Process) -> str:
    """Command and time of the start, in brackets; empty where they cannot be read."""
    try:
        words = (PROC / str(found.pid) / "cmdline").read_text("utf-8", errors="replace").split("\0")
        booted = next(line for line in (PROC / "stat").read_text("ascii").splitlines() if line.startswith("btime"))
    except (OSError, StopIteration):
        return ""
    command = _PASSWORD.sub(r"\1***@", _PROGRAM.sub("nas-attn", " ".join(words).strip()))
    if len(command) > SHOWN_LENGTH:
        command = f"{command[: SHOWN_LENGTH - 1]}…"
    since = int(booted.split()[1]) + int(found.started) / os.sysconf("SC_CLK_TCK")
    command = f"{command}, " if command else ""  # as of one that has only just begun
    return f" ({command}since {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(since))})"


def _boot() -> str:
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text().strip()[:8]
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return str((PROC / "self/ns/pid").stat().st_ino)
    except OSError:
        return ""
