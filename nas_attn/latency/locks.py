"""A lock on a device across the processes of a machine: measuring has it alone, training shares it and gives way.

Four files per device, locked with flock, so the kernel frees them when their holder dies, however it dies:

- `.measurer`: held by whoever measures, so that measurers exclude each other even where training need not stop;
- `.device`: shared by training, exclusive for measuring;
- `.gate`: held exclusively by the measurer that is waiting or measuring: training looks at it between steps;
- `.turn`: held by whoever waits for the gate. A measurer cannot take it while training waits, so a measurer that
  measures again at once does not shut training out; training gives way at the gate, so it does not shut measuring out.

Order of taking: measurer, turn, gate, device; nobody holds a later one while waiting for an earlier one, so no cycle of waits.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nas_attn.errors import MeasurementError
from nas_attn.recipe import LatencySection

LOCK_DIR_VARIABLE = "NAS_ATTN_LOCK_DIR"
DEFAULT_LOCK_DIR = (
    "/tmp/nas_attn-locks"  # not $TMPDIR: every user and container of the machine must name the same place
)

_open_files: set[int] = set()
_sharing: set[tuple[int, str]] = set()
"""(thread, lock) that hold a share: asking for the device alone would wait for itself."""


def _close_in_child() -> None:
    """A forked child shares its parent's locks; closing its copies leaves them to the parent alone."""
    for descriptor in _open_files:
        os.close(descriptor)
    _open_files.clear()
    _sharing.clear()


os.register_at_fork(after_in_child=_close_in_child)


def lock_directory() -> Path:
    """Where the lock files lie: `$NAS_ATTN_LOCK_DIR`, else `/tmp/nas_attn-locks`.

    Containers on one machine that use one device must mount the same folder there.
    """
    return Path(os.environ.get(LOCK_DIR_VARIABLE) or DEFAULT_LOCK_DIR)


def device_identity(section: LatencySection) -> str:
    """What tells this device from others that might use the same lock folder.

    CPU: the running kernel (containers share it, machines on one network folder do not). CUDA: the GPU's UUID.
    A command measures elsewhere: the command's text.
    """
    if section.command is not None:
        return f"command-{hashlib.sha256(section.command.encode()).hexdigest()[:16]}"
    if section.device == "cuda":
        from nas_attn.latency.machine import cuda_properties

        return f"cuda-{cuda_properties().uuid}"
    try:
        kernel = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        kernel = socket.gethostname()
    return f"cpu-{kernel}"


