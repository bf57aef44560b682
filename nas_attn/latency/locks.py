"""A lock on a device across the processes of a machine: measuring has it alone, training shares it and gives way.

Four files per device, locked with flock, so the kernel frees them when their holder dies, however it dies:

- `.measurer`: held by whoever measures, so that measurers exclude each other even where training need not stop;
- `.device`: shared by training, exclusive for measuring;
- `.gate`: held exclusively by the measurer that is waiting or measuring: training looks at it between steps;
- `.turn`: held by whoever waits for the gate. A measurer cannot take it while training waits, so a measurer that
  measures again at once does not shut training out; training gives way at the gate, so it does not shut measuring out.

Order of taking: measurer, turn, gate, device; nobody holds a later one while waiting for an earlier one, so no cycle of waits.

No wait is without an end. A holder that is stopped (Ctrl-Z, `kill -STOP`), or does not give way for minutes, is passed by: its
lock file is removed, and all that come from then on use a new one. It notices that when it goes on, and joins them. What
was measured meanwhile is marked.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nas_attn.errors import MeasurementError
from nas_attn.processes import Process, shown
from nas_attn.recipe import LatencySection
from nas_attn.waiting import Interrupted, Patience, Wait, close, flock, private

LOCK_DIR_VARIABLE = "NAS_ATTN_LOCK_DIR"
DEFAULT_LOCK_DIR = (
    "/tmp/nas_attn-locks"  # not $TMPDIR: every user and container of the machine must name the same place
)

UNYIELDING_S = 60.0
"""Seconds that measuring waits for a training that goes on without giving way; its steps, and compiling, take less."""
MEASURING_S = 600.0
"""Seconds that one process may measure, or wait to, before others pass it by."""

_sharing: set[tuple[int, str]] = set()
"""(thread, lock) that hold a share: asking for the device alone would wait for itself."""
_passed_by: set[Process] = set()
"""Holders of locks that this process has passed by."""

os.register_at_fork(after_in_child=_sharing.clear)


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


class _LockWait(Wait):
    """A wait for a device's locks, which knows whom it has passed by."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.passed_by: set[Process] = set()
        self._unseen = False

    def pass_by(self, holders: Sequence[Process]) -> None:
        """Waits no longer for these."""
        self.say(f"went on without waiting any longer for {shown(holders)}")
        self.passed_by.update(holders)
        self._unseen |= not holders
        _passed_by.update(holders)

    def beside(self) -> list[str]:
        """Those that were passed by just now, or before and have been stopped since."""
        _passed_by.intersection_update({found for found in _passed_by if found.stopped} | self.passed_by)
        found = [str(found) for found in sorted(_passed_by, key=lambda found: found.pid)]
        return [*found, shown([])] if self._unseen else found


class Hold:
    """Training's share of a device; `yield_()` between steps lets a waiting measurer in."""

    def __init__(self, lock: DeviceLock, settle: Callable[[], object]) -> None:
        self._lock, self._settle = lock, settle
        self._device: int | None = None
        self._probe: int | None = None

    def _take(self) -> None:
        """Takes the share; without it where the search is asked to stop: what is left is to write a checkpoint."""
        lock, what = self._lock, "the device, to train on it: another process measures there"
        with (
            contextlib.suppress(Interrupted),
            _LockWait(what) as wait,
            lock._locked("turn", fcntl.LOCK_SH, wait),
            lock._locked("gate", fcntl.LOCK_SH, wait),
        ):
            self._device = lock._acquire("device", fcntl.LOCK_SH, wait)

    def _release(self) -> None:
        if self._device is not None:
            close(self._device)
            self._device = None

    def _end(self) -> None:
        self._release()
        if self._probe is not None:
            close(self._probe)
            self._probe = None

    def _passed_by(self) -> bool:
        """Whether others have gone on without this process, which was stopped."""
        return self._device is not None and _is_removed(self._device)

    def _measurer_waits(self) -> bool:
        if self._probe is not None and _is_removed(self._probe):
            close(self._probe)
            self._probe = None
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
        if not self._lock.training_stops or not (self._measurer_waits() or self._passed_by()):
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
    def exclusive(self) -> Iterator[list[str]]:
        """The device alone: waits until other measurers are done and training has given way.

        Yields what was going on beside: processes that were passed by, since they did not give way. Complete when the
        device has been given back.

        Raises:
            Interrupted: the search was asked to stop while this waited.
        """
        assert (threading.get_ident(), self._stem) not in _sharing, (
            "give the share back before asking for the device alone"
        )
        beside: list[str] = []
        with contextlib.ExitStack() as held, _LockWait("the device, to measure latency on it alone") as wait:
            mine = [held.enter_context(self._locked("measurer", fcntl.LOCK_EX, wait))]
            if self.training_stops and not (self.when_crowded and not crowded()):
                with self._locked("turn", fcntl.LOCK_EX, wait):
                    mine.append(held.enter_context(self._locked("gate", fcntl.LOCK_EX, wait)))
                mine.append(held.enter_context(self._locked("device", fcntl.LOCK_EX, wait, UNYIELDING_S)))
            wait.over()
            beside += wait.beside()
            yield beside
            if any(descriptor is not None and _is_removed(descriptor) for descriptor in mine):
                beside.append("others, which went on while this process was stopped")

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
    def _locked(
        self, part: str, operation: int, wait: _LockWait, living_s: float = MEASURING_S
    ) -> Iterator[int | None]:
        descriptor = self._acquire(part, operation, wait, living_s)
        try:
            yield descriptor
        finally:
            if descriptor is not None:
                close(descriptor)

    def _acquire(self, part: str, operation: int, wait: _LockWait, living_s: float = MEASURING_S) -> int | None:
        """A locked file. None where the lock of those that do not give it up cannot be removed: it is another user's."""
        while True:
            descriptor = self._open(part)
            try:
                holders = flock(descriptor, operation, wait, Patience(living_s, wait.passed_by))
                if holders is None and not _is_removed(descriptor):
                    return descriptor
                if holders is not None:
                    wait.pass_by(holders)
                    if not _remove(lock_directory() / self._name(part), descriptor):
                        close(descriptor)
                        return None
            except BaseException:
                close(descriptor)
                raise
            close(descriptor)

    def _name(self, part: str) -> str:
        return f"{self._stem}.{part}"

    def _open(self, part: str) -> int:
        folder = lock_directory()
        path = folder / self._name(part)
        try:
            descriptor = _open_shared(folder, path)
        except OSError as error:
            raise MeasurementError(
                f"the lock file '{path}' cannot be opened ({error.strerror}): set {LOCK_DIR_VARIABLE} to a folder "
                f"that all processes on this machine can write"
            ) from None
        return private(descriptor)


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


def _is_removed(descriptor: int) -> bool:
    """Whether an open lock file has been removed, so that others use a new one."""
    return os.fstat(descriptor).st_nlink == 0


def _remove(path: Path, descriptor: int) -> bool:
    """Removes a lock file whose holders are passed by. False where that cannot be: it is another user's."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)  # one at a time: the next finds the new file, and leaves it
        if os.path.samestat(path.stat(), os.fstat(descriptor)):
            path.unlink()
    except BlockingIOError:  # another one does just that
        time.sleep(0.01)
    except FileNotFoundError:
        pass
    except OSError:
        return False
    finally:
        os.close(folder)
    return True
