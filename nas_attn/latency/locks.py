"""A lock on a device for the processes of a machine: measuring is exclusive, training shares the
device and gives way.

A process that uses a device keeps locked files in the lock folder, which the system frees when it
ends: `DEVICE.measuring` while it measures, `DEVICE.alone` while training has to stop for that, and
`DEVICE.training.OWNER` while it trains. Who measures takes `alone`, then waits until nobody trains;
who trains takes its own file, then looks for `alone`, and gives way between steps: so they cannot
miss each other. Every wait ends: who trains and does not give way is ignored after a minute, who
measures after ten, also if it is stopped (Ctrl-Z, `kill -STOP`); the session records that it was
there.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from nas_attn.errors import MeasurementError
from nas_attn.recipe.recipe import LatencySection
from nas_attn.system.environment import LOCK_DIR, lock_folder
from nas_attn.system.processes import SEPARATOR, cores, kernel, owner_name, owner_shown
from nas_attn.system.waiting import (
    LOCK_POLL_S,
    Interrupted,
    Wait,
    file_lock,
    give_back,
    locked,
    taken,
)

# Limit of the wait for a training to give way; a step, and compiling, take less
UNYIELDING_S = 60.0
# seconds of measuring, or of waiting to measure, after which others ignore a process
MEASURING_S = 600.0


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
        self._settle = settle
        self._stops = lock.training_stops
        self._alone = lock.path("alone")
        self._place = file_lock(lock.path(f"training.{owner_name().replace(SEPARATOR, ',')}"))
        # since when a process measures alone, if one does
        self._asked_at: float | None = None

    def take(self) -> None:
        """Takes the share; if the search is asked to stop, continues without it, to write a
        checkpoint.
        """
        what = "the device, to train on it: another process measures there"
        with suppress(Interrupted), Wait(what) as wait:
            self._place.acquire()
            while self._is_asked():
                give_back(self._place)
                wait.pause(LOCK_POLL_S)
                self._place.acquire()

    def release(self) -> None:
        """Gives the share back."""
        if self._place.is_locked:
            give_back(self._place)

    def yield_(self) -> bool:
        """Lets a waiting process measure, then continues; takes microseconds if none waits. True if
        it waited.
        """
        if not self._is_asked():
            return False
        self._settle()
        self.release()
        self.take()
        return True

    def _is_asked(self) -> bool:
        """Whether a process that must still be waited for measures alone."""
        lock = file_lock(self._alone)
        if not (self._stops and self._alone.exists()):
            self._asked_at = None
        elif taken(lock):
            give_back(lock)
            self._asked_at = None
        else:
            self._asked_at = self._asked_at or time.monotonic()
        return self._asked_at is not None and time.monotonic() - self._asked_at < MEASURING_S


class DeviceLock:
    """The lock of one device, for processes of equal identity; MeasurementError if its folder
    cannot be written. A thread must not call `exclusive()` while it holds `shared()`.

    `training_stops`: False if training does not disturb measuring; then it never gives way.
    `when_crowded`: training stops only if more threads want to run than there are cores (latencies
    were off by 7 and 12 % beside 4 and 8 workers on 2 cores, by 1 % beside 2).
    """

    def __init__(
        self, identity: str, *, training_stops: bool = True, when_crowded: bool = False
    ) -> None:
        self.training_stops = training_stops
        self.when_crowded = when_crowded
        self._stem = hashlib.sha256(identity.encode()).hexdigest()[:24]
        # process that trains -> since when it is waited for
        self._since: dict[str, float] = {}

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
        """The device alone; yields the processes that did not give way. Interrupted: asked to
        stop.
        """
        stops = self.training_stops and not (self.when_crowded and not crowded())
        with ExitStack() as held, Wait("the device, to measure latency on it alone") as wait:
            beside: list[str] = []
            for name in ("measuring", "alone")[: 1 + stops]:
                if not held.enter_context(locked(self.path(name), wait, MEASURING_S)):
                    beside = ["another measurement"]
            while stops and not self._unyielding():
                wait.pause(LOCK_POLL_S, lambda: "; ".join(map(owner_shown, self._since)))
            beside += map(owner_shown, self._since if stops else ())
            wait.over()
            yield beside
        if stops:
            # those that wait look again meanwhile
            time.sleep(2 * LOCK_POLL_S)

    @contextmanager
    def shared(self, settle: Callable[[], object] = lambda: None) -> Iterator[Hold]:
        """The device beside others; call `yield_()` every second. `settle` waits until the device
        has finished its queue.
        """
        hold = Hold(self, settle)
        hold.take()
        try:
            yield hold
        finally:
            hold.release()

    def path(self, name: str) -> Path:
        """The device's file of this name, in a folder that all users can write."""
        folder = lock_directory()
        try:
            if not folder.is_dir():
                folder.mkdir(parents=True, exist_ok=True)
                folder.chmod(0o1777)
            reason = "" if os.access(folder, os.W_OK) else "it cannot be written"
        except OSError as error:
            reason = str(error.strerror)
        if reason:
            raise MeasurementError(
                f"the folder of locks '{folder}' cannot be used ({reason}): set {LOCK_DIR} to a"
                " folder that all processes on this machine can write"
            )
        return folder / f"{self._stem}.{name}"

    def _unyielding(self) -> bool:
        """Whether all that still train, perhaps none, have been waited for long enough."""
        now = time.monotonic()
        self._since = {owner: self._since.get(owner, now) for owner in self._training()}
        return all(now - since >= UNYIELDING_S for since in self._since.values())

    def _training(self) -> list[str]:
        """The owners that train; removes files without one."""
        owners = []
        for path in lock_directory().glob(f"{self._stem}.training.*"):
            place = file_lock(path)
            if taken(place):
                give_back(place)
            else:
                owners.append(path.name.split(".", 2)[2].replace(",", SEPARATOR))
        return owners