def crowded() -> bool:
    """Whether more threads want to run than there are cores for this process, in the middle of five looks."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    looks = []
    for _ in range(5):
        try:
            looks.append(float(Path("/proc/loadavg").read_text("ascii").split()[3].partition("/")[0]))
        except OSError:
            return os.getloadavg()[0] > cores
        time.sleep(0.005)
    return sorted(looks)[2] > cores


def _nothing() -> None:
    return None


class Hold:
    """Training's share of a device; `yield_()` between steps lets a waiting measurer in."""

    def __init__(self, lock: DeviceLock, settle: Callable[[], object]) -> None:
        self._lock, self._settle = lock, settle
        self._device: int | None = None
        self._probe: int | None = None

    def _take(self) -> None:
        with self._lock._locked("turn", fcntl.LOCK_SH), self._lock._locked("gate", fcntl.LOCK_SH):
            self._device = self._lock._acquire("device", fcntl.LOCK_SH)

    def _release(self) -> None:
        if self._device is not None:
            _close(self._device)
            self._device = None

    def _end(self) -> None:
        self._release()
        if self._probe is not None:
            _close(self._probe)
            self._probe = None

    def _measurer_waits(self) -> bool:
        if self._probe is None:
            self._probe = self._lock._open("gate")
        try:
            fcntl.flock(self._probe, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(self._probe, fcntl.LOCK_UN)
        return False

    def yield_(self) -> bool:
        """Lets a waiting measurer measure, then goes on; a few microseconds where none waits. True if it waited."""
        if not self._lock.training_stops or not self._measurer_waits():
            return False
        self._settle()
        self._release()
        self._take()
        return True


class DeviceLock:
    """The lock of one device.

    Args:
        identity: names the device; processes with equal identities (and lock folders) exclude each other.
        training_stops: False where training does not disturb measuring (it happens elsewhere): `shared()` takes nothing.
        when_crowded: training stops only where more threads want to run than there are cores (thread CPU time: measured
            beside 4 and 8 workers on 2 cores it was off by 7 and 12 %, beside 2 by 1 %).

    A thread must not ask for `exclusive()` while it holds `shared()`: it would wait for itself.
    Objects may be used from several threads; each `with` is a hold of its own.

    Raises:
        MeasurementError: the lock folder cannot be written.
    """

    def __init__(self, identity: str, *, training_stops: bool = True, when_crowded: bool = False) -> None:
        self.training_stops, self.when_crowded = training_stops, when_crowded
        self._stem = hashlib.sha256(identity.encode()).hexdigest()[:24]

    @classmethod
    def for_section(cls, section: LatencySection) -> DeviceLock:
        """The lock that the section's way of measuring needs.

        A CPU thread's own time (one thread) needs one measurer at a time, and a stop of training only where the cores
        do not suffice for both; a command that measures on another machine needs none; the wall clock and the GPU need
        the device alone.
        """
        elsewhere = section.mode == "command"
        own_time = section.device == "cpu" and section.threads == 1
        return cls(device_identity(section), training_stops=not elsewhere, when_crowded=own_time)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """The device alone: waits until other measurers are done and training has given way."""
        assert (threading.get_ident(), self._stem) not in _sharing, (
            "give the share back before asking for the device alone"
        )
        with self._locked("measurer", fcntl.LOCK_EX):
            if not self.training_stops or (self.when_crowded and not crowded()):
                yield
                return
            with self._locked("turn", fcntl.LOCK_EX):
                gate = self._acquire("gate", fcntl.LOCK_EX)
            try:
                with self._locked("device", fcntl.LOCK_EX):
                    yield
            finally:
                _close(gate)

    @contextmanager
    def shared(self, settle: Callable[[], object] = _nothing) -> Iterator[Hold]:
        """The device together with others that train; call the hold's `yield_()` at least every second.

        Args:
            settle: called before the device is given away: waits until it has done what it was told to.
        """
        hold, mine = Hold(self, settle), (threading.get_ident(), self._stem)
        if not self.training_stops:
            yield hold
            return
        hold._take()
        _sharing.add(mine)
        try:
            yield hold
        finally:
            _sharing.discard(mine)
            hold._end()

    @contextmanager
    def _locked(self, part: str, operation: int) -> Iterator[None]:
        descriptor = self._acquire(part, operation)
        try:
            yield
        finally:
            _close(descriptor)

    def _acquire(self, part: str, operation: int) -> int:
        descriptor = self._open(part)
        try:
            fcntl.flock(descriptor, operation)
        except BaseException:
            _close(descriptor)
            raise
        return descriptor

    def _open(self, part: str) -> int:
        folder = lock_directory()
        path = folder / f"{self._stem}.{part}"
        try:
            descriptor = _open_shared(folder, path)
        except OSError as error:
            raise MeasurementError(
                f"the lock file '{path}' cannot be opened ({error.strerror}): set {LOCK_DIR_VARIABLE} to a folder "
                f"that all processes on this machine can write"
            ) from None
        _open_files.add(descriptor)
        return descriptor


def _open_shared(folder: Path, path: Path) -> int:
    """Opens a lock file that any user of the machine may lock, creating folder and file where they are missing."""
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o1777)
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags)  # without O_CREAT: Linux refuses it on other users' files in a sticky folder
    except FileNotFoundError:
        pass
    try:
        descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:  # another process was faster
        return os.open(path, flags)
    os.fchmod(descriptor, 0o666)
    return descriptor


def _close(descriptor: int) -> None:
    """Closes a lock file, which frees its lock."""
    _open_files.discard(descriptor)
    os.close(descriptor)
