"""`nas-attn search`, `resume` and `extend`."""

from __future__ import annotations

from dataclasses import asdict
from time import monotonic
from typing import Annotated

from typer import Argument, Option

from nas_attn.cli.commands import Context
from nas_attn.cli.common import (
    Device,
    DryRun,
    Effort,
    Placements,
    ReportPath,
    Settings,
    StudyName,
    Target,
    Threads,
    Time,
    Workers,
    at_storage,
    check_output,
    check_trust,
    clock,
    echo,
    overrides,
    page_path,
    print_json,
    quiet_optuna,
    say_lines,
    study_named,
)
from nas_attn.errors import UserError
from nas_attn.recipe.target import target_words

SHORTEST_S = 60


def search(
    context: Context,
    recipe: Annotated[
        str,
        Argument(
            help=(
                "Shipped name (digits, …), path of a recipe, or folder of images with a folder per"
                " class, a table, masks or boxes."
            )
        ),
    ],
    name: Annotated[str | None, Option(help="Name of the study instead of the recipe's.")] = None,
    time: Time = None,
    backbone: Annotated[str | None, Option(help="Backbone for a folder of images.")] = None,
    target: Target = None,
    trials: Annotated[int | None, Option(min=1, help="Candidates, the baselines included.")] = None,
    settings: Settings = None,
    tried: Placements = None,
    create_only: Annotated[
        bool, Option("--create-only", help="Begin the study for other workers; train nothing here.")
    ] = False,
    report: ReportPath = None,
    artifacts: Annotated[
        str | None,
        Option(metavar="PATH", help="Folder for checkpoints and weights, or s3://BUCKET/PREFIX."),
    ] = None,
    dry_run: DryRun = False,
    workers: Workers = None,
    threads: Threads = None,
    device: Device = "auto",
) -> None:
    """Run a search from a recipe. An earlier one of the same name is continued.

    Examples:
      nas-attn search digits
      nas-attn search photos/ --time 90m --backbone torchvision:resnet18

    A first search, step by step: docs/get-started/quickstart.md
    """
    began = monotonic()
    check_output()
    page_path(report)
    if dry_run or create_only:
        context.refuse(["report"], "nothing is searched yet that a report could show")
    given = {"name": name, "search.trials": trials, "backbone.name": backbone}
    changes = overrides(settings)
    changes |= {key: value for key, value in given.items() if value is not None}
    changes |= target_words(target or []).settings()
    seconds = _seconds(time)

    from nas_attn.cli import trip
    from nas_attn.cli.search_request import SearchRequest

    request = SearchRequest(
        recipe=recipe,
        changes=changes,
        seconds=seconds,
        began=began,
        tried=tried or [],
        artifacts=artifacts or None,
        report=report,
        dry_run=dry_run,
        create_only=create_only,
    )
    trip.search(request, Effort(context, workers, threads, device))


def _seconds(time: str | None) -> float | None:
    """The time for everything; None: no limit."""
    seconds = clock(time)
    if seconds is not None and seconds < SHORTEST_S:
        raise UserError(f"--time {time} is too short: give at least 1m")
    return seconds


def resume(
    context: Context,
    study: StudyName = None,
    time: Time = None,
    trials: Annotated[int | None, Option(min=1, help="New total of candidates.")] = None,
    settings: Annotated[
        list[str] | None,
        Option("--set", help="Train longer: --set target.epochs=20. Nothing else can change."),
    ] = None,
    tried: Placements = None,
    report: ReportPath = None,
    here: Annotated[
        bool, Option("--here", help="Measure latencies on this machine from now on.")
    ] = False,
    workers: Workers = None,
    threads: Threads = None,
    device: Device = "auto",
) -> None:
    """Continue a study; it needs only its database.

    Examples:
      nas-attn resume
      nas-attn resume digits --trials 60 --time 2h

    Stopping, moving and going on: docs/how-to/run-anywhere.md
    """
    began = monotonic()
    check_output()
    page_path(report)
    seconds = _seconds(time)

    from nas_attn.cli import trip
    from nas_attn.cli.search_request import ResumeRequest
    from nas_attn.searching.prepare.new_target import new_length

    request = ResumeRequest(
        epochs=new_length(overrides(settings)) if settings else None,
        seconds=seconds,
        began=began,
        trials=trials,
        tried=tried or [],
        report=report,
        here=here,
    )
    trip.resume(study, request, Effort(context, workers, threads, device))


def extend(
    context: Context,
    space: Annotated[str, Option(help="Shipped name or path of the new search space.")],
    study: StudyName = None,
    trials: Annotated[
        int | None,
        Option(min=1, help="New total of candidates; default: the recipe's trials in addition."),
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Give a study another search space. Every finished run is kept.

    Examples:
      nas-attn extend --space plug_and_play --dry-run
      nas-attn extend digits --space my_space.toml --trials 80

    Search spaces: docs/how-to/spaces.md
    """
    from nas_attn.recipe.reading import load_space
    from nas_attn.searching.prepare.extending import extend as do
    from nas_attn.searching.prepare.extending import extension_lines

    spec = load_space(space)
    check_trust(space, spec, trust=context.trust)
    quiet_optuna()
    opened = study_named(context, study, runs_code=True)
    extension = do(opened, spec, trials=trials, dry_run=dry_run)
    if context.as_json:
        print_json(asdict(extension))
        return
    say_lines(extension_lines(extension))
    if not dry_run:
        at = at_storage(context.storage)
        echo(f"continue with: nas-attn resume {opened.store.name}{at}")
