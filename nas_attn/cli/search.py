"""`nas-attn search`, `resume` and `extend`."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from nas_attn.cli.common import (
    AsJson,
    Device,
    DryRun,
    Effort,
    Quiet,
    Storage,
    StorageWait,
    StudyName,
    Target,
    Threads,
    TimeLimit,
    Trust,
    Verbose,
    Workers,
    at_storage,
    check_output,
    check_trust,
    check_typed,
    echo,
    overrides,
    page_path,
    print_json,
    quiet_optuna,
    say_lines,
    study_named,
)
from nas_attn.cli.running import run
from nas_attn.errors import StudyError, UserError, shorten
from nas_attn.recipe.target import target_words
from nas_attn.system.paths import DEFAULT_URL

if TYPE_CHECKING:
    from nas_attn.recipe.recipe import Recipe
    from nas_attn.searching.prepare.image_folder import Budget
    from nas_attn.searching.prepare.planning import Timetable
    from nas_attn.storage.opening import OpenStudy

Tried = Annotated[
    list[str] | None, Option("--try", help="Also evaluate this placement; repeatable.")
]
ReportPath = Annotated[str | None, Option("--report", help="Where to write the HTML report.")]
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
SHORTEST_S = 60


def _clock(text: str) -> float:
    """`90m`, `2h`, `1.5d` or `600s` in seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd])", text.strip())
    if found is None:
        raise UserError(f"--time '{shorten(text)}' is not a time: give 90m, 2h or 1.5d")
    seconds = float(found[1]) * UNITS[found[2]]
    if seconds < SHORTEST_S:
        raise UserError(f"--time {text} is too short: give at least 1m")
    return seconds


Time = Annotated[
    str | None,
    Option(
        "--time",
        metavar="TIME",
        help="Time for everything, the test included: 90m, 2h, 1.5d.",
    ),
]
Minutes = Annotated[float | None, Option("--minutes", min=1, hidden=True)]
Hours = Annotated[float | None, Option("--hours", min=0.02, hidden=True)]
"""Former names of `--time`."""


# Letters: files of 255 hold a study's name, a machine's and a process's
LONGEST_NAME = 200


@dataclass(frozen=True)
class SearchRequest:
    """What a search is asked for."""

    recipe: str
    """A shipped name, a path, or a folder of images."""
    changes: dict[str, Any]
    """Dotted key of the recipe -> value in its place."""
    seconds: float | None
    """The time for everything; None: no limit."""
    tried: Sequence[str]
    """Placements that are evaluated, too."""
    storage: str
    artifacts: str | None
    as_json: bool
    dry_run: bool
    trust: bool

    @property
    def stated_trials(self) -> int | None:
        """The candidates that are wanted in any case; None: as the recipe says, or the time."""
        stated = self.changes.get("search.trials")
        return None if stated is None else int(stated)


@dataclass(frozen=True)
class SearchPlan:
    """What is known before a search begins."""

    recipe: Recipe
    budget: Budget | None
    """How a folder of images is searched in its time; None: a recipe is searched."""
    timetable: Timetable | None
    """What a recipe's search does with its time; None: it has no limit, or there is a budget."""
    images: list[str]
    """What is said of the user's images; empty for other data."""

    @property
    def blocks(self) -> int:
        """Of the test in this time."""
        if self.budget is not None:
            return self.budget.blocks
        if self.timetable is None:
            return 1
        return self.timetable.blocks


