"""`nas-attn search`, `resume` and `extend`."""

from __future__ import annotations

import re
from dataclasses import asdict
from time import monotonic
from typing import Annotated

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
    echo,
    overrides,
    page_path,
    print_json,
    quiet_optuna,
    say_lines,
    study_named,
)
from nas_attn.errors import UserError, shorten
from nas_attn.recipe.target import target_words
from nas_attn.system.paths import DEFAULT_URL

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
    given = {"name": name, "search.trials": trials, "backbone.name": backbone}
    changes = overrides(settings or [])
    changes |= {key: value for key, value in given.items() if value is not None}
    changes |= target_words(target or []).settings()
    seconds = _seconds(time, minutes, hours)

    from nas_attn.cli import trip
    from nas_attn.cli.search_request import SearchRequest

    request = SearchRequest(
        recipe=recipe,
        changes=changes,
        seconds=seconds,
        began=began,
        tried=tried or [],
        storage=storage,
        artifacts=artifacts or None,
        report=report,
        as_json=as_json,
        dry_run=dry_run,
        create_only=create_only,
        trust=trust,
    )
    trip.search(request, Effort(workers, threads, device, time_limit, verbose, quiet))


def _seconds(time: str | None, minutes: float | None, hours: float | None) -> float | None:
    """The time for everything, by either name of the option; None: no limit."""
    if time is not None:
        return _clock(time)
    if minutes is None and hours is None:
        return None
    return 60 * (minutes or 0) + 3600 * (hours or 0)


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
    began = monotonic()
    check_output()
    page_path(report)
    seconds = _seconds(time, minutes, hours)

    from nas_attn.cli import trip
    from nas_attn.cli.search_request import ResumeRequest

    request = ResumeRequest(
        seconds=seconds,
        began=began,
        trials=trials,
        tried=tried or [],
        storage=storage,
        report=report,
        here=here,
        as_json=as_json,
        trust=trust,
    )
    trip.resume(study, request, Effort(workers, threads, device, time_limit, verbose, quiet))


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
