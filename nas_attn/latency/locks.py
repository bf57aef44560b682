"""A lock on a device across the processes of a machine: measuring has it alone, training shares it and gives way.

Who uses a device says so by a file in the lock folder, `DEVICE.ROLE.OWNER`, which it keeps locked: the system frees the
lock when its holder ends, however it ends, and a file that nobody has locked counts for nothing. The roles:

- `alone`: measures, and training stops for it;
- `beside`: measures, and training may go on;
- `training`;
- `waiting`: would train, and lets a measurer finish first.

A measurer comes in when nobody measures and nobody waits to train, so a measurer that measures again at once does not
shut training out. Training comes in when no file says `alone`, looks for one between steps, and gives way. Looking and
coming in is one step under the lock `DEVICE.door`, which is held for less than a millisecond.

No wait is without an end. A holder that is stopped (Ctrl-Z, `kill -STOP`), or does not give way for minutes, is passed by:
a file `DEVICE.passed.OWNER` says so, and nobody waits for it any more. Training that finds itself passed by comes in anew.
What was measured meanwhile is marked.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nas_attn.errors import MeasurementError
from nas_attn.processes import SEPARATOR, cores, kernel, owner_name, owner_shown
from nas_attn.recipe import LatencySection
from nas_attn.waiting import POLL_S, Interrupted, Patience, Wait, file_lock, taken

if TYPE_CHECKING:
    from filelock import FileLock

LOCK_DIR_VARIABLE = "NAS_ATTN_LOCK_DIR"
UNYIELDING_S = 60.0
"""Seconds that measuring waits for a training that goes on without giving way; its steps, and compiling, take less."""
MEASURING_S = 600.0
"""Seconds that one process may measure, or wait to, before others pass it by."""
DOOR_S = 5.0
"""Seconds that the door is waited for; whoever holds it for longer was stopped on the threshold."""

_sharing: set[tuple[int, str]] = set()
"""(thread, lock) that hold a share: asking for the device alone would wait for itself."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_sharing.clear)


def lock_directory() -> Path:
    """Where the lock files lie: `$NAS_ATTN_LOCK_DIR`, else `/tmp/nas_attn-locks`, on Windows in the user's own folder.

    Not in $TMPDIR: every user and container of the machine must name the same place. Containers on one machine that use
    one device must mount the same folder there.
    """
    shared = Path("/tmp") if os.name == "posix" else Path(tempfile.gettempdir())
    return Path(os.environ.get(LOCK_DIR_VARIABLE) or shared / "nas_attn-locks")


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
    return f"cpu-{kernel()}"


def crowded() -> bool:
    """Whether more threads want to run than there are cores for this process, in the middle of five looks."""
    import psutil

    looks = []
    for _ in range(5):
        try:
            looks.append(float(Path("/proc/loadavg").read_text("ascii").split()[3].partition("/")[0]))
        except OSError:  # no Linux: the average of the last minute
            return psutil.getloadavg()[0] > cores()
        time.sleep(0.005)
    return sorted(looks)[2] > cores()


def _nothing() -> None:
    return None


class Hold:
    """Training's share of a device; `yield_()` between steps lets a waiting measurer in."""

    def __init__(self, lock: DeviceLock, settle: Callable[[], object]) -> None:
        self._lock, self._settle = lock, settle
        self._place: FileLock | None = None

    def _take(self) -> None:
        """Takes the share; without it where the search is asked to stop: what is left is to write a checkpoint."""
        what = "the device, to train on it: another process measures there"
        with contextlib.suppress(Interrupted), Wait(what) as wait:
            waiting = self._lock._come_in("waiting", (), wait)
            try:
                self._place = self._lock._come_in("training", ("alone",), wait)
            finally:
                _leave(waiting)

    def _release(self) -> None:
        if self._place is not None:
            _leave(self._place)
            self._place = None

    def yield_(self) -> bool:
        """Lets a waiting measurer measure, then goes on; some microseconds where none waits. True if it waited."""
        passed = self._place is not None and _passed_file(self._place).exists()
        if not self._lock.training_stops or not (passed or self._lock._is_there("alone")):
            return False
        self._settle()
        self._release()
        self._take()
        return True


