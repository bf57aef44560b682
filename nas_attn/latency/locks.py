"""A lock on a device for the processes of a machine: measuring is exclusive, training shares the
device and gives way.

A process that uses a device keeps a locked file in the lock folder, `DEVICE.ROLE.OWNER`. The system
frees the lock when the process ends, and a file without a lock is ignored. Roles: `alone` measures,
and training stops for it; `beside` measures, and training may go on; `training`; `waiting` wants to
train, and lets a measuring process finish first.

Measuring begins when nobody measures and nobody waits to train, so a process that measures
repeatedly does not block training. Training begins when there is no `alone`; it checks for one
between steps, and then gives way. Check and entry are one step under the lock `DEVICE.door`, held
for less than a millisecond. Every wait ends: a holder that is stopped (Ctrl-Z, `kill -STOP`), or
does not give way for minutes, is ignored after a time, and the session records that it was there.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from nas_attn.errors import MeasurementError
from nas_attn.recipe.recipe import LatencySection
from nas_attn.system import waiting
from nas_attn.system.environment import LOCK_DIR, lock_folder
from nas_attn.system.processes import SEPARATOR, cores, is_stopped, kernel, owner_name, owner_shown
from nas_attn.system.waiting import (
    LOCK_POLL_S,
    Interrupted,
    Wait,
    file_lock,
    give_back,
    taken,
    waits,
)

if TYPE_CHECKING:
    from filelock import FileLock

# Limit of the wait for a training to give way; a step, and compiling, take less
UNYIELDING_S = 60.0
# seconds of measuring, or of waiting to measure, after which others ignore a process
MEASURING_S = 600.0
# limit of the wait for the door; a process that holds it longer was stopped
DOOR_S = 5.0


def lock_directory() -> Path:
    """`$NAS_ATTN_LOCK_DIR`, else `/tmp/nas_attn-locks` (not $TMPDIR: all users must name one
    place), on Windows the user's own.
    """
    shared = Path("/tmp") if os.name == "posix" else Path(tempfile.gettempdir())
    return Path(lock_folder() or shared / "nas_attn-locks")


def device_identity(section: LatencySection) -> str:
    """The command's text, the GPU's UUID, or the running kernel, which containers share and
    machines on a network folder do not.
    """
    if section.command is not None:
        return f"command-{hashlib.sha256(section.command.encode()).hexdigest()[:16]}"
    if section.device == "cuda":
        from nas_attn.latency.machine import cuda_properties

        return f"cuda-{cuda_properties().uuid}"
    return f"cpu-{kernel()}"


def crowded() -> bool:
    """Whether more threads want to run on this process's cores than it has: the median of five
    samples.
    """
    import psutil

    if not hasattr(os, "sched_getaffinity"):
        # no Linux: the average of the last minute, of all cores
        return psutil.getloadavg()[0] > (os.cpu_count() or 1)
    looks = []
    for _ in range(5):
        looks.append(_wanting())
        time.sleep(0.005)
    return sorted(looks)[2] > cores()


def _wanting() -> int:
    """Threads that run or want to, and may do so on a core of this process. The machine's load will
    not do: a container with two cores of sixty-four is not crowded by the others' work.
    """
    if not hasattr(os, "sched_getaffinity"):
        return 0
    own = os.sched_getaffinity(0)
    wanting = 0
    for stat in Path("/proc").glob("[0-9]*/task/[0-9]*/stat"):
        # a thread may end meanwhile
        with suppress(OSError):
            state = stat.read_text("ascii", "replace").rpartition(")")[2].split()[0]
            wanting += state == "R" and not own.isdisjoint(
                os.sched_getaffinity(int(stat.parent.name))
            )
    return wanting


class Hold:
    """Training's share of a device; `yield_()` between steps lets a waiting process measure."""

    def __init__(self, lock: DeviceLock, settle: Callable[[], object]) -> None:
        self._lock = lock
        self._settle = settle
        self._place: FileLock | None = None

    def _take(self) -> None:
        """Takes the share; if the search is asked to stop, continues without it, to write a
        checkpoint.
        """
        with (
            suppress(Interrupted),
            Wait("the device, to train on it: another process measures there") as wait,
        ):
            waiting = self._lock._come_in("waiting", (), wait)
            try:
                self._place = self._lock._come_in("training", ("alone",), wait)
            finally:
                give_back(waiting)

    def _release(self) -> None:
        if self._place is not None:
            give_back(self._place)
            self._place = None

    def yield_(self) -> bool:
        """Lets a waiting process measure, then continues; takes microseconds if none waits. True if
        it waited.
        """
        if not self._lock.training_stops or not self._lock._is_there("alone"):
            return False
        self._settle()
        self._release()
        self._take()
        return True


