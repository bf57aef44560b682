"""`nas-attn worker`."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from nas_attn.study.opening import OpenStudy
    from nas_attn.study.searching import Options

LEFT_BEHIND = 3
"""Exit status where a run failed in the leader, so that the others have to be started anew."""


def worker(
    study: StudyName = None,
    storage: Storage = DEFAULT_STORAGE,
    threads: Threads = None,
    device: Device = "auto",
    time_limit: TimeLimit = None,
    storage_wait: StorageWait = None,
    verbose: Verbose = False,
    name: Annotated[str, typer.Option("--name", help="Shown before each line.")] = "worker",
    only: Annotated[
        str | None,
        typer.Option("--only", help="`validate` or `retrain`: the runs of these, and not those of the search."),
    ] = None,
    team: Annotated[
        bool, typer.Option("--team", hidden=True, help="As torchrun starts it, to train together.")
    ] = False,
    sharing: Sharing = 1,
    per_gpu: PerGpu = 1,
    orders: Orders = None,
) -> None:
    """Does what a study wants until it is complete. The recipe comes from the study."""
    if only not in (None, "validate", "retrain"):
        raise StudyError(
            f"--only '{only}' is nothing that a worker can be kept to: give validate or retrain, or leave it out"
        )
    from nas_attn.cli.running import INTERRUPTED
    from nas_attn.records import Share
    from nas_attn.study.local import LAST_WORD
    from nas_attn.study.searching import Options, work
    from nas_attn.study.stopping import interruptible

    stop = threading.Event()

    def say(line: str) -> None:
        if not team or os.environ.get("RANK") == "0":  # the others have nothing to add
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
        if team:
            together(study_named(study, storage), options, only)
            return
        try:
            ended = work(study_named(study, storage), options, only=only)
        except KeyboardInterrupt:  # the second signal; what it leaves has been said
            raise typer.Exit(INTERRUPTED) from None
    say(f"{LAST_WORD}{ended})")


def together(opened: OpenStudy, options: Options, only: str | None) -> None:
    """This process's part in training runs together, as the leader or a follower."""
    from nas_attn.records import Share
    from nas_attn.study.searching import follow, work
    from nas_attn.training.team import joined

    with joined(options.device) as team:
        options = replace(options, team=team, device=str(team.device), share=Share(machine=team.size, device=1))
        if not team.leads:
            follow(opened, replace(options, say=lambda text: None))
            return
        work(opened, options, only=only)
        if team.broken:
            sys.stdout.flush()
            os._exit(LEFT_BEHIND)  # what was done is in the database; the others wait for what does not come
