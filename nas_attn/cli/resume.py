"""`nas-attn resume`."""

from __future__ import annotations

from typing import Annotated

import typer

from nas_attn.cli.common import (
    AsJson,
    Device,
    ReportPath,
    Storage,
    StorageWait,
    StudyName,
    Threads,
    TimeLimit,
    Tried,
    Verbose,
    Workers,
    page_path,
    study_named,
)
from nas_attn.paths import DEFAULT_URL


def resume(
    study: StudyName = None,
    storage: Storage = DEFAULT_URL,
    trials: Annotated[int | None, typer.Option("--trials", min=1, help="New total of candidates.")] = None,
    tried: Tried = None,
    workers: Workers = None,
    threads: Threads = None,
    device: Device = "auto",
    time_limit: TimeLimit = None,
    report: ReportPath = None,
    storage_wait: StorageWait = None,
    verbose: Verbose = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    as_json: AsJson = False,
) -> None:
    """Goes on with a study: half-trained trials from their last checkpoint, then new ones."""
    from nas_attn.cli.running import Effort, run
    from nas_attn.study import searching

    page_path(report)
    opened = study_named(study, storage)
    searching.check_here(opened.recipe, device=device)
    searching.check_start(opened)
    searching.take_up(opened, trials=trials, tried=tried or [])
    effort = Effort(workers, threads, device, time_limit, quiet or as_json, verbose)
    run(opened, effort, report=report, as_json=as_json)
