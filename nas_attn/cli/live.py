"""The view that stays in place on a terminal while a study runs: how far it is, who is at what, the front, what came last."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

    from nas_attn.records import CandidateRow
    from nas_attn.study.opening import OpenStudy

MOST = 8
"""Workers shown at most; the others are counted."""
FRONT, LAST = 5, 3
"""Members of the front and last results shown at most."""
LOWEST = 16
"""Lines of a terminal from which on there is room for results."""
Show = Callable[[str, Sequence[str]], None]


def at_work(opened: OpenStudy) -> list[str]:
    """A line for each worker, the time first, so that a narrow terminal shows it; none where the database does not answer.

    The workers say that themselves.
    """
    from nas_attn.analysis.units import duration
    from nas_attn.errors import OperationError
    from nas_attn.study.overview import workers_of
    from nas_attn.study.presence import IDLE, STARTING
    from nas_attn.waiting import impatient

    try:
        with impatient():
            found = [worker for worker in workers_of(opened) if worker.state != "gone"]
    except OperationError:
        return []
    lines = []
    for worker in found[:MOST]:
        what = worker.waiting or worker.doing or worker.state
        if what == worker.doing not in (STARTING, IDLE):
            what = f"at {what}"
        lines.append(f"{worker.pid} on {worker.device}: {duration(worker.at_it_s)} {what}")
    return lines + ([f"and {len(found) - MOST} more: nas-attn status {opened.store.name}"] if len(found) > MOST else [])


def results(opened: OpenStudy) -> list[str]:
    """The front as told so far, and the last results; none where the database does not answer, or nothing has ended."""
    from nas_attn.errors import OperationError
    from nas_attn.study.progress import front_now
    from nas_attn.waiting import impatient

    try:
        with impatient():
            rows = {row.trial: row for row in opened.store.candidates()}
            values = opened.book.values() if any(row.state == "scored" for row in rows.values()) else {}
    except OperationError:
        return []
    objectives, front = opened.recipe.objectives, [trial for trial in front_now(opened, values) if trial in rows]
    lines = ["front so far:"] if front else []
    lines += [f"  {_short(objectives, rows[trial], values[trial])}" for trial in front[:FRONT]]
    if len(front) > FRONT:
        lines.append(f"  and {len(front) - FRONT} more")
    ended = sorted(
        (row for row in rows.values() if row.finished_at is not None), key=lambda row: row.finished_at or 0.0
    )
    lines += ["last:"] if ended else []
    return lines + [f"  {_short(objectives, row, values.get(row.trial))}" for row in reversed(ended[-LAST:])]


def _short(objectives: Sequence[str], row: CandidateRow, values: Sequence[float] | None) -> str:
    """A candidate that has ended, what counts first: its values or its state, its name, its placement or what went wrong."""
    from nas_attn.analysis.units import value

    name = row.baseline or f"trial {row.trial}"
    words = [row.state] if values is None else [value(o, v) for o, v in zip(objectives, values, strict=False)]
    more = row.reason if row.state in ("failed", "infeasible") else row.placement
    return "  ".join([*words, name, *([more] if more and more != name else [])])


@contextmanager
def live_view(console: Console) -> Iterator[tuple[Live, Show]]:
    """Yields where to print above the view, and what changes it: a line and what stands below it, cut to the terminal's width."""
    from rich.console import Group
    from rich.live import Live
    from rich.spinner import Spinner
    from rich.text import Text

    spinner = Spinner("dots")

    def show(line: str, below: Sequence[str]) -> None:
        spinner.update(text=Text(line, no_wrap=True, overflow="ellipsis"))
        rows = [Text(f"  {text}", style="dim", no_wrap=True, overflow="ellipsis") for text in below]
        moving.update(Group(spinner, *rows))

    with Live(
        spinner, console=console, transient=True, refresh_per_second=8, redirect_stdout=False, redirect_stderr=False
    ) as moving:
        yield moving, show
