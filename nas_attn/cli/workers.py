"""`nas-attn worker` and `stop`."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import nullcontext, redirect_stdout, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from nas_attn.cli.commands import Context
from nas_attn.cli.common import (
    INTERRUPTED,
    Device,
    StudyName,
    Threads,
    Time,
    clock,
    echo,
    print_json,
    quiet_optuna,
    study_named,
)
from nas_attn.cli.running import ended_after
from nas_attn.errors import (
    several,
)

if TYPE_CHECKING:
    from nas_attn.answer.workers import WorkerView
    from nas_attn.searching.run.taking_part import Options
    from nas_attn.searching.worker.ending import Ending
    from nas_attn.storage.opening import OpenStudy

# seconds for which `stop` waits that the workers end
WAIT_FOR_WORKERS_S = 300.0


def worker(
    context: Context,
    study: StudyName = None,
    time: Time = None,
    threads: Threads = None,
    device: Device = "auto",
) -> None:
    """Work on a study as one more worker, or one per GPU. On any machine that has the database.

    Examples:
      nas-attn worker digits
      nas-attn worker --time 8h --storage postgresql://me@server/studies

    Several GPUs and machines: docs/how-to/run-anywhere.md
    """
    from nas_attn.searching.run.taking_part import Options
    from nas_attn.searching.run.worker_process import told as told_here
    from nas_attn.searching.worker.stopping import interruptible

    seconds = clock(time)
    told = told_here()
    name = "worker"
    if told is not None:
        name = told.name
        context.trust = told.trusted
    stop = threading.Event()

    def say(line: str) -> None:
        # a log on a full disk ends no work
        with suppress(OSError):
            if not context.quiet:
                echo(f"{name}: {line}", err=context.as_json)

    options = Options(device, threads, say=say, stop=stop)
    if told is not None:
        options = replace(options, **told.options)
    quiet_optuna()
    with (
        interruptible(stop, say, orders=told is not None),
        # what an evaluator prints is not the result
        redirect_stdout(sys.stderr) if context.as_json else nullcontext(),
    ):
        work = partial(_work, context, study, options, alone=told is not None)
        ended = ended_after(seconds, stop, work)
    if context.as_json:
        print_json({"worker": name, "ended": ended})
    else:
        say(f"done ({ended})")
    if told is not None:
        with suppress(OSError):
            Path(told.report).write_text(ended)


def _work(context: Context, study: str | None, options: Options, *, alone: bool) -> Ending:
    """Takes part in a study; why it ended.

    Args:
        context: The command's.
        study: Its name; None: the only one.
        options: Of each worker.
        alone: Whether this is one worker; else there are as many as is usual on the GPUs here.

    Raises:
        Exit: It was stopped at once.
    """
    from nas_attn.searching.run.local import run_workers
    from nas_attn.searching.worker.devices import gpus_for, usual_workers

    try:
        opened = study_named(context, study, runs_code=True)
        workers = 1
        if not alone and gpus_for(options.device):
            workers = usual_workers(opened, options.device)
        return run_workers(opened, workers, options)
    except KeyboardInterrupt:
        # the second signal; the worker has said what is unfinished
        raise typer.Exit(INTERRUPTED) from None


def stop(
    context: Context,
    study: StudyName = None,
    wait: Annotated[bool, Option("--wait/--no-wait", help="Wait until they have ended.")] = True,
) -> None:
    """Tell all workers of a study to save and end.

    Examples:
      nas-attn stop
      nas-attn stop digits --no-wait

    Several machines: docs/how-to/run-anywhere.md
    """
    from nas_attn.searching.worker.presence import stop_workers

    opened = study_named(context, study)
    there = _working(opened)
    stop_workers(opened)
    told = len(there)
    if not context.as_json:
        echo(f"told {several(told, 'worker')} to stop")
    end = time.monotonic() + WAIT_FOR_WORKERS_S
    while wait and there and time.monotonic() < end:
        time.sleep(0.5)
        there = _working(opened)
    if context.as_json:
        working = [f"{worker.machine} {worker.pid}" for worker in there]
        print_json({"told": told, "working": working})
    elif wait and there:
        left = ", ".join(f"{worker.machine} {worker.pid} ({worker.doing})" for worker in there)
        echo(f"still running after {WAIT_FOR_WORKERS_S:.0f} s: {left}")
    elif wait:
        echo("all workers have ended")


def _working(opened: OpenStudy) -> list[WorkerView]:
    from nas_attn.answer.workers import workers_of

    return [worker for worker in workers_of(opened) if worker.works]
