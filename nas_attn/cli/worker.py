"""`nas-attn worker`."""

from __future__ import annotations

import threading
from typing import Annotated

import typer

from nas_attn.cli.common import (
    DEFAULT_STORAGE,
    Device,
    Parent,
    PerGpu,
    Sharing,
    Storage,
    StudyName,
    Threads,
    TimeLimit,
    study_named,
)


def worker(
    study: StudyName = None,
    storage: Storage = DEFAULT_STORAGE,
    threads: Threads = None,
    device: Device = "auto",
    time_limit: TimeLimit = None,
    name: Annotated[str, typer.Option("--name", help="Shown before each line.")] = "worker",
    sharing: Sharing = 1,
    per_gpu: PerGpu = 1,
    parent: Parent = None,
) -> None:
    """Evaluates candidates of a study until it is complete. The recipe comes from the study."""
    from nas_attn.records import Share
    from nas_attn.study.local import interruptible, watch_parent
    from nas_attn.study.searching import Options, work

    stop = threading.Event()
    if parent is not None:
        watch_parent(parent, stop)

    def say(line: str) -> None:
        typer.echo(f"{name}: {line}")

    opened = study_named(study, storage)
    share = Share(machine=max(sharing, per_gpu), device=per_gpu)
    options = Options(device=device, threads=threads, time_limit_s=time_limit, say=say, stop=stop, share=share)
    with interruptible(stop, say):
        ended = work(opened, options)
    say(f"done ({ended})")
