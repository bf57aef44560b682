"""`nas-attn launch` and `nas-attn stop`."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from nas_attn.cli.common import at_storage, echo, print_json, study_named
from nas_attn.cli.options import AsJson, Device, Storage, StudyName
from nas_attn.errors import NasAttnError, StudyError
from nas_attn.paths import DEFAULT_URL

if TYPE_CHECKING:
    from nas_attn.study.opening import OpenStudy
    from nas_attn.study.progress import WorkerView

LONGEST_S = 300.0


def launch(
    study: StudyName = None,
    on: Annotated[str, typer.Option("--on", help="Where to run them: slurm, ray or local.")] = "local",
    workers: Annotated[int, typer.Option("--workers", min=1, max=4096, help="How many.")] = 1,
    gpus: Annotated[
        float, typer.Option("--gpus-per-worker", min=0, help="GPUs per worker; on Ray also fractions, like 0.25.")
    ] = 0.0,
    cpus: Annotated[int, typer.Option("--cpus-per-worker", min=1, help="Cores per worker.")] = 1,
    partition: Annotated[str | None, typer.Option("--partition", help="Slurm's partition.")] = None,
    minutes: Annotated[
        int | None,
        typer.Option("--minutes", min=3, help="Slurm's time limit per job in minutes; the job is then queued again."),
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", help="An option of sbatch: account=mine, exclusive; repeatable.")
    ] = None,
    device: Device = "auto",
    storage: Storage = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Starts workers of a study on a cluster, and returns. The study is there already: nas-attn search RECIPE --time-limit 0."""
    from nas_attn.study.launching import LOGS, Request
    from nas_attn.study.launching import launch as start

    opened = study_named(study, storage)
    request = Request(workers, device, gpus, cpus, minutes, partition, _options(option or []))
    done = start(opened, on, request)
    if as_json:
        print_json(asdict(done))
        return
    at = at_storage(storage)
    name = opened.store.name
    more = f", … ({len(done.jobs)} in all)" if len(done.jobs) > 4 else ""
    echo(f"launched {workers} worker{'' if workers == 1 else 's'} on {on}: {', '.join(done.jobs[:4])}{more}")
    echo(f"logs:  {opened.folder / LOGS}\nwatch: nas-attn status {name} --watch{at}\nstop:  nas-attn stop {name}{at}")


def stop(
    study: StudyName = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until they have ended.")] = True,
    storage: Storage = DEFAULT_URL,
) -> None:
    """Tells all workers of a study to stop in order, wherever they run; those that only queue are taken back."""
    from nas_attn.study.launching import engine, launches
    from nas_attn.study.stopping import stop_workers

    opened = study_named(study, storage)
    there, queued = _working(opened), 0
    stop_workers(opened)
    for launched in launches(opened):
        try:
            queued += engine(launched.on).end(launched)
        except NasAttnError as error:  # another machine's engine; its workers hear of it by the study
            echo(f"{launched.on}: {error}", err=True)
    taken = f", took back {queued} that had not begun" if queued else ""
    echo(f"told {len(there)} worker{'' if len(there) == 1 else 's'} to stop{taken}")
    end = time.monotonic() + LONGEST_S
    while wait and there and time.monotonic() < end:
        time.sleep(0.5)
        there = _working(opened)
    if wait:
        left = ", ".join(f"{worker.machine} {worker.pid} ({worker.doing})" for worker in there)
        echo("all workers have ended" if not there else f"still running after {LONGEST_S:.0f} s: {left}")


def _working(opened: OpenStudy) -> list[WorkerView]:
    from nas_attn.study.progress import workers_of

    return [worker for worker in workers_of(opened) if worker.state in ("working", "waiting")]


def _options(words: list[str]) -> dict[str, str]:
    found = {}
    for word in words:
        key, _, value = word.lstrip("-").partition("=")
        if not key:
            raise StudyError(f"--option '{word}': write an option of sbatch, like account=mine or exclusive")
        found[key] = value
    return found
