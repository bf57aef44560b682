"""`nas-attn status`, `backup`, `clean`, `delete` and `doctor`."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from nas_attn.cli.commands import Context
from nas_attn.cli.common import (
    DryRun,
    StudyName,
    at_storage,
    console,
    echo,
    print_json,
    study_named,
    table,
)
from nas_attn.errors import StudyError, UserError, several
from nas_attn.system.wrapping import Line

if TYPE_CHECKING:
    from rich.console import Console

    from nas_attn.answer.workers import WorkerView
    from nas_attn.searching.run.overview import Overview
    from nas_attn.storage.opening import OpenStudy
    from nas_attn.storage.rows import StudySummary


# what can be deleted of a study
FREED = {
    "weights": "weights",
    "checkpoints": "checkpoints of finished runs",
    "strays": "unused files",
    "prepared": "files of decoded images",
}
# packages that only some users need
OPTIONAL = ("optuna-dashboard", "timm", "onnxruntime", "psycopg")
# Reasons of failures that are shown
REASONS = 5


def status(
    context: Context,
    study: Annotated[
        str | None, Argument(help="Study; without it, all studies are listed.")
    ] = None,
) -> None:
    """Show the progress of a study, or list all studies.

    Examples:
      nas-attn status
      nas-attn status digits --json

    Searches that are running: docs/how-to/run-anywhere.md
    """
    if study is not None:
        _once(context, study_named(context, study))
    else:
        _list_studies(context)


def _once(context: Context, opened: OpenStudy) -> None:
    from nas_attn.answer.as_json import as_json as plain_json
    from nas_attn.answer.reading import constants_now
    from nas_attn.cli.terminal import show_command, show_prose
    from nas_attn.searching.run.overview import overview
    from nas_attn.system.wrapping import LABEL_COLUMNS

    now = overview(opened)
    same = constants_now(opened.store, opened.recipe)
    next_step = _next_step(opened, now)
    if context.as_json:
        held = opened.store.held()
        more = asdict(now)
        del more["progress"]
        print_json(
            {
                "study": opened.store.name,
                **now.progress.as_json(),
                **more,
                "leases": [{"work": lease.resource, "owner": lease.owner} for lease in held],
                "constants": [plain_json(constant) for constant in same],
                "next": next_step.command or None,
            }
        )
        return
    out = console(wide=context.wide)
    _show(out, opened, now)
    for constant in same:
        show_prose(out, f"Note: {constant.sentence}")
        out.print()
    out.print()
    show_prose(out, next_step.text, label=next_step.label)
    if next_step.command:
        show_command(out, next_step.command, indent=" " * LABEL_COLUMNS)


def _next_step(opened: OpenStudy, now: Overview) -> Line:
    """The next command: to look at the answer, or to go on. It needs no statistical model, unless
    it has to be known whether one more round of seeds is worth its time.
    """
    from nas_attn.answer.progress import is_unfinished

    at = at_storage(opened.url)
    name = opened.store.name
    show = f"nas-attn show {name}{at}"
    if any(worker.works for worker in now.workers):
        return Line("the answer so far:", "Next", show)
    if not is_unfinished(opened, now.progress):
        return Line("the answer:", "Next", show)
    if opened.recipe.needs_program:
        by_program = "no worker is running; to continue, start your program again"
        return Line(by_program, "Next")
    return Line("no worker is running; to continue:", "Next", f"nas-attn resume {name}{at}")


def _show(out: Console, opened: OpenStudy, now: Overview) -> None:
    from nas_attn.answer.progress import status_line
    from nas_attn.cli.terminal import show_prose

    at_work = bool(now.workers)
    said = status_line(opened.store.name, now.progress, now.per_hour, at_work=at_work)
    for line in said.splitlines():
        show_prose(out, line)
    if now.workers:
        columns = ["machine", "pid", "device", "at", "for", "last sign of life"]
        title = several(len(now.workers), "worker")
        out.print(table(title, columns, map(_worker_cells, now.workers), right=columns[4:]))
    if now.failures:
        rows = [[str(count), reason] for reason, count in now.failures[:REASONS]]
        out.print(table("Failed", ["runs", "reason"], rows, right=["runs"]))


def _worker_cells(worker: WorkerView) -> list[str]:
    from nas_attn.recipe.units import duration

    doing = worker.doing if not worker.waiting else f"{worker.doing}; {worker.waiting}"
    if worker.state in ("silent", "gone"):
        doing = f"{worker.state}; last task: {doing}"
    seen = f"{duration(worker.silent_s)} ago"
    return [worker.machine, worker.pid, worker.device, doing, duration(worker.at_it_s), seen]


def backup(
    context: Context,
    path: Annotated[str, Argument(help="File to write.")],
    force: Annotated[
        bool, Option("--force", help="Replace a copy once the new one is complete.")
    ] = False,
    weights: Annotated[
        bool,
        Option(
            "--weights/--no-weights",
            help="Also copy checkpoints and weights, to PATH with the suffix .artifacts.",
        ),
    ] = True,
) -> None:
    """Copy a database with its weights. Workers may go on meanwhile.

    Examples:
      nas-attn backup copy.db
      nas-attn backup copy.db --force --no-weights

    Moving a study: docs/how-to/run-anywhere.md
    """
    from nas_attn.searching.keeping import back_up
    from nas_attn.storage.database import Database

    done = back_up(
        Database(context.storage, must_exist=True), path, overwrite=force, artifacts=weights
    )
    if context.as_json:
        folder = done.artifacts and str(done.artifacts)
        elsewhere = list(done.elsewhere)
        print_json(
            {
                "backup": str(done.database),
                "artifacts": folder,
                "files": done.files,
                "elsewhere": elsewhere,
            }
        )
        return
    echo(str(done.database))
    if done.artifacts is not None:
        echo(f"{done.artifacts} ({done.files:,} files, {_megabytes(done.size)})")
    for bucket in done.elsewhere:
        echo(f"the artifacts stay in {bucket}; the copy refers to them")


def clean(
    context: Context,
    study: StudyName = None,
    keep: Annotated[
        str | None,
        Option(
            metavar="[all|front|none]",
            help="Which weights of the search to keep; default: as the recipe says.",
        ),
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Delete what a study no longer needs. Weights, checkpoints, unused files, decoded images.

    Examples:
      nas-attn clean --dry-run
      nas-attn clean digits --keep front

    What a study keeps: docs/how-to/run-anywhere.md
    """
    if keep not in (None, "all", "front", "none"):
        raise StudyError(f"--keep '{keep}' is unknown: give all, front or none")
    from nas_attn.searching.keeping import clean as free

    opened = study_named(context, study)
    freed = free(opened, keep, dry_run=dry_run)
    if context.as_json:
        print_json({"study": opened.store.name, "dry_run": dry_run, **asdict(freed)})
        return
    counts = asdict(freed)
    listed = ", ".join(f"{counts[name]:,} {what}" for name, what in FREED.items() if counts[name])
    verb = "would free" if dry_run else "freed"
    stay = f"the weights of {freed.kept} networks stay"
    echo(f"{verb} {_megabytes(freed.size)}: {listed or 'nothing'}; {stay}")


