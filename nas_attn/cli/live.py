"""The view that stays in place on a terminal while a study runs: how far it is, and what each worker is at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

    from nas_attn.study.opening import OpenStudy

MOST = 8
"""Workers shown at most; the others are counted."""
Show = Callable[[str, Sequence[str]], None]


def at_work(opened: OpenStudy) -> list[str]:
    """A line for each worker; none where the database does not answer, which the workers say themselves."""
    from nas_attn.errors import OperationError
    from nas_attn.study.overview import workers_of
    from nas_attn.study.progress import duration
    from nas_attn.waiting import impatient

    try:
        with impatient():
            found = [worker for worker in workers_of(opened) if worker.state != "gone"]
    except OperationError:
        return []
    lines = [
        f"{worker.pid} on {worker.device}: {worker.waiting or worker.doing or worker.state}, {duration(worker.at_it_s)}"
        for worker in found[:MOST]
    ]
    return lines + ([f"and {len(found) - MOST} more: nas-attn status {opened.store.name}"] if len(found) > MOST else [])


@contextmanager
def live_view(console: Console) -> Iterator[tuple[Live, Show]]:
    """Yields where to print above the view, and what changes it: a line and the workers' lines, cut to the terminal's width."""
    from rich.console import Group
    from rich.live import Live
    from rich.spinner import Spinner
    from rich.text import Text

    spinner = Spinner("dots")

    def show(line: str, workers: Sequence[str]) -> None:
        spinner.update(text=Text(line, no_wrap=True, overflow="ellipsis"))
        rows = [Text(f"  {text}", style="dim", no_wrap=True, overflow="ellipsis") for text in workers]
        moving.update(Group(spinner, *rows))

    with Live(
        spinner, console=console, transient=True, refresh_per_second=8, redirect_stdout=False, redirect_stderr=False
    ) as moving:
        yield moving, show
