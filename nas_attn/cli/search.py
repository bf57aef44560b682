"""`nas-attn search` and `resume`, from what is asked for to the answer. Open this file first.

Both are one trip: open the study, check the plan, run it, answer. The plan is made once; what must
hold before anything is written stands in `searching.prepare.checks.check`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
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
    echo,
    overrides,
    page_path,
    study_named,
)
from nas_attn.errors import UserError
from nas_attn.recipe.target import target_words

SHORTEST_S = 60

RecipeName = Annotated[
    str | None,
    Argument(
        help=(
            "Shipped name (digits, …), path of a recipe, or folder of images with a folder per"
            " class, a table, masks or boxes. With --from: by default that of the study."
        )
    ),
]
Source = Annotated[
    str | None,
    Option(
        "--from",
        metavar="STUDY",
        help="Take over its runs of equal networks, seeds and trainings; it stays as it is.",
    ),
]
CreateOnly = Annotated[
    bool, Option("--create-only", help="Begin the study for other workers; train nothing here.")
]
Artifacts = Annotated[
    str | None,
    Option(metavar="PATH", help="Folder for checkpoints and weights, or s3://BUCKET/PREFIX."),
]


def search(
    context: Context,
    recipe: RecipeName = None,
    name: Annotated[str | None, Option(help="Name of the study instead of the recipe's.")] = None,
    source: Source = None,
    time: Time = None,
    backbone: Annotated[str | None, Option(help="Backbone for a folder of images.")] = None,
    target: Target = None,
    trials: Annotated[int | None, Option(min=1, help="Candidates, the baselines included.")] = None,
    settings: Settings = None,
    tried: Placements = None,
    create_only: CreateOnly = False,
    report: ReportPath = None,
    artifacts: Artifacts = None,
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
    _refuse(context, dry_run=dry_run, create_only=create_only, timed=time is not None)
    given = {"name": name, "search.trials": trials, "backbone.name": backbone}
    changes = overrides(settings)
    changes |= {key: value for key, value in given.items() if value is not None}
    changes |= target_words(target or []).settings()

    from nas_attn.cli.running import run_study, say_created, show_outcome
    from nas_attn.cli.search_request import SearchRequest

    request = SearchRequest(
        effort=Effort(context, workers, threads, device),
        recipe=recipe,
        source=source,
        changes=changes,
        tried=tried or [],
        artifacts=artifacts or None,
        seconds=_seconds(time),
        began=began,
    )
    if dry_run:
        request.show_forecast()
        return
    opened = request.create()
    if create_only:
        # the time begins with the workers: resume --time
        say_created(context, opened)
        return
    ended = run_study(opened, request.runs_by, request.clock)
    show_outcome(context, opened, ended, report=report)


def _refuse(context: Context, *, dry_run: bool, create_only: bool, timed: bool) -> None:
    """Raises UserError: nothing is to be searched, or an option has no effect."""
    recipe = context.params["recipe"]
    if dry_run or create_only:
        context.refuse(["report"], "nothing is searched yet that a report could show")
    if create_only and not timed and not (recipe and Path(recipe).is_dir()):
        # with a time, they say how many candidates fit
        context.refuse(["workers", "threads"], "nothing is trained here; give it to a worker")
    if dry_run:
        context.refuse(["source"], "a forecast does not know what is taken over")
    if recipe is None and context.params["source"] is None:
        raise UserError("nothing to search: give a recipe or a folder of images, or --from STUDY")


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

    from nas_attn.cli.running import run_study, show_outcome
    from nas_attn.cli.search_request import note_images, settle_machine
    from nas_attn.searching.prepare.beginning import take_up
    from nas_attn.searching.prepare.checks import check
    from nas_attn.searching.prepare.clock import SearchTime
    from nas_attn.searching.prepare.search_plan import SearchPlan
    from nas_attn.training.images import known_images

    effort = Effort(context, workers, threads, device)
    wanted = tried or []
    opened = study_named(context, study, runs_code=True)
    plan = SearchPlan(opened.recipe, opened.url, study=opened, tried=wanted, device=device)
    first = known_images(opened.store, opened.recipe) is None
    check(plan)
    plan.free_images()
    note_images(opened, first=first)
    settle_machine(opened, here=here, asking=not context.as_json)
    take_up(opened, trials=trials, tried=wanted, say=partial(echo, err=True))
    ended = run_study(opened, effort, SearchTime(seconds, began, trials))
    show_outcome(context, opened, ended, report=report)
