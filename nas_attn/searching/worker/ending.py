"""Why a worker ended, and how the process that started it learns that.

A worker process ends with an `errors.ExitStatus`. What it says on standard output is for people.
To the process that started it, it writes lines of JSON into a file of its own, whose path is in its
settings: `{"warning": TEXT}` for each warning, and last `{"ended": ENDING}`. A worker without the
last line did not end in order, whatever its exit status is (a user's code may call `os._exit(0)`).
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import Any

from nas_attn.errors import NasAttnWarning


class Ending(StrEnum):
    """Why a worker ended in order."""

    COMPLETE = "complete"
    """Nothing is left to do."""
    EXHAUSTED = "exhausted"
    """Every placement of the search space has been tried, or is over the limits."""
    TIME = "time"
    """The time for it is over."""
    STOPPED = "stopped"
    """It was told to stop."""


class Report:
    """What a worker process writes for the process that started it. If the file cannot be written,
    the work goes on.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)

    def warned(self, text: str) -> None:
        self._write({"warning": text})

    def ended(self, ending: Ending) -> None:
        self._write({"ended": str(ending)})

    def _write(self, line: dict[str, str]) -> None:
        # Opened anew, and written when it is closed: lines of several threads do not mix.
        with suppress(OSError), self._path.open("a") as file:
            file.write(f"{json.dumps(line)}\n")

    @contextmanager
    def takes_warnings(self) -> Iterator[None]:
        """Inside, warnings of nas_attn go into the report and not to standard error."""
        others = warnings.showwarning

        def take(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, NasAttnWarning):
                self.warned(str(message))
            else:
                others(message, category, *place, **more)

        with warnings.catch_warnings():
            warnings.showwarning = take
            yield


class Reading:
    """The same file, as the process that started the worker reads it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # lines
        self._read = 0
        self.ending: Ending | None = None
        """Why the worker ended; None while it works, and if it did not end in order. It may still
        need a while to leave.
        """

    def warnings(self) -> list[str]:
        """The warnings since the last call; takes in the ending, too."""
        try:
            lines = self._path.read_text().split("\n")[:-1]
        except FileNotFoundError:
            # it has written nothing yet
            return []
        new = [json.loads(line) for line in lines[self._read :]]
        self._read = len(lines)
        for line in new:
            if "ended" in line:
                self.ending = Ending(line["ended"])
        return [line["warning"] for line in new if "warning" in line]
