"""The terminal: output without foreign control characters, prose that is wrapped between words (in
a file or a pipe each sentence is one line), and the progress view of a running study.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import Progress as Bar
from rich.progress import SpinnerColumn, TextColumn
from rich.segment import Segment
from rich.table import Column
from rich.text import Text

from nas_attn.errors import OperationError, printable
from nas_attn.system.wrapping import LABEL_COLUMNS, unquoted, wrapped

if TYPE_CHECKING:
    from nas_attn.answer.progress import Progress
    from nas_attn.storage.opening import OpenStudy

# before a row of the card
INDENT = "  "


class SafeConsole(Console):
    """Prints control characters as escapes: no text of a database moves the cursor or sets a
    title.
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


def show_prose(
    out: Console, text: str, *, label: str = "", indent: str = "", style: str = ""
) -> None:
    """Prints a sentence; its lines begin below one another, after the label.

    Args:
        out: Where it goes.
        text: The sentence.
        label: What stands before it, in a column of its own; empty: nothing.
        indent: Blanks before all of it.
        style: Of rich, like `bold`.
    """
    first = indent + (f"{label:<{LABEL_COLUMNS}}" if label else "")
    plain = unquoted(text)
    lines = [first + plain]
    if out.is_terminal:
        lines = wrapped(plain, out.width, first=first, rest=" " * len(first))
    for line in lines:
        show_line(out, line, style)


def show_command(out: Console, command: str, *, indent: str = INDENT) -> None:
    """A command to copy: in one line, which only the terminal itself breaks."""
    room = out.width - len(command)
    show_line(out, f"{indent if len(indent) <= room else ''}{command}")


def show_line(out: Console, line: str, style: str = "") -> None:
    """A line that only the terminal itself breaks."""
    out.print(Text(line, style=style), soft_wrap=True)


@contextmanager
def display(opened: OpenStudy, *, only: str | None, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Progress, of one purpose or all, on standard error: in place on a terminal, else as lines.
    Yields a function that prints a line.
    """
    console = SafeConsole(stderr=True, highlight=False)
    line = ProgressLine(opened, only)
    if quiet:
        yield lambda _text: None
    elif console.is_terminal:
        with progress_bar(console, line):
            yield lambda text: show_prose(console, text)
    else:

        def say(text: str) -> None:
            # a log on a full disk ends no search
            with suppress(OSError):
                # in one piece: the workers' lines come from threads
                sys.stderr.write(f"[{line}] {text}\n")
                sys.stderr.flush()

        yield say


class ProgressLine:
    """How far the runs are, in a line. If the database does not answer, it is as it was."""

    def __init__(self, opened: OpenStudy, only: str | None) -> None:
        self._opened = opened
        self._only = only
        self._before = self._counts()[0] if only else 0
        self._last = ""

    def __str__(self) -> str:
        """The line as of now."""
        from nas_attn.answer.progress import progress, progress_line
        from nas_attn.storage.opening import renewed
        from nas_attn.system.waiting import impatient

        # the workers say what is wrong with the database
        with impatient(), suppress(OperationError):
            self._opened = renewed(self._opened)
            now = progress(self._opened)
            self._last = self._of_runs(now) if self._only else progress_line(now)
        return self._last

    def _of_runs(self, now: Progress) -> str:
        """`3/16 runs, about 12 min left`, of one purpose since the beginning."""
        ended, left = self._counts()
        done = ended - self._before
        rest = f", {now.time_left}" if left and now.time_left else ""
        return f"{done}/{done + left} runs{rest}"

    def _counts(self) -> tuple[int, int]:
        """Runs of the purpose that have ended, and that wait."""
        rows = self._opened.store.queue.counts().items()
        own = {state: count for (purpose, state), count in rows if purpose == self._only}
        left = own.get("waiting", 0)
        return sum(own.values()) - left, left


def progress_bar(console: SafeConsole, line: object) -> Bar:
    """A line, written anew each second, that is cut where the terminal ends, and goes when it is
    done.
    """
    column = TextColumn(
        "{task.fields[line]}",
        markup=False,
        table_column=Column(no_wrap=True, overflow="ellipsis"),
    )
    column.max_refresh = 1.0
    bar = Bar(
        SpinnerColumn(),
        column,
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    bar.add_task("", line=line)
    return bar
