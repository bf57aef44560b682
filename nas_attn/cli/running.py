"""What `search` and `resume` share: run workers, then say what came out."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nas_attn.cli.common import at_storage, console, display, print_json
from nas_attn.errors import NasAttnError

if TYPE_CHECKING:
    from nas_attn.study.opening import OpenStudy

INTERRUPTED = 130


def run(
    opened: OpenStudy,
    *,
    workers: int | None,
    threads: int | None,
    device: str,
    mps: bool,
    time_limit_s: float | None,
    report: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Runs workers until the study is complete or interrupted, and prints the answer.

    Raises:
        typer.Exit: with 130 where it was interrupted.
    """
    from nas_attn.study.local import interruptible, run_workers
    from nas_attn.study.searching import Options, Publisher, default_workers, report_path

    stop = threading.Event()
    with display(opened, quiet=quiet or as_json) as say, interruptible(stop, say):
        options = Options(device=device, threads=threads, time_limit_s=time_limit_s, say=say, stop=stop, mps=mps)
        try:
            ended = run_workers(opened, workers or default_workers(device), options)
        except KeyboardInterrupt:  # the second Ctrl-C: no waiting for threads, the database holds all that counts
            os._exit(INTERRUPTED)
    from nas_attn.report import write_report
    from nas_attn.storage import shown_url

    now = Publisher(opened).now()
    path, unwritten = Path(report) if report else report_path(opened), None
    try:
        path = write_report(now, path)
    except NasAttnError as error:  # after a long search the answer comes first
        unwritten = error
    if as_json:
        print_json(
            {
                **now.as_dict(),
                "ended": ended,
                "report": None if unwritten else str(path),
                "storage": shown_url(opened.url),
            }
        )
    else:
        from nas_attn.cli.showing import show_answer, show_next

        out = console()
        show_answer(out, now)
        show_next(out, now, storage=opened.url, report=None if unwritten else path)
    if unwritten is not None:
        raise unwritten
    if ended == "stopped":
        again = f"nas-attn resume {opened.store.name}{at_storage(opened.url)}"
        typer.echo(f"stopped before the end; go on with: {again}", err=True)
        raise typer.Exit(INTERRUPTED)
    if ended == "exhausted":
        typer.echo("every placement of the search space has been tried", err=True)