def delete(
    context: Context,
    study: Annotated[str, Argument(help="The study to delete.")],
    yes: Annotated[
        bool, Option("--yes", "-y", help="Ask no questions: use defaults, or go on.")
    ] = False,
) -> None:
    """Delete a study. Its results, weights and checkpoints go; reports and exported files stay.

    Examples:
      nas-attn delete digits
      nas-attn delete digits --yes

    What a study keeps: docs/how-to/run-anywhere.md
    """
    from nas_attn.searching.keeping import delete_study
    from nas_attn.storage.urls import shown_url

    opened = study_named(context, study)
    count = len(opened.store.candidates())
    what = f"study '{study}' with {several(count, 'candidate')} in {shown_url(context.storage)}"
    if not yes:
        if not sys.stdin.isatty():
            raise UserError(f"this deletes {what}, for good: add --yes")
        typer.confirm(f"Delete {what}, for good?", abort=True)
    deleted = delete_study(opened)
    if context.as_json:
        print_json({"study": study, **asdict(deleted)})
        return
    files = several(deleted.files, "file")
    echo(f"deleted {what}, and {files} of weights and logs ({_megabytes(deleted.size)})")


def _list_studies(context: Context) -> None:
    from nas_attn.storage.database import Database
    from nas_attn.storage.urls import shown_url

    studies = Database(context.storage, must_exist=True).studies()
    if context.as_json:
        print_json([asdict(s) for s in studies])
        return
    rows = []
    for s in studies:
        created = time.strftime("%Y-%m-%d %H:%M", time.localtime(s.created_at))
        rows.append([s.name, created, _candidates(s)])
    title = f"Studies in {shown_url(context.storage)}"
    columns = ["study", "created", "candidates"]
    console(wide=context.wide).print(table(title, columns, rows, whole=["study"]))


def doctor(context: Context) -> None:
    """Show versions, devices, threads and optional packages.

    Examples:
      nas-attn doctor
      nas-attn doctor --json

    More on GPUs: docs/develop/gpu-check.md
    """
    import torch

    from nas_attn.storage.opening import versions

    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    found: dict[str, str | None] = {
        **versions(),
        "device": ", ".join(gpus) or "cpu",
        "threads": str(torch.get_num_threads()),
    }
    for package in OPTIONAL:
        there = find_spec(package.replace("-", "_"))
        found[package] = version(package) if there else None
    if context.as_json:
        print_json(found)
        return
    for name, value in found.items():
        echo(f"{name:<18}{value or 'not installed'}")


def _candidates(listed: StudySummary) -> str:
    """`3 scored, 1 running`; a candidate runs only while there are workers."""
    at_work = listed.workers > 0 and not listed.lost
    counts = []
    for state, count in listed.candidates.items():
        shown = "begun" if state == "running" and not at_work else state
        counts.append(f"{count} {shown}")
    counted = ", ".join(counts) or "none yet"
    if listed.lost:
        return f"{counted}; its trials were deleted from Optuna's tables"
    return counted


def _megabytes(size: int) -> str:
    """`3.1 MB`, from bytes."""
    return f"{size / 1e6:,.1f} MB"
