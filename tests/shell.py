"""A person at a shell: types commands of the installed program in a folder, reads what comes,
presses Ctrl-C.

For journeys and for the commands of the documentation.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = Path(sys.executable).with_name("nas-attn")
PATIENCE_S = 900.0
"""Longest wait for anything: below the test's own limit, so that a hang ends with what was printed
so far.
"""
OURS = re.compile(
    r"""\[\d+/\d+\ (candidates|runs)[^\]]*\]\        # progress of a search, a validation, a retraining
      | worker\ \d+:\                            # the same of several workers
      | (backbone|trial)\ \d+:\                  # a run that ended or stopped
      | (search|confirm|validate|retrain),\ seed\ \d+:\ 
      | bare\ network,\ seed\ \d+:\ 
      | (folder|coco):.*\ classes,\             # what was read, and what is to be known of it
      | '[^']+':\ (a|another|the|trial)\        # what a word was taken for
      | (classes|sizes|boxes):\ 
      | note:\ 
      | stopping(:|\ on)\ |stopped\ |waiting\ for\ |waited\ |went\ on\ |failed:\ 
      | every\ placement\ of\ |the\ time\ limit\ |to\ train\ it\ 
      | training\ .+\ again:\ |trained\ (again,|as)\ """,
    re.VERBOSE,
)
FOREIGN = re.compile(
    r"""Traceback\ \(most|^\s+File\ "            # Python's
      | \b[A-Za-z]+Warning\b                     # of libraries
      | \[[WIED]\ \d{4}-\d\d-\d\d                # Optuna's log
      | Exception\ ignored|leaked\ |a\ fault\ of\ nas_attn""",
    re.VERBOSE | re.MULTILINE,
)


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    command: str
    status: int
    out: str
    err: str

    def __str__(self) -> str:
        return (
            f"$ {self.command}\n{self.out}\n--- standard error\n{self.err}\n--- exit status"
            f" {self.status}"
        )

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one sentence of a command that failed."""
        (sentence,) = (line for line in self.err.splitlines() if line.startswith("error: "))
        return sentence

    def check(self, status: int, warns: Sequence[str] = ()) -> Ended:
        """Nothing came that a person would wonder at: the exit status, no traceback, only lines of
        ours on standard error.

        Args:
            warns: what each of the warnings says, in order; there are no others.
        """
        assert self.status == status, self
        assert not FOREIGN.search(self.out), self
        warnings = [line for line in self.err.splitlines() if line.startswith("warning: ")]
        assert len(warnings) == len(warns), self
        assert all(expected in line for expected, line in zip(warns, warnings, strict=True)), self
        for line in self.err.splitlines():
            ours = OURS.match(line) or line in warnings or (status and line.startswith("error: "))
            assert ours, f"'{line}' on standard error of\n{self}"
            assert not FOREIGN.search(line), self
        return self


@dataclass
class Running:
    """A command that is under way."""

    command: str
    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    def said(self) -> str:
        return self.out.read_text("utf-8") + self.err.read_text("utf-8")

    def until(self, pattern: str, times: int = 1) -> Running:
        """Waits until a regular expression has been found so often in what the command printed."""
        for _ in patience(f"'{pattern}' {times} times of {self.command}"):
            ended = self.process.poll() is not None
            if len(re.findall(pattern, self.said())) >= times:
                return self
            assert not ended, f"it ended before '{pattern}':\n{self.said()}"
        raise AssertionError("unreachable")

    def ctrl_c(self, signal_number: int = signal.SIGINT) -> Running:
        """What a terminal does: the signal goes to all processes of the command's group."""
        os.killpg(self.process.pid, signal_number)
        return self

    def kill(self) -> Ended:
        """`kill -9` of the command alone; its workers have to notice."""
        self.process.kill()
        self.process.wait()
        return self.ended()

    def ended(self, seconds: float = PATIENCE_S) -> Ended:
        """Waits for the end."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"still there after {seconds:.0f} s: {self.command}\n{self.said()}"
            ) from None
        return Ended(self.command, status, self.out.read_text("utf-8"), self.err.read_text("utf-8"))

    def ends(self, status: int = 0, warns: Sequence[str] = ()) -> Ended:
        return self.ended().check(status, warns)


@dataclass
class Shell:
    """Types `nas-attn …` in a folder."""

    folder: Path  # Where the person is
    logs: Path
    """Where the commands' output goes; also the devices' locks, so that journeys do not wait for
    each other.
    """
    variables: dict[str, str] = field(default_factory=dict)  # What the person has exported
    commands: list[Running] = field(default_factory=list)

    @classmethod
    def under(cls, folder: Path) -> Shell:
        """In an empty folder `home` of this one; the logs lie beside it."""
        (folder / "home").mkdir()
        (folder / "logs").mkdir()
        return cls(folder / "home", folder / "logs")

    def begins(self, line: str) -> Running:
        """Types a command of nas-attn, this name left out, and does not wait for its end."""
        return self.runs([str(PROGRAM), *shlex.split(line)], f"nas-attn {line}")

    def runs(
        self, command: Sequence[str], shown: str, stdin: int | IO[bytes] = subprocess.DEVNULL
    ) -> Running:
        """Starts any program."""
        stem = self.logs / str(len(self.commands))
        out, err = stem.with_suffix(".out"), stem.with_suffix(".err")
        with out.open("wb") as out_file, err.open("wb") as err_file:
            process = subprocess.Popen(
                list(command),
                cwd=self.folder,
                env=self.environment(),
                stdin=stdin,
                stdout=out_file,
                stderr=err_file,
                start_new_session=True,  # as a shell gives each command a group of its own
            )
        self.commands.append(Running(shown, process, out, err))
        return self.commands[-1]

    def types(self, line: str, *, status: int = 0, warns: Sequence[str] = ()) -> Ended:
        """Types a command of nas-attn and waits for its end."""
        return self.begins(line).ends(status, warns)

    def environment(self) -> dict[str, str]:
        return {
            **{key: value for key, value in os.environ.items() if not key.startswith("NAS_ATTN_")},
            "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "NAS_ATTN_LOCK_DIR": str(self.logs / "locks"),
            "OMP_NUM_THREADS": "1",
            **self.variables,
        }

    def files(self) -> set[str]:
        """What lies in the folder."""
        return {path.name for path in self.folder.iterdir() if path.name != "__pycache__"}

    def left_behind(self) -> dict[int, str]:
        """Process -> command line of what this person's commands have started and is still there
        (Linux).
        """
        mark = f"NAS_ATTN_LOCK_DIR={self.logs / 'locks'}".encode()
        found = {}
        for place in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (place / "environ").read_bytes().split(b"\0"):
                    found[int(place.name)] = (
                        (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    )
            except OSError:
                continue  # gone meanwhile, or another user's
        return {pid: line for pid, line in found.items() if line}  # a zombie has none

    def leaves(self) -> None:
        """Ends what is left; a process that outlived its command is an error."""
        for command in self.commands:
            if command.process.poll() is None:
                os.killpg(command.process.pid, signal.SIGKILL)
                command.process.wait()
        try:
            for _ in patience("workers to notice that their command is gone", 20.0):
                if not self.left_behind():
                    return
        finally:
            for pid in self.left_behind():
                os.kill(pid, signal.SIGKILL)


def patience(what: str, seconds: float = PATIENCE_S) -> Iterator[None]:
    """Yields ten times a second until one should lose it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
        time.sleep(0.1)
    raise AssertionError(f"waited {seconds:.0f} s for {what}")
