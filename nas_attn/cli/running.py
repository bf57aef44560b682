"""What the commands share that have runs done: start workers, then say what came out."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nas_attn.cli.common import at_storage, console, display, echo, print_json
from nas_attn.errors import NasAttnError

if TYPE_CHECKING:
    from nas_attn.analysis.snapshot import Snapshot
    from nas_attn.study.opening import OpenStudy

INTERRUPTED = 130


@dataclass(frozen=True)
class Effort:
    """What the commands that have runs done are told about it by their common options."""

    workers: int | None
    threads: int | None
    device: str
    time_limit_s: float | None
    quiet: bool
    verbose: bool


def do_runs(opened: OpenStudy, again: str, effort: Effort, *, only: str | None = None) -> str:
    """Runs workers until there is nothing left to do, or a signal stops them. Returns why they ended.

    After a second signal the program ends here, at once.

    Args:
        again: the command that goes on.
        only: the purpose of the runs to do; None: all of the search.
    """
    from nas_attn.study.local import run_workers
    from nas_attn.study.searching import Options, default_workers
    from nas_attn.study.stopping import interruptible

    stop, ended = threading.Event(), ""
    with display(opened, quiet=effort.quiet) as say, interruptible(stop, say):
        options = Options(
            device=effort.device,
            threads=effort.threads,
            time_limit_s=effort.time_limit_s,
            say=say,
            stop=stop,
            verbose=effort.verbose,
        )
        with suppress(KeyboardInterrupt):
            ended = run_workers(opened, effort.workers or default_workers(effort.device), options, only=only)
    if not ended:
        echo(f"stopped at once; go on with: {again}", err=True)
        os._exit(INTERRUPTED)  # no waiting for threads: the database holds all that counts
    return ended


def run(opened: OpenStudy, effort: Effort, *, report: str | None, as_json: bool) -> None:
    """Runs workers until the study is complete or interrupted, and prints the answer.

    Raises:
        typer.Exit: with 130 where it was interrupted.
    """
    from nas_attn.study.publishing import Publisher, write_study_report

    again = f"nas-attn resume {opened.store.name}{at_storage(opened.url)}"
    ended = do_runs(opened, again, effort)
    now = Publisher(opened).current()
    path: Path | None = None
    unwritten: NasAttnError | None = None
    try:
        path = write_study_report(opened, now, Path(report) if report else None)
    except NasAttnError as error:  # after a long search the answer comes first
        unwritten = error
    if as_json:
        _print_ended(opened, now, ended, path)
    else:
        from nas_attn.cli.showing import show_answer, show_front, show_next

        out = console()
        show_answer(out, now)
        out.print()
        show_front(out, now)
        show_next(out, now, storage=opened.url, report=path, ended=ended)
    if unwritten is not None:
        raise unwritten
    if ended == "stopped":
        echo(f"stopped before the end; go on with: {again}", err=True)
        raise typer.Exit(INTERRUPTED)
    if ended == "time":
        echo(f"the time limit is reached; go on with: {again}", err=True)
    if ended == "exhausted":
        echo("every placement of the search space has been tried", err=True)


def _print_ended(opened: OpenStudy, now: Snapshot, ended: str, report: Path | None) -> None:
    from nas_attn.storage import shown_url

    written = None if report is None else str(report)
    print_json({**now.as_dict(), "ended": ended, "report": written, "storage": shown_url(opened.url)})
