"""`nas-attn search` and `resume`."""

from __future__ import annotations

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
    check_output,
    clock,
    overrides,
    page_path,
)
from nas_attn.errors import UserError
from nas_attn.recipe.target import target_words

SHORTEST_S = 60


def search(
    context: Context,
    recipe: Annotated[
        str | None,
        Argument(
            help=(
                "Shipped name (digits, …), path of a recipe, or folder of images with a folder per"
                " class, a table, masks or boxes. With --from: by default that of the study."
            )
        ),
    ] = None,
    name: Annotated[str | None, Option(help="Name of the study instead of the recipe's.")] = None,
    source: Annotated[
        str | None,
        Option(
            "--from",
            metavar="STUDY",
            help="Take over its runs of equal networks, seeds and trainings; it stays as it is.",
        ),
    ] = None,
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
    if dry_run:
        context.refuse(["source"], "a forecast does not know what is taken over")
    if recipe is None and source is None:
        raise UserError("nothing to search: give a recipe or a folder of images, or --from STUDY")
    given = {"name": name, "search.trials": trials, "backbone.name": backbone}
    changes = overrides(settings)
    changes |= {key: value for key, value in given.items() if value is not None}
    changes |= target_words(target or []).settings()
    seconds = _seconds(time)

    from nas_attn.cli import trip
    from nas_attn.cli.search_request import SearchRequest

    request = SearchRequest(
        recipe=recipe,
        source=source,
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

    request = ResumeRequest(
        seconds=seconds,
        began=began,
        trials=trials,
        tried=tried or [],
        report=report,
        here=here,
    )
    trip.resume(study, request, Effort(context, workers, threads, device))
