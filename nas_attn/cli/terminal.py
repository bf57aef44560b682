"""The terminal: output without foreign control characters, prose that is wrapped between words (in
a file or a pipe each sentence is one line), and the progress view of a running study.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.spinner import Spinner
from rich.text import Text

from nas_attn.errors import OperationError, printable
from nas_attn.system.wrapping import LABEL_COLUMNS, unquoted, wrapped

if TYPE_CHECKING:
    from nas_attn.storage.opening import OpenStudy

# letters of the bar
BAR_COLUMNS = 20
# Workers shown at most
WORKERS = 8
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


def show_paragraph(out: Console, title: str, sentences: Sequence[str]) -> None:
    """A title, and sentences below it."""
    out.print(title, style="bold", markup=False)
    for sentence in sentences:
        show_prose(out, sentence, indent=INDENT)


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
    if quiet:
        yield lambda _text: None
        return
    line = ProgressLine(opened, only)
    if not SafeConsole(stderr=True).is_terminal:

        def say(text: str) -> None:
            # a log on a full disk ends no search
            with suppress(OSError):
                # in one piece: the workers' lines come from threads
                sys.stderr.write(f"[{line.read()}] {text}\n")
                sys.stderr.flush()

        yield say
        return
    # A descriptor of its own: while an evaluator runs, a log replaces standard error, and the view
    # goes on.
    with os.fdopen(
        os.dup(2), "w", encoding=sys.stderr.encoding, errors=sys.stderr.errors
    ) as terminal:
        console = SafeConsole(file=terminal, highlight=False)
        with _shown(console, line):
            yield lambda text: show_prose(console, text)


class ProgressLine:
    """How far the runs are, in a line. If the database does not answer, it is as it was."""

    def __init__(self, opened: OpenStudy, only: str | None) -> None:
        self.opened = opened
        self._only = only
        self._before = _ended(opened, only) if only else 0
        self._began = time.monotonic()
        self._last = ""
        self._left_s = math.inf

    def read(self) -> str:
        """The line as of now."""
        from nas_attn.answer.progress import progress, progress_line
        from nas_attn.storage.opening import renewed
        from nas_attn.system.waiting import impatient

        # the workers say what is wrong with the database
        with impatient(), suppress(OperationError):
            if self._only:
                of_runs = _of_runs(self.opened, self._only, self._before, self.seconds)
                self._last, self._left_s = of_runs
            else:
                self.opened = renewed(self.opened)
                now = progress(self.opened)
                self._last = progress_line(now)
                self._left_s = math.inf if now.left_s is None else now.left_s
        return self._last

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began

    def bar(self) -> str:
        """The share of the time that is over, as it was known when the line was read."""
        seconds = self.seconds
        if seconds > 0:
            return f"{_bar(seconds / (seconds + self._left_s))} "
        return ""


class TurningLine:
    """A turning mark and a text in one line, which is cut where the terminal ends."""

    def __init__(self) -> None:
        self._spinner = Spinner("dots")
        self.text = ""

    def __rich_console__(self, console: Console, _options: ConsoleOptions) -> RenderResult:
        mark = self._spinner.render(console.get_time())
        # assembled anew: a spinner's own text loses these settings, and wraps
        yield Text(f"{mark} {self.text}", no_wrap=True, overflow="ellipsis")


@contextmanager
def _shown(console: SafeConsole, line: ProgressLine) -> Iterator[None]:
    """Shows the line and what each worker does, anew each second, at the end of a terminal."""
    done = threading.Event()
    spinner = TurningLine()
    live = Live(
        spinner,
        console=console,
        transient=True,
        refresh_per_second=8,
        redirect_stdout=False,
        redirect_stderr=False,
    )

    def update() -> None:
        rows = [
            Text(f"  {text}", style="dim", no_wrap=True, overflow="ellipsis")
            for text in _at_work(line.opened)
        ]
        text = line.read()
        spinner.text = f"{line.bar()}{text}"
        live.update(Group(spinner, *rows))

    def tick() -> None:
        while not done.wait(1.0):
            update()

    with live:
        update()
        thread = threading.Thread(target=tick, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def _ended(opened: OpenStudy, purpose: str) -> int:
    """Runs of a purpose that have ended."""
    return sum(
        n
        for (what, state), n in opened.store.queue.counts().items()
        if what == purpose and state != "waiting"
    )


def _bar(share: float) -> str:
    """A progress bar over all phases, by time."""
    done = round(BAR_COLUMNS * share)
    return "━" * done + "─" * (BAR_COLUMNS - done)


def _of_runs(opened: OpenStudy, purpose: str, before: int, seconds: float) -> tuple[str, float]:
    """`3/16 runs, about 12 min left`, and the seconds that are left."""
    from nas_attn.answer.progress import target_s
    from nas_attn.recipe.units import duration

    done = _ended(opened, purpose) - before
    left = opened.store.queue.counts().get((purpose, "waiting"), 0)
    # before the first has ended: the pace of the search
    each_s = seconds / done if done else target_s(opened)
    if each_s is None:
        left_s = math.inf
    else:
        left_s = max(0.0, each_s * left - (0.0 if done else seconds))
    rest = ""
    if left and left_s < math.inf:
        rest = f", about {duration(left_s)} left"
    return f"{done}/{done + left} runs{rest}", left_s


def _at_work(opened: OpenStudy) -> list[str]:
    """A line for each worker, the time first, so that a narrow terminal shows it; none if the
    database does not answer.
    """
    from nas_attn.answer.workers import workers_of
    from nas_attn.recipe.units import duration
    from nas_attn.searching.worker.presence import IDLE, STARTING
    from nas_attn.system.waiting import impatient

    workers = []
    with impatient(), suppress(OperationError):
        workers = [worker for worker in workers_of(opened) if worker.state != "gone"]
    lines = []
    for worker in workers[:WORKERS]:
        has_run = worker.doing not in (STARTING, IDLE)
        what = worker.waiting or worker.doing or worker.state
        at = "at " if has_run and what == worker.doing else ""
        lines.append(f"{worker.pid} on {worker.device}: {duration(worker.at_it_s)} {at}{what}")
    more = len(workers) - WORKERS
    if more > 0:
        lines.append(f"and {more} more: nas-attn status {opened.store.name}")
    return lines
