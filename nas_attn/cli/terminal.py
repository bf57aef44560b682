"""The terminal: output without the control characters of others, and the view that stays in place while a study runs."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.live import Live
from rich.segment import Segment
from rich.spinner import Spinner
from rich.text import Text

from nas_attn.errors import OperationError, printable

if TYPE_CHECKING:
    from nas_attn.study.opening import OpenStudy

WORKERS = 8  # Workers shown at most


class SafeConsole(Console):
    """Prints letters that a terminal would obey as escapes: nothing in a database moves the cursor or sets a title."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


@contextmanager
def display(opened: OpenStudy, *, only: str | None, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Progress, of one purpose or all, on standard error: in place on a terminal, else as lines. Yields where to say things."""
    from nas_attn.study.progress import progress
    from nas_attn.waiting import impatient

    last, began, before = "", time.monotonic(), _ended(opened, only) if only else 0

    def line() -> str:
        nonlocal last
        with impatient(), suppress(OperationError):  # the workers say what is wrong with the database
            seconds = time.monotonic() - began
            last = _of_runs(opened, only, before, seconds) if only else progress(opened).line()
        return last

    if quiet:
        yield lambda text: None
        return
    if not SafeConsole(stderr=True).is_terminal:
        yield lambda text: print(f"[{line()}] {text}", file=sys.stderr, flush=True)
        return
    done, spinner = threading.Event(), Spinner("dots")
    # A descriptor of its own: a log takes over standard error while an evaluator runs, and the view moves on.
    with os.fdopen(os.dup(2), "w", encoding=sys.stderr.encoding, errors="backslashreplace") as terminal:
        console = SafeConsole(file=terminal, highlight=False)
        live = Live(
            spinner, console=console, transient=True, refresh_per_second=8, redirect_stdout=False, redirect_stderr=False
        )

        def update() -> None:
            rows = [Text(f"  {text}", style="dim", no_wrap=True, overflow="ellipsis") for text in _at_work(opened)]
            spinner.update(text=Text(line(), no_wrap=True, overflow="ellipsis"))
            live.update(Group(spinner, *rows))

        def tick() -> None:
            while not done.wait(1.0):
                update()

        with live:
            update()
            thread = threading.Thread(target=tick, daemon=True)
            thread.start()
            try:
                yield lambda text: console.print(text, markup=False)
            finally:
                done.set()
                thread.join()


def _ended(opened: OpenStudy, purpose: str) -> int:
    """Runs of a purpose that have ended."""
    return sum(n for (what, state), n in opened.store.queue.counts().items() if what == purpose and state != "waiting")


def _of_runs(opened: OpenStudy, purpose: str, before: int, seconds: float) -> str:
    """`3/16 runs, about 12 min left`."""
    from nas_attn.analysis.units import duration

    done = _ended(opened, purpose) - before
    left = opened.store.queue.counts().get((purpose, "waiting"), 0)
    rest = f", about {duration(seconds / done * left)} left" if done > 0 and left else ""
    return f"{done}/{done + left} runs{rest}"


def _at_work(opened: OpenStudy) -> list[str]:
    """A line for each worker, the time first, so that a narrow terminal shows it; none if the database does not answer."""
    from nas_attn.analysis.units import duration
    from nas_attn.study.progress import workers_of
    from nas_attn.study.stopping import IDLE, STARTING
    from nas_attn.waiting import impatient

    found = []
    with impatient(), suppress(OperationError):
        found = [worker for worker in workers_of(opened) if worker.state != "gone"]
    lines = []
    for worker in found[:WORKERS]:
        what = worker.waiting or worker.doing or worker.state
        at = "at " if what == worker.doing not in (STARTING, IDLE) else ""
        lines.append(f"{worker.pid} on {worker.device}: {duration(worker.at_it_s)} {at}{what}")
    more = len(found) - WORKERS
    return lines + ([f"and {more} more: nas-attn status {opened.store.name}"] if more > 0 else [])
