"""What the commands share that train: start workers, then say what came out."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nas_attn.cli.common import at_storage, console, echo, print_json
from nas_attn.cli.options import Effort
from nas_attn.errors import NasAttnError

if TYPE_CHECKING:
    from nas_attn.study.opening import OpenStudy

INTERRUPTED = 130


def do_runs(
    opened: OpenStudy,
    again: str,
    effort: Effort,
    *,
    only: str | None = None,
    quiet: bool = False,
    workers: int | None = None,
    left_s: float | None = None,
) -> str:
    """Runs workers until there is nothing left to do, or a signal stops them. Returns why they ended.

    After a second signal the program ends here, at once.

    Args:
        again: the command that goes on.
        only: the purpose of the runs to do; None: all of the search.
        workers: how many, in place of `effort.workers`.
        left_s: seconds until all of it ends; None: when there is nothing left to do.
    """
    from nas_attn.cli.terminal import display
    from nas_attn.study.local import run_workers
    from nas_attn.study.searching import Options, default_workers
    from nas_attn.study.stopping import interruptible

    stop, over, ended = threading.Event(), threading.Event(), ""
    limits = [limit for limit in (effort.time_limit, left_s) if limit is not None]

    def end() -> None:
        over.set()
        stop.set()

    clock = threading.Timer(left_s or 0.0, end)
    if left_s is not None:
        clock.daemon = True
        clock.start()
    with display(opened, only=only, quiet=effort.quiet or quiet) as say, interruptible(stop, say):
        options = Options(
            device=effort.device,
            threads=effort.threads,
            time_limit_s=min(limits, default=None),
            say=say,
            stop=stop,
            verbose=effort.verbose,
        )
        with suppress(KeyboardInterrupt):
            count = workers or effort.workers or default_workers(effort.device)
            ended = run_workers(opened, count, options, only=only)
    clock.cancel()
    if not ended:
        echo(f"stopped at once; go on with: {again}", err=True)
        os._exit(INTERRUPTED)  # no waiting for threads: the database holds all that counts
    return "time" if ended == "stopped" and over.is_set() else ended


def run(opened: OpenStudy, effort: Effort, *, report: str | None, as_json: bool, left_s: float | None = None) -> None:
    """Runs workers until the study is complete or interrupted, and prints the answer.

    Args:
        left_s: as in `do_runs`.

    Raises:
        typer.Exit: with 130 where it was interrupted.
    """
    from nas_attn.cli.showing import show_answer, show_front, show_next
    from nas_attn.storage import shown_url
    from nas_attn.study.publishing import Publisher, write_study_report

    again = f"nas-attn resume {opened.store.name}{at_storage(opened.url)}"
    ended = do_runs(opened, again, effort, quiet=as_json, left_s=left_s)
    now = Publisher(opened).current()
    path: Path | None = None
    unwritten: NasAttnError | None = None
    try:
        path = write_study_report(opened, now, Path(report) if report else None)
    except NasAttnError as error:  # after a long search the answer comes first
        unwritten = error
    if as_json:
        written = None if path is None else str(path)
        print_json({**now.as_dict(), "ended": ended, "report": written, "storage": shown_url(opened.url)})
    else:
        out = console()
        show_answer(out, now, opened.url)
        out.print()
        show_front(out, now)
        show_next(out, now, storage=opened.url, report=path, ended=ended)
    if unwritten is not None:
        raise unwritten
    if ended == "stopped":
        echo(f"stopped before the end; go on with: {again}", err=True)
        raise typer.Exit(INTERRUPTED)
    if ended == "time":
        echo(f"the time is over; go on with: {again}", err=True)
    if ended == "exhausted":
        echo("every placement of the search space has been tried", err=True)
