"""`nas-attn worker`."""

from __future__ import annotations

import threading

import typer

from nas_attn.cli.common import (
    Device,
    PerGpu,
    Sharing,
    Storage,
    StorageWait,
    StudyName,
    Threads,
    TimeLimit,
    Verbose,
    echo,
    study_named,
)
from nas_attn.paths import DEFAULT_URL


def worker(
    study: StudyName = None,
    storage: Storage = DEFAULT_URL,
    threads: Threads = None,
    device: Device = "auto",
    time_limit: TimeLimit = None,
    storage_wait: StorageWait = None,
    verbose: Verbose = False,
    sharing: Sharing = 1,
    per_gpu: PerGpu = 1,
) -> None:
    """Does what a study wants until it is complete. The recipe comes from the study."""
    from nas_attn.cli.running import INTERRUPTED
    from nas_attn.records import Share
    from nas_attn.study.local import LAST_WORD
    from nas_attn.study.searching import Options, work
    from nas_attn.study.stopping import interruptible
    from nas_attn.study.worker_process import WorkerSettings, settings_given

    told = settings_given() or WorkerSettings(
        device=device, threads=threads, time_limit_s=time_limit, sharing=max(sharing, per_gpu), per_gpu=per_gpu
    )
    stop = threading.Event()

    def say(line: str) -> None:
        echo(f"{told.name}: {line}")

    options = Options(
        device=told.device,
        threads=told.threads,
        time_limit_s=told.time_limit_s,
        say=say,
        stop=stop,
        share=Share(machine=told.sharing, device=told.per_gpu),
        verbose=verbose,
    )
    with interruptible(stop, say, orders=told.orders):
        try:
            ended = work(study_named(study, storage), options, only=told.only)
        except KeyboardInterrupt:  # the second signal; what it leaves has been said
            raise typer.Exit(INTERRUPTED) from None
    say(f"{LAST_WORD}{ended})")