class DeviceLock:
    """The lock of one device, for processes of equal identity; MeasurementError if its folder
    cannot be written. A thread must not call `exclusive()` while it holds `shared()`.

    `training_stops`: False if training does not disturb measuring; then `shared()` takes nothing.
    `when_crowded`: training stops only if more threads want to run than there are cores (latencies
    were off by 7 and 12 % beside 4 and 8 workers on 2 cores, by 1 % beside 2).
    """

    def __init__(
        self, identity: str, *, training_stops: bool = True, when_crowded: bool = False
    ) -> None:
        self.training_stops = training_stops
        self.when_crowded = when_crowded
        self._stem = hashlib.sha256(identity.encode()).hexdigest()[:24]
        # (place, taken at, holder is stopped) -> waited since
        self._since: dict[tuple[str, int, bool], float] = {}

    @classmethod
    def for_section(cls, section: LatencySection) -> DeviceLock:
        """The wall clock and the GPU need the device alone; a CPU thread's own time does only if
        measuring and training need more cores than there are; a command, which may measure on
        another machine, stops no training.
        """
        elsewhere = section.by_command
        own_time = section.device == "cpu" and section.threads == 1
        return cls(device_identity(section), training_stops=not elsewhere, when_crowded=own_time)

    @contextmanager
    def exclusive(self) -> Iterator[list[str]]:
        """The device alone; yields the processes that did not give way, complete at the end.
        Interrupted: asked to stop.
        """
        stops = self.training_stops and not (self.when_crowded and not crowded())
        beside: list[str] = []
        with Wait("the device, to measure latency on it alone") as wait:
            place = self._come_in(
                "alone" if stops else "beside", ("alone", "beside", "waiting"), wait, beside
            )
            try:
                if stops:
                    self._wait_for(("training",), wait, UNYIELDING_S, beside)
                wait.over()
                yield beside
                # processes that ignored this one while it was stopped
                with self._door():
                    there = [*self._places("alone"), *self._places("beside")]
                for other in there:
                    owner = owner_shown(_owner(other))
                    if other.lock_file != place.lock_file and owner not in beside:
                        beside.append(owner)
            finally:
                give_back(place)

    @contextmanager
    def shared(self, settle: Callable[[], object] = lambda: None) -> Iterator[Hold]:
        """The device beside others; call `yield_()` every second. `settle` waits until the device
        has finished its queue.
        """
        hold = Hold(self, settle)
        if not self.training_stops:
            yield hold
            return
        hold._take()
        try:
            yield hold
        finally:
            hold._release()

    def _come_in(
        self, role: str, others: Collection[str], wait: Wait, beside: list[str] | None = None
    ) -> FileLock:
        """Enters in this role, once the others have left or the wait for them has ended."""
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
        """Waits until the others have left, or the time for each is over."""
        waited: list[FileLock] = []
        while True:
            with self._door():
                there = [found for role in others for found in self._places(role)]
                open_ = [found for found in there if not self._long_enough(found, living_s)]
                if not open_:
                    if place is not None:
                        taken(place)
                    break
            waited = open_
            wait.pause(LOCK_POLL_S, lambda: _shown(open_))  # noqa: B023 - it is asked at once
        waited_files = {waited_place.lock_file for waited_place in waited}
        if left := [found for found in there if found.lock_file in waited_files]:
            waits().say(f"stopped waiting for {_shown(left)}")
        if beside is not None:
            beside += [owner_shown(_owner(found)) for found in there]

    def _long_enough(self, place: FileLock, living_s: float) -> bool:
        """Whether this process has waited long enough for the holder of a place."""
        stopped = is_stopped(_owner(place))
        try:
            taken_at = Path(place.lock_file).stat().st_mtime_ns
        except OSError:
            # it has just gone
            return False
        since = self._since.setdefault((place.lock_file, taken_at, stopped), time.monotonic())
        return time.monotonic() - since >= (waiting.STOPPED_S if stopped else living_s)

    def _places(self, role: str) -> list[FileLock]:
        """Held places in this role; removes files without a holder."""
        places = []
        for path in lock_directory().glob(f"{self._stem}.{role}.*"):
            place = file_lock(path)
            if taken(place):
                give_back(place)
            else:
                places.append(place)
        return places

    def _is_there(self, role: str) -> bool:
        """Whether this role has a holder that must still be waited for."""
        if not any(lock_directory().glob(f"{self._stem}.{role}.*")):
            return False
        with self._door():
            return not all(self._long_enough(place, MEASURING_S) for place in self._places(role))

    @contextmanager
    def _door(self) -> Iterator[None]:
        """Inside, only this process may check and enter."""
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
                f"the lock file '{lock.lock_file}' cannot be opened ({error.strerror}): set"
                f" {LOCK_DIR} to a folder that all processes on this machine can write"
            ) from None
        try:
            yield
        finally:
            if inside:
                lock.release()


def _owner(place: FileLock) -> str:
    return Path(place.lock_file).name.split(".", 2)[2].replace(",", SEPARATOR)


def _shown(places: Collection[FileLock]) -> str:
    return "; ".join(owner_shown(_owner(place)) for place in places)
