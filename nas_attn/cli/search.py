"""`nas-attn search`, `resume`, `extend` and `worker`."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas_attn.cli.common import at_storage, console, echo, overrides, page_path, print_json, quiet_optuna, study_named
from nas_attn.cli.options import (
    AsJson,
    Device,
    DryRun,
    Effort,
    Storage,
    StorageWait,
    StudyName,
    Threads,
    TimeLimit,
    Verbose,
    complete_recipe,
    complete_space,
    grouped,
)
from nas_attn.cli.running import INTERRUPTED, run
from nas_attn.cli.trusting import Trust, check_trust
from nas_attn.paths import DEFAULT_URL

if TYPE_CHECKING:
    from nas_attn.study.planning import Budget

Tried = Annotated[list[str] | None, typer.Option("--try", help="Also evaluate this placement; repeatable.")]
ReportPath = Annotated[str | None, typer.Option("--report", help="Where to write the HTML report.")]


@grouped
def search(
    recipe: Annotated[
        str,
        typer.Argument(
            help="Shipped name (digits, …), path of a recipe, or folder of images with a folder per class.",
            autocompletion=complete_recipe,
        ),
    ],
    effort: Effort,
    storage: Storage = DEFAULT_URL,
    name: Annotated[str | None, typer.Option("--name", help="Name of the study instead of the recipe's.")] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", min=1, help="Time for everything, the test included.")
    ] = None,
    hours: Annotated[float | None, typer.Option("--hours", min=0.02, help="The same in hours.")] = None,
    backbone: Annotated[str | None, typer.Option("--backbone", help="Backbone for a folder of images.")] = None,
    trials: Annotated[int | None, typer.Option("--trials", min=1, help="Candidates, the baselines included.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting: --set training.batch_size=256; repeatable.")
    ] = None,
    tried: Tried = None,
    report: ReportPath = None,
    artifacts: Annotated[
        str | None, typer.Option("--artifacts", help="Folder for checkpoints and weights, or s3://BUCKET/PREFIX.")
    ] = None,
    dry_run: DryRun = False,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Reads the recipe, or plans one for a folder of images; makes the study, or takes it up; runs workers."""
    from nas_attn.recipe_reading import load_recipe

    began = time.monotonic()
    page_path(report)
    seconds = None if minutes is None and hours is None else 60 * (minutes or 0) + 3600 * (hours or 0)
    own = {"name": name, "search.trials": trials, "backbone.name": backbone}
    changes = overrides(settings or []) | {key: value for key, value in own.items() if value is not None}
    quiet_optuna()
    planned = _planned(recipe, storage, seconds, effort, changes) if os.path.isdir(recipe) else None
    made = planned.recipe if planned else load_recipe(recipe, overrides=changes)
    check_trust(recipe, made, trust=trust)
    from nas_attn.study import searching
    from nas_attn.study.planning import END_S, go_on, start_clock

    searching.check_here(made, device=effort.device)
    if planned and not as_json:
        echo(planned.text(), err=not dry_run)
    if planned and dry_run:
        if as_json:
            print_json(planned.as_dict())
        return
    if dry_run:
        from nas_attn.study.planning import forecast

        found = forecast(made, device=effort.device, threads=effort.threads, tried=tried or [])
        if as_json:
            print_json(found.as_dict())
        else:
            console().print(found.text(), markup=False)
        return
    opened = searching.begin(made, storage, tried=tried or [], artifacts=artifacts or None)
    left_s = planned.seconds if planned and trials is None else seconds
    if left_s is None:
        left_s = go_on(opened)
    else:
        left_s = max(1.0, left_s - (time.monotonic() - began) - END_S)
        start_clock(opened, left_s, tested=planned is None or planned.blocks > 0)
    run(opened, effort, report=report, as_json=as_json, left_s=left_s)


def _planned(folder: str, storage: str, seconds: float | None, effort: Effort, given: dict[str, Any]) -> Budget:
    from nas_attn.study.planning import HOUR_S, plan_folder
    from nas_attn.study.searching import default_workers

    count, device = effort.workers or default_workers(effort.device), effort.device
    return plan_folder(folder, seconds or HOUR_S, storage=storage, workers=count, device=device, given=given)


@grouped
def resume(
    effort: Effort,
    study: StudyName = None,
    storage: Storage = DEFAULT_URL,
    trials: Annotated[int | None, typer.Option("--trials", min=1, help="New total of candidates.")] = None,
    tried: Tried = None,
    report: ReportPath = None,
    as_json: AsJson = False,
) -> None:
    """Goes on with a study: half-trained trials from their last checkpoint, then new ones."""
    from nas_attn.study import searching
    from nas_attn.study.planning import go_on

    page_path(report)
    opened = study_named(study, storage)
    searching.check_here(opened.recipe, device=effort.device)
    searching.check_start(opened)
    searching.take_up(opened, trials=trials, tried=tried or [])
    run(opened, effort, report=report, as_json=as_json, left_s=go_on(opened))


def extend(
    space: Annotated[
        str,
        typer.Option("--space", help="Shipped name or path of the new search space.", autocompletion=complete_space),
    ],
    study: StudyName = None,
    trials: Annotated[
        int | None,
        typer.Option("--trials", min=1, help="New total of candidates; default: the recipe's trials in addition."),
    ] = None,
    storage: Storage = DEFAULT_URL,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Gives a study another search space: more choices, sites, knobs. Every finished run is kept as evidence."""
    from nas_attn.recipe_reading import load_space
    from nas_attn.study.extending import extend as do

    opened = study_named(study, storage)
    found = do(opened, load_space(space), trials=trials, dry_run=dry_run)
    if as_json:
        print_json(asdict(found))
        return
    out = console()
    out.print(found.text(), markup=False)
    if not dry_run:
        out.print(f"continue with: nas-attn resume {opened.store.name}{at_storage(storage)}", markup=False)


def worker(
    study: StudyName = None,
    storage: Storage = DEFAULT_URL,
    threads: Threads = None,
    device: Device = "auto",
    time_limit: TimeLimit = None,
    storage_wait: StorageWait = None,
    verbose: Verbose = False,
    sharing: Annotated[
        int, typer.Option("--sharing", min=1, help="Number of workers that share the memory of this machine.")
    ] = 1,
    per_gpu: Annotated[
        int, typer.Option("--per-gpu", min=1, help="Number of workers that share the memory of this GPU.")
    ] = 1,
) -> None:
    """Does what a study wants until it is complete. The recipe comes from the study."""
    from nas_attn.records import Share
    from nas_attn.study.launching import WorkerSettings, settings_given
    from nas_attn.study.local import LAST_WORD
    from nas_attn.study.searching import Options, work
    from nas_attn.study.stopping import interruptible

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
