"""`nas-attn search`, `resume`, `extend` and `worker`."""

from __future__ import annotations

import threading
from dataclasses import asdict
from typing import Annotated

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

Tried = Annotated[list[str] | None, typer.Option("--try", help="Also evaluate this placement; repeatable.")]
ReportPath = Annotated[str | None, typer.Option("--report", help="Where to write the HTML report.")]


@grouped
def search(
    recipe: Annotated[
        str,
        typer.Argument(
            help="Shipped name (digits, cifar10-resnet20, …) or path of a recipe.", autocompletion=complete_recipe
        ),
    ],
    effort: Effort,
    storage: Storage = DEFAULT_URL,
    name: Annotated[str | None, typer.Option("--name", help="Name of the study instead of the recipe's.")] = None,
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
    """Reads the recipe, makes the study (or takes up the one of the same name and recipe), and runs workers."""
    from nas_attn.recipe_reading import load_recipe

    page_path(report)
    changes = overrides(settings or [])
    changes |= {k: v for k, v in {"name": name, "search.trials": trials}.items() if v is not None}
    made = load_recipe(recipe, overrides=changes)
    check_trust(recipe, made, trust=trust)
    from nas_attn.study import searching

    quiet_optuna()
    searching.check_here(made, device=effort.device)
    if dry_run:
        from nas_attn.study.forecast import forecast

        found = forecast(made, device=effort.device, threads=effort.threads, tried=tried or [])
        if as_json:
            print_json(found.as_dict())
        else:
            console().print(found.text(), markup=False)
        return
    opened = searching.begin(made, storage, tried=tried or [], artifacts=artifacts or None)
    run(opened, effort, report=report, as_json=as_json)


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

    page_path(report)
    opened = study_named(study, storage)
    searching.check_here(opened.recipe, device=effort.device)
    searching.check_start(opened)
    searching.take_up(opened, trials=trials, tried=tried or [])
    run(opened, effort, report=report, as_json=as_json)


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
