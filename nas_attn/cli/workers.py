"""`nas-attn worker`, `launch` and `stop`."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import asdict
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
    at_storage,
    clock,
    echo,
    print_json,
    quiet_optuna,
    study_named,
)
from nas_attn.cli.running import stopped_after
from nas_attn.errors import (
    DeviceLost,
    ExitStatus,
    NasAttnError,
    StudyError,
    UserError,
    several,
    shorten,
)

if TYPE_CHECKING:
    from nas_attn.answer.workers import WorkerView
    from nas_attn.searching.run.launching import Launched
    from nas_attn.searching.run.worker_process import WorkerSettings
    from nas_attn.searching.worker.ending import Ending
    from nas_attn.storage.opening import OpenStudy

# of the last line of a log
LOG_LINE_LETTERS = 300
# jobs that `launch` names
SHOWN_JOBS = 4
# of a job: Slurm warns a minute before its end, and the worker needs some time after the start
FEWEST_MINUTES = 3
# options that the process has which takes the place of a worker without its GPU
_FLAGS = {"--json": "as_json", "--quiet": "quiet", "--verbose": "verbose"}
# seconds for which `stop` waits that the workers end
WAIT_FOR_WORKERS_S = 300.0


def worker(
    context: Context,
    study: StudyName = None,
    sharing: Annotated[
        int, Option(min=1, help="Number of workers that share the memory of this machine.")
    ] = 1,
    per_gpu: Annotated[
        int, Option(min=1, help="Number of workers that share the memory of this GPU.")
    ] = 1,
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
    from nas_attn.searching.run.worker_process import WorkerSettings, settings_given
    from nas_attn.searching.worker.ending import Ending, Report
    from nas_attn.searching.worker.stopping import interruptible

    seconds = clock(time)
    given = settings_given()
    told = given or WorkerSettings(
        device=device,
        threads=threads,
        time_limit_s=seconds,
        sharing=max(sharing, per_gpu),
        per_gpu=per_gpu,
    )
    if given is not None:
        context.trust = given.trusted
    stop = threading.Event()

    def say(line: str) -> None:
        # a log on a full disk ends no work
        with suppress(OSError):
            if not context.quiet:
                echo(f"{told.name}: {line}", err=context.as_json)

    quiet_optuna()
    report = None
    if told.report is not None:
        report = Report(told.report)
    with (
        stopped_after(seconds, stop) as over,
        interruptible(stop, say, orders=told.orders),
        nullcontext() if report is None else report.takes_warnings(),
    ):
        ended = _work(
            context,
            lambda: study_named(context, study, runs_code=True),
            told,
            say=say,
            stop=stop,
            seconds=seconds,
            alone=given is not None or told.sharing > 1,
        )
    if ended is Ending.STOPPED and over.is_set():
        ended = Ending.TIME
    if context.as_json:
        print_json({"worker": told.name, "ended": ended})
    else:
        say(f"done ({ended})")
    if report is not None:
        report.ended(ended)


def _work(
    context: Context,
    find: Callable[[], OpenStudy],
    told: WorkerSettings,
    *,
    say: Callable[[str], None],
    stop: threading.Event,
    seconds: float | None,
    alone: bool,
) -> Ending:
    """Takes part in the study that is found.

    Args:
        context: The command's.
        find: Opens the study.
        told: The worker's settings.
        say: Takes each line of progress.
        stop: Ends the work after the current step.
        seconds: After which all ends; None: never.
        alone: Whether this is one worker; else there are as many as is usual on the GPUs here.

    Returns:
        Why it ended.

    Raises:
        Exit: It was stopped at once; or its GPU is lost, and the process that gave the orders
            starts another worker.
        DeviceLost: Too many processes in this worker's place lost their GPU.
    """
    from nas_attn.searching.run.local import run_workers
    from nas_attn.searching.run.taking_part import Options
    from nas_attn.searching.run.worker_process import MOST_REPLACED, replace_this_process
    from nas_attn.searching.worker.devices import gpus_for, usual_workers
    from nas_attn.system.memory import Share

    taking_part = Options(
        device=told.device,
        threads=told.threads,
        time_limit_s=told.time_limit_s,
        say=say,
        stop=stop,
        share=Share(machine=told.sharing, device=told.per_gpu),
        verbose=context.verbose,
    )
    began = time.monotonic()
    try:
        opened = find()
        workers = 1
        if not alone and gpus_for(told.device):
            workers = usual_workers(opened, told.device)
        return run_workers(opened, workers, taking_part, only=told.only)
    except KeyboardInterrupt:
        # the second signal; the worker has said what is unfinished
        raise typer.Exit(INTERRUPTED) from None
    except DeviceLost as error:
        if told.orders:
            # the process that gives them starts another one
            say(error.reason)
            raise typer.Exit(error.exit_status) from None
        if told.replaced >= MOST_REPLACED:
            raise
        say(f"{error.reason}; another process takes its place")
        after_s = time.monotonic() - began
        flags = [name for name, is_given in _FLAGS.items() if getattr(context, is_given)]
        if seconds is not None:
            flags += ["--time", f"{max(1, math.ceil(seconds - after_s))}s"]
        replace_this_process(opened, told, after_s=after_s, flags=flags)


def launch(
    context: Context,
    study: StudyName = None,
    on: Annotated[str, Option(metavar="[slurm|ray|local]", help="Where to run them.")] = "local",
    workers: Annotated[int, Option(min=1, max=4096, help="Number of workers.")] = 1,
    gpus: Annotated[
        float,
        Option(
            "--gpus-per-worker", min=0, help="GPUs per worker; on Ray also fractions, like 0.25."
        ),
    ] = 0.0,
    cpus: Annotated[int, Option("--cpus-per-worker", min=1, help="Cores per worker.")] = 1,
    time: Annotated[
        str | None,
        Option(
            metavar="TIME",
            help="Slurm's time limit of a job: 4h, 1d; the job is then queued again.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        Option(
            "--set",
            metavar="KEY=VALUE",
            help="An option of sbatch, like partition=gpu, account=mine, exclusive; repeatable.",
        ),
    ] = None,
    device: Device = "auto",
) -> None:
    """Start workers on Slurm, on Ray or in the background here.

    Examples:
      nas-attn launch digits --workers 2
      nas-attn launch --on slurm --workers 8 --time 4h --set partition=gpu

    Clusters: docs/how-to/run-anywhere.md
    """
    from nas_attn.searching.run.launching import Request, engine
    from nas_attn.searching.run.launching import launch as start

    opened = study_named(context, study, runs_code=True)
    options = _engine_options(settings or [])
    seconds = clock(time)
    if seconds is not None and seconds < 60 * FEWEST_MINUTES:
        raise UserError(f"--time {time} is too short: give at least {FEWEST_MINUTES}m")
    request = Request(
        workers,
        device=device,
        gpus=gpus,
        cpus=cpus,
        minutes=None if seconds is None else math.ceil(seconds / 60),
        more=options,
    )
    where = engine(on)
    done = start(opened, on, request, where)
    if context.as_json:
        print_json(asdict(done))
    else:
        _say_launched(opened, done, at_storage(context.storage))
    failures = where.watch(opened)
    for failure in failures:
        last = f": {shorten(failure.line, LOG_LINE_LETTERS)}" if failure.line else ""
        echo(
            f"{failure.name} ended at once with status {failure.status}{last} (log: {failure.log})",
            err=True,
        )
    if len(failures) == workers:
        raise typer.Exit(ExitStatus.FAILED)


def _say_launched(opened: OpenStudy, done: Launched, at: str) -> None:
    """Says what was started and how to watch it. `at`: the option of the study's storage."""
    from nas_attn.searching.run.launching import LOGS

    study = opened.store.name
    more = ""
    if len(done.jobs) > SHOWN_JOBS:
        more = f", … ({len(done.jobs)} in all)"
    jobs = f"{', '.join(done.jobs[:SHOWN_JOBS])}{more}"
    echo(f"launched {several(len(done.jobs), 'worker')} on {done.on}: {jobs}")
    echo(f"logs:  {opened.folder / LOGS}")
    echo(f"state: nas-attn status {study}{at}")
    echo(f"stop:  nas-attn stop {study}{at}")


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
    from nas_attn.searching.run.launching import engine, launches
    from nas_attn.searching.worker.presence import stop_workers

    opened = study_named(context, study)
    there = _working(opened)
    queued = 0
    stop_workers(opened)
    for launched in launches(opened):
        try:
            queued += engine(launched.on).end(launched)
        except NasAttnError as error:
            # an engine on another machine; its workers read the request from the study
            echo(f"{launched.on}: {error}", err=True)
    cancelled = f", cancelled {queued} that had not begun" if queued else ""
    told = len(there)
    if not context.as_json:
        echo(f"told {several(told, 'worker')} to stop{cancelled}")
    end = time.monotonic() + WAIT_FOR_WORKERS_S
    while wait and there and time.monotonic() < end:
        time.sleep(0.5)
        there = _working(opened)
    if context.as_json:
        working = [f"{worker.machine} {worker.pid}" for worker in there]
        print_json({"told": told, "cancelled": queued, "working": working})
    elif wait and there:
        left = ", ".join(f"{worker.machine} {worker.pid} ({worker.doing})" for worker in there)
        echo(f"still running after {WAIT_FOR_WORKERS_S:.0f} s: {left}")
    elif wait:
        echo("all workers have ended")


def _working(opened: OpenStudy) -> list[WorkerView]:
    from nas_attn.answer.workers import workers_of

    return [worker for worker in workers_of(opened) if worker.state in ("working", "waiting")]


def _engine_options(words: list[str]) -> dict[str, str]:
    options = {}
    for word in words:
        key, _, value = word.lstrip("-").partition("=")
        if not key:
            raise StudyError(
                f"--set '{word}': write an option of sbatch, like account=mine or exclusive"
            )
        options[key] = value
    return options
