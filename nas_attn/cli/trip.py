"""`search` and `resume`, from what is asked for to the answer. Open this file first.

Both are one trip: open the study, check the plan, run it, answer. The plan is made once; what must
hold before anything is written stands in `searching.prepare.checks.check`.
"""

from __future__ import annotations

from functools import partial

from nas_attn.cli.common import Effort, echo, study_named
from nas_attn.cli.running import run_study, say_created, show_outcome, time_for
from nas_attn.cli.search_request import (
    ResumeRequest,
    SearchRequest,
    note_images,
    recipe_for,
    say_inventory,
    schedule_of,
    settle_machine,
    show_forecast,
    source_of,
)
from nas_attn.searching.prepare.beginning import create, take_up
from nas_attn.searching.prepare.checks import check
from nas_attn.searching.prepare.search_plan import SearchPlan
from nas_attn.training.images import known_images


def search(request: SearchRequest, effort: Effort) -> None:
    """Runs a search from a recipe or a folder of images, or goes on with the one of its name."""
    source = source_of(request, effort)
    recipe, folder = recipe_for(request, effort, source)
    plan = SearchPlan(
        recipe,
        effort.context.storage,
        tried=request.tried,
        device=effort.device,
        artifacts=request.artifacts,
        source=source,
    )
    if request.dry_run:
        show_forecast(plan, folder, request, effort)
        return
    say_inventory(plan, effort.context, err=True)
    check(plan)
    schedule = schedule_of(plan, folder, request, effort)
    say = partial(echo, err=True)
    opened = create(plan, schedule.trials, say=say)
    note_images(opened)
    settle_machine(opened, asking=not effort.context.as_json)
    if request.create_only:
        # the time begins with the workers: resume --time
        say_created(effort.context, opened)
        return
    left_s = time_for(opened, schedule.clock, schedule.effort)
    ended = run_study(opened, schedule.effort, left_s)
    show_outcome(effort.context, opened, ended, report=request.report)


def resume(study: str | None, request: ResumeRequest, effort: Effort) -> None:
    """Goes on with a study, by default the only one; it needs only its database."""
    opened = study_named(effort.context, study, runs_code=True)
    plan = SearchPlan(
        opened.recipe, opened.url, study=opened, tried=request.tried, device=effort.device
    )
    first = known_images(opened.store, opened.recipe) is None
    check(plan)
    plan.free_images()
    note_images(opened, first=first)
    settle_machine(opened, here=request.here, asking=not effort.context.as_json)
    say = partial(echo, err=True)
    take_up(opened, trials=request.trials, tried=request.tried, say=say)
    left_s = time_for(opened, request.clock, effort)
    ended = run_study(opened, effort, left_s)
    show_outcome(effort.context, opened, ended, report=request.report)
