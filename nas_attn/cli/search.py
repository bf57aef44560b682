"""`nas-attn search` and `resume`, from what is asked for to the answer. Open this file first.

Both are one trip: open the study, check the plan, run it, answer. The plan is made once; what must
hold before anything is written stands in `searching.prepare.checks.check`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated

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
    say_lines,
    study_named,
)
from nas_attn.errors import UserError
from nas_attn.recipe.target import target_words

if TYPE_CHECKING:
    from nas_attn.cli.search_request import SearchRequest

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
    if create_only and time is None and not (recipe and Path(recipe).is_dir()):
        # with a time, they say how many candidates fit
        context.refuse(["workers", "threads"], "nothing is trained here; give it to a worker")
    if dry_run:
        context.refuse(["source"], "a forecast does not know what is taken over")
    if recipe is None and source is None:
        raise UserError("nothing to search: give a recipe or a folder of images, or --from STUDY")
    given = {"name": name, "search.trials": trials, "backbone.name": backbone}
    changes = overrides(settings)
    changes |= {key: value for key, value in given.items() if value is not None}
    changes |= target_words(target or []).settings()

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
    _search(request, dry_run=dry_run, create_only=create_only, report=report)


def _search(
    request: SearchRequest, *, dry_run: bool, create_only: bool, report: str | None
) -> None:
    """The trip of `search`.

    Args:
        request: What is asked for.
        dry_run: Say what would be done, and stop.
        create_only: Begin the study, and stop.
        report: Path of the report; None: beside the database.
    """
    from nas_attn.cli import search_request as asked
    from nas_attn.cli.running import run_study, say_created, show_outcome
    from nas_attn.searching.prepare.beginning import create
    from nas_attn.searching.prepare.checks import check
    from nas_attn.searching.prepare.clock import SearchTime
    from nas_attn.searching.prepare.search_plan import SearchPlan

    effort = request.effort
    context = effort.context
    known = None
    if request.source is not None:
        known = study_named(context, request.source, runs_code=True)
    recipe, folder = asked.recipe_for(request, known)
    plan = SearchPlan(
        recipe,
        context.storage,
        tried=request.tried,
        device=effort.device,
        artifacts=request.artifacts,
        source=known,
    )
    if dry_run:
        asked.show_forecast(plan, folder, request)
        return
    asked.say_inventory(plan, context, err=True)
    check(plan)
    in_time = None
    if asked.is_timed(plan, folder, request):
        expected = asked.expected_of(plan, folder, request)
        if not context.as_json:
            say_lines(asked.expected_lines(expected, folder), err=True)
        if expected is not None and expected.time is not None and folder is None:
            in_time = expected.time.trials
        # with the number of workers for which the time was reckoned
        effort = replace(effort, workers=request.workers)
    opened = create(plan, in_time, say=partial(echo, err=True))
    asked.note_images(opened)
    asked.settle_machine(opened, asking=not context.as_json)
    if create_only:
        # the time begins with the workers: resume --time
        say_created(context, opened)
        return
    stated = request.stated_trials
    unlimited = 0 if stated is not None else recipe.search.trials
    clock = SearchTime(request.limit_s, request.began, stated, unlimited=unlimited)
    ended = run_study(opened, effort, clock)
    show_outcome(context, opened, ended, report=report)


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

    from nas_attn.cli import search_request as asked
    from nas_attn.cli.running import run_study, show_outcome
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
    asked.note_images(opened, first=first)
    asked.settle_machine(opened, here=here, asking=not context.as_json)
    take_up(opened, trials=trials, tried=wanted, say=partial(echo, err=True))
    ended = run_study(opened, effort, SearchTime(seconds, began, trials))
    show_outcome(context, opened, ended, report=report)
