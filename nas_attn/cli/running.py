"""Shared code of the commands that train; and `nas-attn test` and `retrain`, which train as the
target says.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from nas_attn.cli.commands import Context
from nas_attn.cli.common import (
    INTERRUPTED,
    ChosenPlacement,
    Device,
    DryRun,
    Effort,
    MaxLatencyMs,
    MaxLatencyRatio,
    MinAccuracy,
    Placements,
    StudyName,
    Threads,
    Time,
    Workers,
    at_storage,
    check_output,
    clock,
    console,
    criteria,
    echo,
    print_json,
    quiet_optuna,
    study_named,
    table,
)
from nas_attn.errors import NasAttnError, RecipeError, several
from nas_attn.recipe.purposes import RETRAIN, TARGET_PROTOCOL, VALIDATE
from nas_attn.searching.worker.ending import Ending

if TYPE_CHECKING:
    from rich.console import Console

    from nas_attn.answer.answer import Answer
    from nas_attn.answer.pair_tests import Family
    from nas_attn.answer.snapshot import Snapshot
    from nas_attn.searching.phases.testing import ValidationRequest
    from nas_attn.searching.prepare.clock import SearchTime
    from nas_attn.storage.opening import OpenStudy
    from nas_attn.storage.records import StoredScore
    from nas_attn.storage.rows import Run


Another = Annotated[bool, Option("--another", help="Start another test, with new runs.")]
# parameters of `test` that say what is compared
COMPARED = ("seeds", "front", "also", "margin")


def do_runs(
    opened: OpenStudy,
    effort: Effort,
    again: str,
    *,
    only: str | None = None,
    left_s: float | None = None,
) -> Ending:
    """Runs workers until nothing is left to do, or a signal stops them. A second signal ends the
    program.

    Args:
        opened: the study.
        effort: how runs are carried out.
        again: the command that goes on.
        only: the purpose of the runs; None: all.
        left_s: seconds until all of it ends; None: no limit.

    Returns:
        Why they ended.
    """
    from nas_attn.cli.terminal import display
    from nas_attn.searching.run.local import run_workers
    from nas_attn.searching.run.taking_part import Options
    from nas_attn.searching.worker.devices import usual_workers
    from nas_attn.searching.worker.stopping import interruptible

    quiet_optuna()
    stop = threading.Event()
    ended: Ending | None = None
    context = effort.context
    quiet = context.quiet or context.as_json
    with (
        display(opened, only=only, quiet=quiet) as say,
        interruptible(stop, say),
        # what an evaluator prints is not the result
        redirect_stdout(sys.stderr),
    ):
        options = Options(
            device=effort.device,
            threads=effort.threads,
            say=say,
            stop=stop,
            only=only,
        )
        with suppress(KeyboardInterrupt):
            count = effort.workers or usual_workers(opened, effort.device)
            ended = ended_after(left_s, stop, lambda: run_workers(opened, count, options))
    if ended is None:
        echo(f"stopped at once; go on with: {again}", err=True)
        raise typer.Exit(INTERRUPTED)
    return ended


def ended_after(seconds: float | None, stop: threading.Event, work: Callable[[], Ending]) -> Ending:
    """Why some work ends, which is stopped after so many seconds; None: never.

    Args:
        seconds: from now on.
        stop: is set to stop it.
        work: until it ends.
    """
    over = threading.Event()

    def end() -> None:
        over.set()
        stop.set()

    timer = threading.Timer(seconds or 0.0, end)
    timer.daemon = True
    if seconds is not None:
        timer.start()
    try:
        ended = work()
    finally:
        timer.cancel()
    return Ending.TIME if ended is Ending.STOPPED and over.is_set() else ended


def run_study(opened: OpenStudy, effort: Effort, clock: SearchTime) -> Ending:
    """Runs workers until the study is complete, its time is over, or a signal stops them; says why
    they ended.
    """
    from nas_attn.searching.prepare.clock import time_left
    from nas_attn.searching.worker.devices import usual_workers

    workers = effort.workers or usual_workers(opened, effort.device)
    left_s = time_left(opened, clock, workers=workers)
    return do_runs(opened, effort, again_of(opened), left_s=left_s)


def again_of(opened: OpenStudy) -> str:
    """The command that goes on with a study."""
    return f"nas-attn resume {opened.store.name}{at_storage(opened.url)}"


def show_outcome(context: Context, opened: OpenStudy, ended: Ending, *, report: str | None) -> None:
    """Shows the answer of a study, writes its report, and says how to go on.

    Args:
        context: the call.
        opened: the study.
        ended: why its workers ended.
        report: path of the report; None: beside the database.

    Raises:
        OperationError: the report cannot be written.
        Exit: a signal stopped the runs.
    """
    from nas_attn.answer.reading import answer
    from nas_attn.cli.showing import show_answer, show_front, show_next
    from nas_attn.report.publishing import publish, write_study_report
    from nas_attn.storage.opening import renewed

    # it may have found how long its target trains
    opened = renewed(opened)
    found = publish(opened) or answer(opened.store)
    path = None
    unwritten = None
    try:
        path = write_study_report(opened, found, Path(report) if report else None)
    except NasAttnError as error:
        # after a long search the answer comes first
        unwritten = error
    if context.as_json:
        _print_answer(opened, found, ended, path)
    else:
        out = console(wide=context.wide)
        show_answer(out, found, opened.url)
        out.print()
        show_front(out, found)
        show_next(
            out,
            found,
            storage=opened.url,
            artifacts=opened.local_artifacts,
            report=path,
            ended=ended,
        )
    if unwritten is not None:
        raise unwritten
    again = again_of(opened)
    now = found.now
    if now.planned == 0:
        # none was begun, and without a number none would be
        again = f"nas-attn resume {now.study} --trials {now.planned_next}{at_storage(opened.url)}"
    if ended is Ending.STOPPED:
        echo(f"stopped before the end; go on with: {again}", err=True)
        raise typer.Exit(INTERRUPTED)
    if ended is Ending.TIME:
        echo(f"the time is over; to try more: {again}", err=True)
    if ended is Ending.EXHAUSTED:
        echo(
            "every placement of the search space has been tried, or is probably over the limits",
            err=True,
        )


def say_created(context: Context, opened: OpenStudy) -> None:
    """Says that a study is made, and how it is searched."""
    name = opened.store.name
    at = at_storage(opened.url)
    if context.as_json:
        from nas_attn.answer.reading import answer

        _print_answer(opened, answer(opened.store), None, None)
        return
    echo(f"study {name} is made, with {several(opened.trials, 'candidate')} to try")
    echo(f"search it with: nas-attn worker {name}{at}, as often as you like, on any machine")


def _print_answer(
    opened: OpenStudy, answer: Answer, ended: Ending | None, report: Path | None
) -> None:
    """`ended`: None if the study was only made."""
    from nas_attn.answer.as_json import answer_as_json
    from nas_attn.storage.urls import shown_url

    print_json(
        {
            **answer_as_json(answer),
            "ended": "created" if ended is None else ended,
            "report": None if report is None else str(report),
            "storage": shown_url(opened.url),
        }
    )


def final_test(
    context: Context,
    study: StudyName = None,
    seeds: Annotated[
        int | None,
        Option("--seeds", min=2, help="New runs of every network; default: the target's."),
    ] = None,
    front: Annotated[int, Option(min=0, help="Also compare this many members of the front.")] = 0,
    also: Placements = None,
    margin: Annotated[
        float | None, Option(help="Largest acceptable drop (accuracy: 0.005 is half a point).")
    ] = None,
    difference: Annotated[
        float | None, Option(help="Say how many seeds are needed to show this difference.")
    ] = None,
    another: Another = False,
    dry_run: DryRun = False,
    time: Time = None,
    workers: Workers = None,
    threads: Threads = None,
    device: Device = "auto",
) -> None:
    """Test what a search recommends on the test images. It trains the recommended network and its
    rivals anew, as the target says: this may take hours.

    Examples:
      nas-attn test --dry-run
      nas-attn test digits --seeds 8 --time 12h

    What a test shows: docs/how-to/test-and-export.md
    """
    effort = Effort(context, workers, threads, device)
    seconds = clock(time)
    for option, size in (("--margin", margin), ("--difference", difference)):
        if size is not None and not (math.isfinite(size) and size > 0):
            raise RecipeError(f"{option} {size} must be above 0, in the metric's unit")
    if context.quiet or context.as_json:
        context.refuse(["difference"], "it adds a line to what --quiet and --json leave out")
    check_output()

    from nas_attn.answer.reading import answer
    from nas_attn.searching.phases import testing
    from nas_attn.searching.prepare.checks import check
    from nas_attn.searching.prepare.search_plan import SearchPlan

    opened = study_named(context, study, runs_code=True)
    found = answer(opened.store)
    asked = testing.ValidationRequest(seeds, front, tuple(also or ()), margin)
    family = _family(context, opened, found, asked, new=another or dry_run)
    if family is None:
        _show_validations(context, found.now)
        return
    testing.check_test_split(opened.recipe)
    check(SearchPlan(opened.recipe, opened.url, study=opened, device=device))
    if dry_run or not (context.quiet or context.as_json):
        _announce(context, found.now, family, difference)
    if not dry_run:
        _test(opened, family, effort, seconds)


def _family(
    context: Context, opened: OpenStudy, found: Answer, asked: ValidationRequest, *, new: bool
) -> Family | None:
    """The test that has begun, else a new one; None: the last one has ended, and is shown.

    Args:
        context: The call.
        opened: The study.
        found: Its answer as of now.
        asked: What a new test compares.
        new: Whether another one may begin.

    Raises:
        UserError: An option has no effect on the test.
    """
    from nas_attn.answer.reading import unfinished
    from nas_attn.searching.phases.testing import family_of
    from nas_attn.training.plan import study_plan

    family = next(iter(unfinished(opened.store)), None)
    if family is not None:
        why = f"test {family.number} has begun, and its comparison is fixed"
        context.refuse([*COMPARED, "another"], why)
        return family
    ended = len(found.now.validations)
    if ended and not new:
        why = f"test {ended} has ended, and this shows it; --another starts another"
        context.refuse([*COMPARED, "difference"], why)
        return None
    return family_of(opened, found, study_plan(opened.store), asked)


def _announce(context: Context, now: Snapshot, family: Family, difference: float | None) -> None:
    """Says what is compared and what that can show, before the first run.

    Args:
        context: The call.
        now: The study as of now.
        family: The networks of the test.
        difference: Whose number of seeds is said; None: of none.
    """
    from nas_attn.answer.as_json import as_json
    from nas_attn.answer.forecast import forecast_validation
    from nas_attn.answer.validation_text import announcement
    from nas_attn.cli.terminal import INDENT, show_prose

    forecast = forecast_validation(now, family)
    if context.as_json:
        print_json({"family": as_json(family), **as_json(forecast)})
        return
    if context.quiet:
        return
    out = console()
    headline, *lines = announcement(now, family, forecast, difference)
    show_prose(out, headline.text, style="bold")
    for line in lines:
        show_prose(out, line.text, label=line.label, indent=INDENT)


def _test(opened: OpenStudy, family: Family, effort: Effort, seconds: float | None) -> None:
    """Runs a test and shows what it found. Exit: it was stopped before its end.

    Args:
        opened: The study.
        family: The networks of the test.
        effort: How runs are carried out.
        seconds: Until all of it ends; None: no limit.
    """
    from nas_attn.answer.reading import answer
    from nas_attn.report.publishing import publish
    from nas_attn.searching.phases import testing

    testing.begin(opened, family)
    again = f"nas-attn test {opened.store.name}{at_storage(effort.context.storage)}"
    do_runs(opened, effort, again, only=VALIDATE, left_s=seconds)
    now = (publish(opened) or answer(opened.store)).now
    _show_validations(effort.context, now)
    if not now.validations[family.number - 1].complete:
        echo(f"stopped before the end; go on with: {again}", err=True)
        raise typer.Exit(INTERRUPTED)


def _show_validations(context: Context, now: Snapshot) -> None:
    from nas_attn.answer.as_json import as_json
    from nas_attn.cli.showing import show_validation

    if context.as_json:
        plain = [{**as_json(one), "complete": one.complete} for one in now.validations]
        print_json({"study": now.study, "validations": plain})
        return
    for result in now.validations:
        show_validation(console(), result, now)


def retrain(
    context: Context,
    study: StudyName = None,
    max_latency_ratio: MaxLatencyRatio = None,
    max_latency_ms: MaxLatencyMs = None,
    min_accuracy: MinAccuracy = None,
    placement: ChosenPlacement = None,
    epochs: Annotated[int | None, Option(min=1, help="Epochs, instead of the target's.")] = None,
    seeds: Annotated[int, Option(min=1, help="Runs of each network.")] = 1,
    time: Time = None,
    workers: Workers = None,
    threads: Threads = None,
    device: Device = "auto",
) -> None:
    """Train networks as the target says. Their weights are kept.

    Examples:
      nas-attn retrain
      nas-attn retrain digits --placement "stage3=se" --placement none --seeds 3

    What the target is: docs/explain/training.md
    """
    first, *more = placement or [""]
    wanted = criteria(max_latency_ratio, max_latency_ms, min_accuracy, [first] if first else [])
    effort = Effort(context, workers, threads, device)
    seconds = clock(time)
    check_output()

    from nas_attn.answer.choosing import named
    from nas_attn.answer.reading import answer
    from nas_attn.searching.phases import retraining
    from nas_attn.searching.prepare.checks import check
    from nas_attn.searching.prepare.search_plan import SearchPlan
    from nas_attn.searching.worker import devices

    opened = study_named(context, study, runs_code=True)
    found = answer(opened.store)
    others = [criteria(None, None, None, [text]) for text in more]
    chosen = dict(named(opened, found, words) for words in (wanted, *others))
    # if the data is missing or changed, nothing is written
    check(SearchPlan(opened.recipe, opened.url, study=opened, device=device))
    order = retraining.order(opened, chosen, seeds=seeds, epochs=epochs)
    left = retraining.enter(opened.store, order)
    again = f"the same command{at_storage(context.storage)}"
    if left:
        count = min(workers or devices.usual_workers(opened, device), left)
        do_runs(opened, replace(effort, workers=count), again, only=RETRAIN, left_s=seconds)
    scores = retraining.results(opened.store, order)
    if context.as_json:
        rows = [_as_json(*result) for result in scores]
        print_json({"study": opened.store.name, "protocol": order.protocol, "runs": rows})
    else:
        how = "as the options say, not as the target says"
        if order.protocol == TARGET_PROTOCOL:
            how = "as the target says"
        title = f"Trained {how}; scored on the validation split"
        _show_retrained(console(wide=context.wide), title, scores)
    if any(
        row.state == "waiting"
        for row in opened.store.queue.rows(protocol=order.protocol, purposes=[RETRAIN])
    ):
        echo(f"stopped before the end; go on with: {again}", err=True)
        raise typer.Exit(INTERRUPTED)


def _as_json(run: Run, stored: StoredScore | None, reason: str) -> dict[str, Any]:
    metrics = None if stored is None else dict(stored.score.metrics)
    return {**asdict(run), "placement": str(run.placement), "metrics": metrics, "reason": reason}


def _show_retrained(
    out: Console, title: str, scores: Sequence[tuple[Run, StoredScore | None, str]]
) -> None:
    """A row for each finished training, a column for each metric; then what did not finish."""
    from nas_attn.answer.candidates import metrics_shown
    from nas_attn.cli.terminal import show_prose
    from nas_attn.recipe import units

    ended = [(run, stored.score.metrics) for run, stored, _ in scores if stored is not None]
    metrics = metrics_shown(known for _, known in ended)
    right = ["seed", *map(units.title, metrics)]
    rows = [
        [
            str(run.placement),
            str(run.seed),
            *(units.value(name, known.get(name)) for name in metrics),
        ]
        for run, known in ended
    ]
    if rows:
        out.print(table(title, ["network", *right], rows, right=right))
    for run, stored, reason in scores:
        if stored is None:
            show_prose(out, f"{run.placement}, seed {run.seed}: {reason or 'not finished'}")
    show_prose(
        out,
        "Only nas-attn test reads the test images. nas-attn export takes the weights of the first"
        " seed.",
    )