def _leave(place: FileLock) -> None:
    for path in (_passed_file(place), Path(place.lock_file)):
        with contextlib.suppress(OSError):  # another user's; Windows removes a lock file at its release
            path.unlink()
    place.release()


def _passed_file(place: FileLock) -> Path:
    """The file that is there where others have gone on without waiting for this place's owner."""
    path = Path(place.lock_file)
    device, _, owner = path.name.split(".", 2)
    return path.with_name(f"{device}.passed.{owner}")


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
        stops = self.training_stops and not (self.when_crowded and not crowded())
        beside: list[str] = []
        with Wait("the device, to measure latency on it alone") as wait:
            place = self._come_in("alone" if stops else "beside", ("alone", "beside", "waiting"), wait, beside)
            try:
                if stops:
                    self._wait_for(("training",), wait, UNYIELDING_S, beside)
                wait.over()
                yield beside
                if _passed_file(place).exists():
                    beside.append("others, which continued while this process was suspended")
            finally:
                _leave(place)

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
            hold._release()

    def _come_in(self, role: str, others: Collection[str], wait: Wait, beside: list[str] | None = None) -> FileLock:
        """A place in this role, once the others have gone or are passed by."""
        owner = owner_name().replace(SEPARATOR, ",")
        place = file_lock(lock_directory() / f"{self._stem}.{role}.{owner}")
        self._wait_for(others, wait, MEASURING_S, beside, place)
        return place

    def _wait_for(
        self,
        others: Collection[str],
        wait: Wait,
        living_s: float,
        beside: list[str] | None = None,
        place: FileLock | None = None,
    ) -> None:
        """Waits until the others have gone or are passed by.

        Args:
            beside: gains those that were passed by, now or before.
            place: is taken then, before somebody else can come.
        """
        patience = Patience(living_s)
        while True:
            with self._door():
                there = [found for role in others for found in self._places(role)]
                owners = {_owner(found): found for found in there if not _passed_file(found).exists()}
                if patience.over(owners):
                    for passed in owners.values():
                        _passed_file(passed).touch()
                    if place is not None:
                        taken(place)
                    break
            wait.pause(POLL_S, lambda: _shown(owners))  # noqa: B023 - it is asked at once
        if owners:
            wait.say(f"stopped waiting for {_shown(owners)}")
        if beside is not None:
            beside += [owner_shown(_owner(found)) for found in there]

    def _places(self, role: str) -> list[FileLock]:
        """Places in this role that somebody holds; files of others are removed."""
        found = []
        for path in lock_directory().glob(f"{self._stem}.{role}.*"):
            place = file_lock(path)
            if taken(place):
                _leave(place)
            else:
                found.append(place)
        return found

    def _is_there(self, role: str) -> bool:
        """Whether somebody is there in this role who has not been passed by."""
        if not any(lock_directory().glob(f"{self._stem}.{role}.*")):
            return False
        with self._door():
            return not all(_passed_file(place).exists() for place in self._places(role))

    @contextmanager
    def _door(self) -> Iterator[None]:
        """One process at a time looks who is there, and comes in."""
        folder = lock_directory()
        lock = file_lock(folder / f"{self._stem}.door")
        try:
            if not folder.is_dir():
                folder.mkdir(parents=True, exist_ok=True)
                folder.chmod(0o1777)
            end = time.monotonic() + DOOR_S
            while not (inside := taken(lock)) and time.monotonic() < end:
                time.sleep(0.001)
        except OSError as error:
            raise MeasurementError(
                f"the lock file '{lock.lock_file}' cannot be opened ({error.strerror}): set {LOCK_DIR_VARIABLE} to a "
                "folder that all processes on this machine can write"
            ) from None
        try:
            yield
        finally:
            if inside:
                lock.release()


def _owner(place: FileLock) -> str:
    return Path(place.lock_file).name.split(".", 2)[2].replace(",", SEPARATOR)


def _shown(owners: Collection[str]) -> str:
    return "; ".join(map(owner_shown, owners))
