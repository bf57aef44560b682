"""`nas-attn search`."""

from __future__ import annotations

from typing import Annotated

import typer

from nas_attn.cli import completing
from nas_attn.cli.common import (
    Artifacts,
    AsJson,
    Device,
    ReportPath,
    Storage,
    StorageWait,
    Threads,
    TimeLimit,
    Tried,
    Verbose,
    Workers,
    console,
    overrides,
    page_path,
    print_json,
    quiet_optuna,
)
from nas_attn.cli.trusting import Trust, check_trust
from nas_attn.paths import DEFAULT_URL


def search(
    recipe: Annotated[
        str,
        typer.Argument(
            help="Shipped name (digits, cifar10-resnet20, …) or path of a recipe.", autocompletion=completing.recipes
        ),
    ],
    storage: Storage = DEFAULT_URL,
    name: Annotated[str | None, typer.Option("--name", help="Name of the study instead of the recipe's.")] = None,
    trials: Annotated[int | None, typer.Option("--trials", min=1, help="Candidates, the baselines included.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a setting: --set training.batch_size=256; repeatable."),
    ] = None,
    tried: Tried = None,
    workers: Workers = None,
    threads: Threads = None,
    device: Device = "auto",
    time_limit: TimeLimit = None,
    report: ReportPath = None,
    artifacts: Artifacts = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")] = False,
    storage_wait: StorageWait = None,
    verbose: Verbose = False,
    trust: Trust = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
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
    searching.check_here(made, device=device)
    if dry_run:
        from nas_attn.study.forecast import forecast

        found = forecast(made, device=device, threads=threads, tried=tried or [])
        if as_json:
            print_json(found.as_dict())
        else:
            console().print(found.text(), markup=False)
        return
    from nas_attn.cli.running import Effort, run

    opened = searching.begin(made, storage, tried=tried or [], artifacts=artifacts or None)
    effort = Effort(workers, threads, device, time_limit, quiet or as_json, verbose)
    run(opened, effort, report=report, as_json=as_json)
