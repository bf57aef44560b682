"""`nas-attn worker`."""

from __future__ import annotations

import threading
from typing import Annotated

import typer

from nas_attn.cli.common import (
    DEFAULT_STORAGE,
    Device,
    Orders,
    PerGpu,
    Sharing,
    Storage,
    StorageWait,
    StudyName,
    Threads,
    TimeLimit,
    Verbose,
    study_named,
)
from nas_attn.errors import StudyError


def worker(
    study: StudyName = None,
    storage: Storage = DEFAULT_STORAGE,
    threads: Threads = None,
    device: Device = "auto",
    time_limit: TimeLimit = None,
    storage_wait: StorageWait = None,
    verbose: Verbose = False,
    name: Annotated[str, typer.Option("--name", help="Name shown before each line.")] = "worker",
    only: Annotated[
        str | None,
        typer.Option("--only", help="Do only the runs of `validate` or of `retrain`, not those of the search."),
    ] = None,
    sharing: Sharing = 1,
    per_gpu: PerGpu = 1,
    orders: Orders = None,
) -> None:
    """Does what a study wants until it is complete. The recipe comes from the study."""
    if only not in (None, "validate", "retrain"):
        raise StudyError(f"--only '{only}' is unknown: give validate or retrain, or omit it")
    from nas_attn.cli.running import INTERRUPTED
    from nas_attn.records import Share
    from nas_attn.study.local import LAST_WORD
    from nas_attn.study.searching import Options, work
    from nas_attn.study.stopping import interruptible

    stop = threading.Event()

    def say(line: str) -> None:
        typer.echo(f"{name}: {line}")

    share = Share(machine=max(sharing, per_gpu), device=per_gpu)
    options = Options(
        device=device,
        threads=threads,
        time_limit_s=time_limit,
        say=say,
        stop=stop,
        share=share,
        verbose=verbose,
    )
    with interruptible(stop, say, orders):
        try:
            ended = work(study_named(study, storage), options, only=only)
        except KeyboardInterrupt:  # the second signal; what it leaves has been said
            raise typer.Exit(INTERRUPTED) from None
    say(f"{LAST_WORD}{ended})")
