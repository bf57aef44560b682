"""Workers of one study on this machine: in this process, or several of their own."""

from __future__ import annotations

import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from nas_attn.errors import (
    WARNING,
    ExitStatus,
    NasAttnWarning,
    OperationError,
    UserError,
)
from nas_attn.searching.run.taking_part import Options, work
from nas_attn.searching.run.worker_process import TOLD, Told, start_worker
from nas_attn.searching.worker.devices import devices_of
from nas_attn.searching.worker.ending import Ending
from nas_attn.searching.worker.stopping import NOW, STOP
from nas_attn.storage.opening import OpenStudy
from nas_attn.system.processes import apart

# seconds that worker processes get to write their checkpoints after the first Ctrl-C
WORKERS_GRACE_S = 60.0
# seconds that they get to say what they leave after the second
HURRY_S = 5.0
# over what was said
ONE_BY_ONE = threading.Lock()


class Child:
    """A worker in a process of its own, whose output is passed on."""

    def __init__(
        self, told: Told, process: subprocess.Popen[bytes], say: Callable[[str], None]
    ) -> None:
        self.process = process
        self.told = told
        self._say = say
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        output = self.process.stdout
        assert output is not None
        with output:
            for line in output:
                text = line.decode("utf-8", "backslashreplace").rstrip()
                warning = text.removeprefix(WARNING)
                with ONE_BY_ONE:
                    # another worker, or this process, may have said the same
                    if warning == text or warning not in NasAttnWarning.said:
                        self._say(text)
                    NasAttnWarning.said.update({warning} - {text})

    @property
    def works(self) -> bool:
        return self.process.poll() is None

    def send(self, word: bytes) -> None:
        """Tells it STOP or NOW, on its standard input; does nothing if it has ended. A signal would
        not do: schedulers send theirs to the worker, too, and so it would count twice.
        """
        assert self.process.stdin is not None
        with suppress(OSError):
            self.process.stdin.write(word)
            self.process.stdin.flush()

    def close(self) -> None:
        """Ends it, if it still runs, and closes its pipes."""
        self.process.kill()
        assert self.process.stdin is not None
        with suppress(OSError):
            self.process.stdin.close()
        self._reader.join(timeout=5)

    @property
    def ending(self) -> Ending | None:
        """Why it ended; None while it works, and if it did not end in order. It may still need a
        while to leave.
        """
        report = Path(self.told.report)
        text = report.read_text() if report.exists() else ""
        return Ending(text) if text else None

    @property
    def status(self) -> int:
        """Its exit status, once it has ended; FAILED if it left without saying why, as after
        `os._exit(0)` in a user's code.
        """
        status = self.process.wait()
        if status == ExitStatus.DONE and self.ending is None:
            return ExitStatus.FAILED
        return status


def run_workers(opened: OpenStudy, workers: int, options: Options) -> Ending:
    """Runs workers, which share the cores and the GPUs, until the study is complete or
    `options.stop` is set.

    Args:
        opened: the study.
        workers: one works in this process, several in processes of their own.
        options: of each.

    Returns:
        Why they ended.

    Raises:
        NasAttnError: what stopped them all.
    """
    if workers == 1:
        return work(opened, options)
    told = {name: getattr(options, name) for name in TOLD} | {"workers": workers}
    children: list[Child] = []
    with tempfile.TemporaryDirectory(
        prefix="nas_attn-workers-", ignore_cleanup_errors=True
    ) as reports:
        for number, device in enumerate(devices_of(options.device, workers), 1):
            report = str(Path(reports, str(number)))
            its = Told(f"worker {number}", report, told | {"device": device})
            # Apart, so that Ctrl-C reaches the workers through us, once.
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            process = start_worker(opened, its, **pipes, **apart())
            children.append(Child(its, process, options.say))
        return _attend(children, options)


def _attend(children: list[Child], options: Options) -> Ending:
    try:
        _wait(children, options)
    except KeyboardInterrupt:
        _hurry(children, options)
        raise
    finally:
        for child in children:
            # only those that are left after an exception here still run
            child.close()
    codes = [child.status for child in children]
    endings = [child.ending for child in children if child.ending is not None]
    # the latter by nas-attn stop
    if options.stop.is_set() or Ending.STOPPED in endings:
        return Ending.STOPPED
    if ExitStatus.DONE in codes:
        for code in filter(None, codes):
            options.say(f"a worker ended with status {code}; the others continued")
        # Who says that nothing is left speaks of the whole study.
        return Ending.EXHAUSTED if Ending.EXHAUSTED in endings else endings[0]
    what = f"all {len(codes)} workers ended with an error (above)"
    if set(codes) == {UserError.exit_status}:
        # resumed as it is, it ends in the same way
        raise UserError(what)
    raise OperationError(what)


def _wait(children: list[Child], options: Options) -> None:
    """Until all workers have ended; passes on the request to stop, and ends those that do not
    follow it in time.
    """
    asked: float | None = None
    while True:
        if not any(child.works for child in children):
            return
        time.sleep(0.1)
        if options.stop.is_set() and asked is None:
            asked = time.monotonic()
            for child in children:
                child.send(STOP)
        if asked is not None and time.monotonic() - asked > WORKERS_GRACE_S:
            if all(child.ending for child in children if child.works):
                return
            raise OperationError(
                f"workers did not stop within {WORKERS_GRACE_S:.0f} s and were killed: resume the"
                " study"
            )


def _hurry(children: list[Child], options: Options) -> None:
    """Ends the workers at once; says which were killed before they could report what is
    unfinished.
    """
    for child in children:
        child.send(NOW)
    deadline = time.monotonic() + HURRY_S
    while time.monotonic() < deadline and any(child.works for child in children):
        time.sleep(0.05)
    for child in children:
        if child.works:
            options.say(f"{child.told.name}: killed; its work since the last checkpoint is lost")
