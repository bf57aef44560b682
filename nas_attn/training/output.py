"""Redirects an evaluator's output (of Python, C, child processes) into a file, by descriptors 1 and
2.
"""

from __future__ import annotations

import ctypes
import os
import re
import socket
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from nas_attn.system.environment import debugging

# beside a study's artifacts
FOLDER = "logs"
# else Windows writes two line ends
LOG_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)


def log_for(
    folder: Path, study: str, tell: Callable[[str, str], None], *, verbose: bool
) -> OutputLog | None:
    """Gives the log of this process; None if its evaluator prints to the terminal.

    Args:
        folder: beside the study's artifacts.
        study: its name, which the file's name begins with.
        tell: called once with the file's path, as OutputLog says.
        verbose: whether the evaluator prints to the terminal, as it does while debugging.
    """
    if verbose or debugging():
        return None
    name = re.sub(r"[^\w.-]+", "_", f"{study}-{socket.gethostname()}-{os.getpid()}")
    return OutputLog(folder / FOLDER / f"{name}.log", tell)


class OutputLog:
    """A file that replaces standard output and error for a while; if several threads do this, the
    first one's file gets all.
    """

    def __init__(self, path: Path, tell: Callable[[str, str], None]) -> None:
        """`tell` is called once with the file's path, as soon as it has content, and an empty text;
        if the file cannot be written, the text is why.
        """
        self.path = path
        self._tell = tell
        self._told = False
        self._stream: TextIO | None = None

    @contextmanager
    def taking(self, title: str) -> Iterator[None]:
        """Inside, printed text and the traceback of an exception go to the file, under a title."""
        stream = self._opened()
        if stream is None or not _begin(stream):
            yield
            return
        empty = _size(stream)
        begun = empty
        try:
            print(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {title}", file=stream)
            begun = _size(stream)
            yield
        except Exception:
            traceback.print_exc(file=stream)
            raise
        finally:
            _end()
            if _size(stream) > begun:
                self._tell_once("")
            else:
                with suppress(OSError):
                    os.ftruncate(stream.fileno(), empty)

    def _opened(self) -> TextIO | None:
        """The file; its descriptor stays open, since an evaluator's logger may hold it. None if it
        cannot be written.
        """
        if self._stream is None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(self.path, LOG_FLAGS, 0o666)
            except OSError as error:
                self._tell_once(error.strerror or str(error))
                return None
            self._stream = open(  # noqa: SIM115 - a logger may hold it for longer than we do
                descriptor, "w", 1, "utf-8", "backslashreplace", "\n", closefd=False
            )
            weakref.finalize(self, _remove_if_empty, self.path)
        return self._stream

    def _tell_once(self, failure: str) -> None:
        if not self._told:
            self._told = True
            self._tell(shown(self.path), failure)


def shown(path: Path) -> str:
    """The shortest path that leads there from the working folder."""
    with suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


@contextmanager
def on_terminal() -> Iterator[None]:
    """Inside, output goes to the terminal again. For threads other than the evaluator's; not for
    signal handlers.
    """
    with _lock:
        if _taken is None:
            yield
            return
        _taken.give_back()
        try:
            yield
        finally:
            _taken.take()


def leave_terminal() -> None:
    """Discards output to a closed terminal, for all copies of its descriptor."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in range(256):
        if os.isatty(descriptor):
            os.dup2(nowhere, descriptor)
    os.close(nowhere)


class _Taken:
    """The original standard output and error, and the stream that replaces them."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._output = sys.stdout
        self._error = sys.stderr
        self._copies: dict[int, int] = {}
        for number in (1, 2):
            # closed
            with suppress(OSError):
                self._copies[number] = os.dup(number)
        self.take()

    def take(self) -> None:
        _flush(sys.stdout, sys.stderr)
        for number in self._copies:
            os.dup2(self._stream.fileno(), number)
        sys.stdout = sys.stderr = self._stream

    def give_back(self) -> None:
        _flush(self._stream, self._output, self._error)
        for number, copy in self._copies.items():
            os.dup2(copy, number)
        sys.stdout = self._output
        sys.stderr = self._error

    def end(self) -> None:
        self.give_back()
        for copy in self._copies.values():
            os.close(copy)


_taken: _Taken | None = None
_lock = threading.Lock()


def _begin(stream: TextIO) -> bool:
    """Starts the redirection to a stream; False if another one is active."""
    global _taken
    with _lock:
        if _taken is not None:
            return False
        _taken = _Taken(stream)
        return True


def _end() -> None:
    global _taken
    with _lock:
        assert _taken is not None
        _taken.end()
        _taken = None


def _flush(*streams: TextIO | None) -> None:
    """Flushes Python's and C's buffers."""
    for stream in streams:
        # none, closed, or on a full disk
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()  # type: ignore[union-attr]
    with suppress(OSError, AttributeError):
        ctypes.CDLL("ucrtbase" if sys.platform == "win32" else None).fflush(None)


def _size(stream: TextIO) -> int:
    _flush(stream)
    return os.fstat(stream.fileno()).st_size


def _remove_if_empty(path: Path) -> None:
    with suppress(OSError):
        if path.is_file() and path.stat().st_size == 0:
            path.unlink()