def search(
    recipe: Annotated[
        str,
        Argument(
            help=(
                "Shipped name (digits, …), path of a recipe, or folder of images with a folder per"
                " class."
            )
        ),
    ],
    name: Annotated[str | None, Option(help="Name of the study instead of the recipe's.")] = None,
    time: Time = None,
    minutes: Minutes = None,
    hours: Hours = None,
    backbone: Annotated[str | None, Option(help="Backbone for a folder of images.")] = None,
    target: Target = None,
    trials: Annotated[int | None, Option(min=1, help="Candidates, the baselines included.")] = None,
    settings: Annotated[
        list[str] | None,
        Option("--set", help="Change a setting: --set training.batch_size=256; repeatable."),
    ] = None,
    tried: Tried = None,
    create_only: Annotated[
        bool, Option("--create-only", help="Begin the study for other workers; train nothing here.")
    ] = False,
    report: ReportPath = None,
    artifacts: Annotated[
        str | None, Option(help="Folder for checkpoints and weights, or s3://BUCKET/PREFIX.")
    ] = None,
    workers: Workers = None,
    threads: Threads = None,
    device: Device = "auto",
    time_limit: TimeLimit = None,
    storage_wait: StorageWait = None,  # noqa: ARG001 - its callback sets it
    verbose: Verbose = False,
    quiet: Quiet = False,
    storage: Storage = DEFAULT_URL,
    trust: Trust = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Run a search from a recipe. An earlier one of the same name is continued."""
    began = monotonic()
    check_output()
    page_path(report)
    if create_only:
        time_limit = 0
    effort = Effort(workers, threads, device, time_limit, verbose, quiet)
    given = {"name": name, "search.trials": trials, "backbone.name": backbone}
    changes = overrides(settings or [])
    changes |= {key: value for key, value in given.items() if value is not None}
    changes |= target_words(target or []).settings()
    request = SearchRequest(
        recipe,
        changes,
        _seconds(time, minutes, hours),
        tried or [],
        storage,
        artifacts or None,
        as_json,
        dry_run,
        trust,
    )
    plan = _search_plan(request, effort)
    if dry_run:
        from nas_attn.storage.opening import check_place

        check_place(plan.recipe, storage, artifacts=request.artifacts)
        _forecast(plan, effort, request)
        return
    _search(plan, effort, request, began=began, report=report)


def _search(
    plan: SearchPlan, effort: Effort, request: SearchRequest, *, began: float, report: str | None
) -> None:
    """Begins the study, or goes on with it, and runs it to its end."""
    from nas_attn.searching.prepare import beginning
    from nas_attn.searching.prepare.planning import timetable_lines
    from nas_attn.searching.worker import devices

    table = plan.timetable
    if table and not request.as_json:
        say_lines(timetable_lines(table), err=True)
    opened = beginning.begin(
        plan.recipe,
        request.storage,
        tried=request.tried,
        artifacts=request.artifacts,
        trials=table.trials if table else None,
    )
    _say_images(opened)
    _check_machine(opened, here=False, asking=not request.as_json)
    stated = request.stated_trials
    seconds = request.seconds
    if plan.budget and stated is None:
        seconds = plan.budget.seconds
    # the time was reckoned with so many
    if plan.budget or table:
        effort = replace(effort, workers=effort.workers or devices.default_workers(effort.device))
    clock = _Clock(seconds, began, stated, tested=plan.blocks > 0)
    left_s = _time_left(opened, clock, effort)
    if left_s is None and stated is None and opened.trials < plan.recipe.search.trials:
        # a short time had made them fewer
        beginning.take_up(opened, trials=plan.recipe.search.trials)
    run(opened, effort, report=report, as_json=request.as_json, left_s=left_s)


def _search_plan(request: SearchRequest, effort: Effort) -> SearchPlan:
    """Reads the recipe, or plans for a folder of images; says what the images are. RecipeError and
    others: what is asked for cannot be searched.
    """
    from nas_attn.recipe.reading import TOML_PATH, load_recipe

    recipe = request.recipe
    changes = request.changes
    named = {key: str(changes.get(f"{key}.name", "")) for key in ("backbone", "data")}
    check_typed(named["backbone"], named["data"], trust=request.trust)
    budget = None
    if os.path.isdir(recipe):
        budget = _budget(request, effort)
    if budget:
        made = budget.recipe
    else:
        made = load_recipe(recipe, overrides=changes, ways=f"{TOML_PATH} or of a folder of images")
    if len(made.name) > LONGEST_NAME:
        raise StudyError(
            f"the study's name has {len(made.name)} letters, too many for the names of its files:"
            f" give --name with at most {LONGEST_NAME}"
        )
    check_trust(recipe, made, trust=request.trust)
    from nas_attn.searching.prepare import checks
    from nas_attn.searching.prepare.image_folder import budget_lines

    quiet_optuna()
    checks.check_here(made, device=effort.device)
    images = _inventory(made)
    if images and not request.as_json:
        text = "\n".join(images)
        echo(f"{made.data.name}: {text}", err=not request.dry_run)
    table = None
    if budget is None and request.seconds is not None:
        table = _timetable(made, request.seconds, effort, request.stated_trials)
    if budget and not request.as_json:
        say_lines(budget_lines(budget, "; --target changes it"), err=not request.dry_run)
    return SearchPlan(made, budget, table, images)


def _inventory(made: Recipe) -> list[str]:
    """What the user's images are, and what is left out of them; empty for other data."""
    from nas_attn.recipe import tasks
    from nas_attn.training.tasks.data import data_of

    inventory = data_of(tasks.of(made)).inventory(made.data)
    return [] if inventory is None else inventory.described()


def _say_images(opened: OpenStudy, *, first: bool = False) -> None:
    """Says what cannot be known of the images. `first`: the study is from before they were kept."""
    from nas_attn.training.images import known_images

    images = known_images(opened.store, opened.recipe)
    if images is None:
        return
    if images.unknown:
        echo(f"note: {images.unchecked(opened.recipe.data.name)}", err=True)
    elif first:
        echo(
            "note: what the images are is kept from now on; whether they changed before is not"
            " known",
            err=True,
        )


def _budget(request: SearchRequest, effort: Effort) -> Budget:
    """How a folder of images is searched in the time. On a terminal, asks which of its folds
    validate and test.
    """
    from nas_attn.cli.folds import ask_folds
    from nas_attn.data.walking import UndividedFolds
    from nas_attn.searching.prepare.image_folder import plan_folder
    from nas_attn.searching.prepare.planning import HOUR_S
    from nas_attn.searching.worker.devices import default_workers

    quiet_optuna()
    plan = partial(
        plan_folder,
        request.recipe,
        request.seconds or HOUR_S,
        storage=request.storage,
        workers=effort.workers or default_workers(effort.device),
        device=effort.device,
    )
    try:
        return plan(given=request.changes)
    except UndividedFolds as error:
        if not sys.stdin.isatty() or request.as_json:
            raise
        return plan(given={**request.changes, "data.splits": ask_folds(error.folds).model_dump()})


def _timetable(
    made: Recipe, seconds: float, effort: Effort, trials: int | None
) -> Timetable | None:
    from nas_attn.searching.prepare.planning import timetable
    from nas_attn.searching.worker.devices import default_workers

    count = effort.workers or default_workers(effort.device)
    return timetable(made, seconds, workers=count, device=effort.device, trials=trials)


def _forecast(plan: SearchPlan, effort: Effort, request: SearchRequest) -> None:
    """Prints what a search would do. The plan for a folder has been shown already, unless JSON is
    wanted.
    """
    from nas_attn.searching.prepare.beginning import check_tried
    from nas_attn.searching.prepare.forecast import forecast, forecast_lines
    from nas_attn.searching.prepare.image_folder import budget_as_json
    from nas_attn.searching.prepare.planning import timetable_lines

    if plan.budget is not None:
        check_tried(plan.recipe, request.tried)
        if request.as_json:
            print_json(budget_as_json(plan.budget) | {"images": plan.images})
        return
    expected = forecast(
        plan.recipe, device=effort.device, threads=effort.threads, tried=request.tried
    )
    table = plan.timetable
    if request.as_json:
        time = {"time": asdict(table)} if table else {}
        print_json({**asdict(expected), **time, "images": plan.images})
        return
    if table is None:
        say_lines(forecast_lines(expected))
        return
    # What the search can show is said of the time that it has.
    say_lines(forecast_lines(replace(expected, smallest_difference=None)))
    say_lines(timetable_lines(table))


def _seconds(time: str | None, minutes: float | None, hours: float | None) -> float | None:
    """The time for everything, by either name of the option; None: no limit."""
    if time is not None:
        return _clock(time)
    if minutes is None and hours is None:
        return None
    return 60 * (minutes or 0) + 3600 * (hours or 0)


@dataclass(frozen=True)
class _Clock:
    """What a command says of the time."""

    seconds: float | None
    """For everything; None: nothing is said."""
    began: float
    """When the command began."""
    trials: int | None
    """Candidates that are wanted in any case."""
    tested: bool = True


def _time_left(opened: OpenStudy, clock: _Clock, effort: Effort) -> float | None:
    """Seconds until the whole search ends: as asked, else what is left of the study's time; None:
    no limit.
    """
    from nas_attn.searching.prepare.planning import END_S, go_on, start_clock
    from nas_attn.searching.worker.devices import usual_workers

    if clock.seconds is None:
        return go_on(opened)
    left_s = max(1.0, clock.seconds - (monotonic() - clock.began) - END_S)
    count = effort.workers or usual_workers(opened, effort.device)
    start_clock(opened, left_s, tested=clock.tested, trials=clock.trials, workers=count)
    return left_s


def resume(
    study: StudyName = None,
    time: Time = None,
    minutes: Minutes = None,
    hours: Hours = None,
    trials: Annotated[int | None, Option(min=1, help="New total of candidates.")] = None,
    tried: Tried = None,
    report: ReportPath = None,
    here: Annotated[
        bool, Option("--here", help="Measure latencies on this machine from now on.")
    ] = False,
    workers: Workers = None,
    threads: Threads = None,
    device: Device = "auto",
    time_limit: TimeLimit = None,
    storage_wait: StorageWait = None,  # noqa: ARG001 - its callback sets it
    verbose: Verbose = False,
    quiet: Quiet = False,
    storage: Storage = DEFAULT_URL,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Continue a study; it needs only its database."""
    effort = Effort(workers, threads, device, time_limit, verbose, quiet)
    began = monotonic()
    check_output()

    from nas_attn.searching.prepare import beginning, checks
    from nas_attn.training.images import known_images

    page_path(report)
    opened = study_named(study, storage, trust=trust)
    checks.check_here(opened.recipe, device=device)
    checks.check_start(opened)
    old = known_images(opened.store, opened.recipe) is None
    checks.check_images(opened)
    _say_images(opened, first=old)
    _check_machine(opened, here=here, asking=not as_json)
    beginning.take_up(opened, trials=trials, tried=tried or [])
    clock = _Clock(_seconds(time, minutes, hours), began, trials)
    left_s = _time_left(opened, clock, effort)
    run(opened, effort, report=report, as_json=as_json, left_s=left_s)


def _check_machine(opened: OpenStudy, *, here: bool, asking: bool) -> None:
    """Says if another machine measures the study's latencies; moves the study if a person wants it.

    Args:
        opened: the study.
        here: whether this machine shall measure from now on.
        asking: whether a person at a terminal may be asked.

    Raises:
        StudyError: `here` is set, and the study needs no latency.
    """
    from nas_attn.latency.machine import fingerprint
    from nas_attn.searching.prepare.beginning import move_here
    from nas_attn.training.measuring import from_text, machine_text
    from nas_attn.training.plan import wanted

    name = opened.store.name
    if "latency" not in wanted(opened.recipe):
        if here:
            raise StudyError(f"--here: study '{name}' measures no latency; leave it out")
        return
    machine = fingerprint(opened.recipe.latency)
    pinned = from_text(opened.store.fingerprint) if opened.store.fingerprint else machine
    if pinned == machine:
        return
    there = f"latencies of study '{name}' are measured on {machine_text(pinned, machine)}"
    if not here and asking and sys.stdin.isatty():
        here = typer.confirm(f"{there}. Measure them on this machine from now on?")
    if here:
        move_here(opened, machine)
    else:
        again = f"nas-attn resume {name}{at_storage(opened.url)} --here"
        echo(f"note: {there}, so this machine only trains; to measure here: {again}", err=True)


def extend(
    space: Annotated[str, Option(help="Shipped name or path of the new search space.")],
    study: StudyName = None,
    trials: Annotated[
        int | None,
        Option(min=1, help="New total of candidates; default: the recipe's trials in addition."),
    ] = None,
    storage: Storage = DEFAULT_URL,
    trust: Trust = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Give a study another search space. Every finished run is kept."""
    from nas_attn.recipe.reading import load_space
    from nas_attn.searching.prepare.extending import extend as do
    from nas_attn.searching.prepare.extending import extension_lines

    spec = load_space(space)
    check_trust(space, spec, trust=trust)
    quiet_optuna()
    opened = study_named(study, storage, trust=trust)
    extension = do(opened, spec, trials=trials, dry_run=dry_run)
    if as_json:
        print_json(asdict(extension))
        return
    say_lines(extension_lines(extension))
    if not dry_run:
        at = at_storage(storage)
        echo(f"continue with: nas-attn resume {opened.store.name}{at}")
