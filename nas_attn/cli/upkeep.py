"""`nas-attn status`, `backup`, `clean` and `doctor`."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from nas_attn.cli.common import (
    AsJson,
    DryRun,
    Storage,
    StudyName,
    Wide,
    at_storage,
    console,
    echo,
    print_json,
    study_named,
    table,
)
from nas_attn.cli.studies import list_studies
from nas_attn.errors import NasAttnError, StorageAway, StudyError, UserError, several
from nas_attn.paths import DEFAULT_URL
from nas_attn.words.wrapping import wrapped

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.text import Text

    from nas_attn.searching.run.overview import Overview
    from nas_attn.study.opening import OpenStudy
    from nas_attn.study.workers import FormerView, WorkerView
    from nas_attn.words.card import CardRow


# Reasons of failures that are shown
REASONS = 5
# Between two updates with --watch
REFRESH_S = 2.0


def status(
    study: StudyName = None,
    storage: Storage = DEFAULT_URL,
    watch: Annotated[
        bool, Option("--watch", "-w", help="Refresh the view until the study ends.")
    ] = False,
    wide: Wide = False,
    as_json: AsJson = False,
) -> None:
    """Show the progress of a study, or list all studies."""
    if watch and as_json:
        raise UserError("--watch and --json exclude each other: give one of them")
    if watch:
        _watch(study_named(study, storage))
    elif study is not None:
        _once(study_named(study, storage), as_json, wide=wide)
    else:
        list_studies(storage, as_json, wide=wide)


def _once(opened: OpenStudy, as_json: bool, *, wide: bool) -> None:
    from nas_attn.cli.printing import show_command, show_prose
    from nas_attn.searching.run.overview import overview
    from nas_attn.study.reading import constants_now
    from nas_attn.words.as_json import constant_as_json
    from nas_attn.words.lines import LABEL_COLUMNS
    from nas_attn.words.progress import progress_as_json
    from nas_attn.words.remarks import constant_sentence
    from nas_attn.words.time_use import time_as_json

    now = overview(opened)
    held = _leases(opened)
    same = constants_now(opened.store, opened.recipe)
    next_step = _next_step(opened, now, leased=any(lease["state"] == "held" for lease in held))
    if as_json:
        progress = progress_as_json(now.progress)
        more = {
            **asdict(replace(now, time_use=())),
            "time_use": time_as_json(now.time_use),
            "leases": held,
            "constants": [constant_as_json(opened.recipe, constant) for constant in same],
            "next": None if next_step is None else next_step.command,
        }
        print_json(
            {
                "study": opened.store.name,
                **progress,
                **{k: v for k, v in more.items() if k != "progress"},
            }
        )
        return
    out = console(wide=wide)
    out.print(_shown(opened, now, _width(out)))
    for constant in same:
        show_prose(out, f"Note: {constant_sentence(opened.recipe, constant)}")
        out.print()
    if next_step is not None:
        out.print()
        show_prose(out, next_step.text, label=next_step.label)
        show_command(out, next_step.command, indent=" " * LABEL_COLUMNS)


def _next_step(opened: OpenStudy, now: Overview, *, leased: bool) -> CardRow | None:
    """The next command: to look at what is running, to go on, or what the card says."""
    from nas_attn.study.reading import snapshot
    from nas_attn.words.card import CardRow, card_text

    at = at_storage(opened.url)
    name = opened.store.name
    if leased or any(worker.state in ("working", "waiting") for worker in now.workers):
        return CardRow("Next", "the answer so far:", f"nas-attn pareto {name}{at}")
    if now.progress.finished < now.progress.trials:
        return CardRow("Next", "no worker is running; to continue:", f"nas-attn resume {name}{at}")
    rows = {row.label: row for row in card_text(snapshot(opened.store), at).rows}
    return rows.get("Next")


def _watch(opened: OpenStudy) -> None:
    """Refreshes the view until the study is complete and has no workers, or Ctrl-C."""
    from rich.live import Live

    out = console()
    try:
        if not out.is_terminal:
            _look(opened, out.print, None)
            return
        with Live(console=out, auto_refresh=False, vertical_overflow="visible") as live:
            _look(opened, lambda shown: live.update(shown, refresh=True), out.width)
    except KeyboardInterrupt:
        return


def _width(out: Console) -> int | None:
    """Of a terminal; None: elsewhere lines are as long as they are."""
    return out.width if out.is_terminal else None


def _look(opened: OpenStudy, show: Callable[[Any], None], width: int | None) -> None:
    from nas_attn.searching.run.overview import overview

    while True:
        try:
            now = overview(opened)
        except StorageAway as error:
            show(f"{time.strftime('%H:%M:%S')}  {error}")
        else:
            show(_shown(opened, now, width))
            if not now.workers and now.progress.finished >= now.progress.trials:
                return
        time.sleep(REFRESH_S)


def _shown(opened: OpenStudy, now: Overview, width: int | None) -> Group:
    from rich.console import Group

    from nas_attn.words.machine import arithmetic_lines
    from nas_attn.words.progress import progress_line, time_left_text
    from nas_attn.words.time_use import time_sentence

    running = now.progress.running
    more = "running" if now.workers or not running else "begun (the next worker continues)"
    words = [
        f"Study {opened.store.name}: {progress_line(now.progress, working=False)}",
        f"{running} {more}",
    ]
    if now.per_hour is not None:
        words.append(f"{now.per_hour:,.{0 if now.per_hour >= 10 else 1}f} candidates an hour")
        left = time_left_text(now.progress)
        words += [left] if left else []
    parts: list[Any] = [_prose("; ".join(words), width)]
    if now.workers:
        columns = ["machine", "pid", "device", "at", "for", "last sign of life"]
        optional = ["machine", "last sign of life", "device"]
        count = len(now.workers)
        title = f"{several(count, 'worker')}"
        parts.append(
            table(
                title,
                columns,
                map(_worker_row, now.workers),
                right=["for", "last sign of life"],
                optional=optional,
            )
        )
    if now.former:
        parts.append(_prose(f"{_former(now.former)}\n", width))
    if now.launched:
        parts.append(_prose(f"Launched on {'; '.join(now.launched)}\n", width))
    parts += [_prose(line, width) for line in arithmetic_lines(now.arithmetic)]
    spent = time_sentence(now.time_use)
    if spent:
        parts.append(_prose(spent, width))
    if now.failures:
        rows = [[str(count), reason] for reason, count in now.failures[:REASONS]]
        parts.append(table("Failed", ["runs", "reason"], rows, right=["runs"]))
    return Group(*parts)


def _prose(text: str, width: int | None) -> Text:
    """A sentence in lines of a terminal; no number is parted from its unit."""
    from rich.text import Text

    if width is None:
        return Text(text)
    lines = []
    for line in text.splitlines():
        lines += wrapped(line, width) if line else [""]
    return Text("\n".join(lines) + ("\n" if text.endswith("\n") else ""))


def _former(workers: Sequence[FormerView]) -> str:
    """`3 workers have ended: 2 in order, 1 without a word`."""
    lost = sum(worker.ending == "lost" for worker in workers)
    ended = f"{several(len(workers), 'worker')} {'has' if len(workers) == 1 else 'have'} ended"
    if not lost:
        return ended
    return f"{ended}: {len(workers) - lost} in order, {lost} without a word"


def _worker_row(worker: WorkerView) -> list[str]:
    from nas_attn.words.units import duration

    doing = worker.doing if not worker.waiting else f"{worker.doing}; {worker.waiting}"
    if worker.state in ("silent", "gone"):
        doing = f"{worker.state}; last task: {doing}"
    seen = f"{duration(worker.silent_s)} ago"
    return [worker.machine, worker.pid, worker.device, doing, duration(worker.at_it_s), seen]


def _leases(opened: OpenStudy) -> list[dict[str, Any]]:
    """The leases, with their holders."""
    from nas_attn.processes import is_dead, machine_and_pid

    clock = opened.database.now()
    leases = []
    for row in opened.store.leases(released=False):
        state = "expired" if row.state == "held" and row.expires_at < clock else row.state
        if is_dead(row.owner, local=opened.store.is_local):
            state = "worker gone"
        pid = machine_and_pid(row.owner)[1]
        left = round(row.expires_at - clock)
        leases.append(
            {
                "work": row.resource,
                "state": state,
                "owner": row.owner,
                "pid": pid,
                "expires_in_s": left,
            }
        )
    return leases


def backup(
    path: Annotated[str, Argument(help="File to write.")],
    storage: Storage = DEFAULT_URL,
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
    as_json: AsJson = False,
) -> None:
    """Copy a database with its weights. Workers may go on meanwhile."""
    from nas_attn.storage import Database
    from nas_attn.study.keeping import back_up
    from nas_attn.words.upkeep import copied_files, staying_line

    done = back_up(Database(storage, must_exist=True), path, overwrite=force, artifacts=weights)
    if as_json:
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
        echo(copied_files(str(done.artifacts), done.files, done.size))
    for bucket in done.elsewhere:
        echo(staying_line(bucket))


def clean(
    study: StudyName = None,
    storage: Storage = DEFAULT_URL,
    keep: Annotated[
        str | None,
        Option(
            help="Which weights of the search to keep: all, front or none; default: the recipe's."
        ),
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Delete what a study no longer needs. Weights, checkpoints, unused files, decoded images."""
    if keep not in (None, "all", "front", "none"):
        raise StudyError(f"--keep '{keep}' is unknown: give all, front or none")
    from nas_attn.study.keeping import clean as free
    from nas_attn.words.upkeep import freed_line

    opened = study_named(study, storage)
    freed = free(opened, keep, dry_run=dry_run)
    if as_json:
        print_json({"study": opened.store.name, "dry_run": dry_run, **asdict(freed)})
        return
    echo(freed_line(asdict(freed), dry_run=dry_run))


EXTRAS = {
    "dashboard": "optuna_dashboard",
    "timm": "timm",
    "onnx": "onnxruntime",
    "postgres": "psycopg",
}
# (what was looked at; `ok`, `note` (works without) or `bad`; what was found)
Check = tuple[str, str, str]


def doctor(
    storage: Storage = DEFAULT_URL,
    gpu: Annotated[
        bool,
        Option("--gpu", help="Also train, record and measure on the GPU: about two minutes."),
    ] = False,
    wide: Wide = False,
    as_json: AsJson = False,
) -> None:
    """Check this machine. Its devices, libraries and database."""
    checks = [*_machine(), *(_gpu() if gpu else _no_gpu()), _database(storage)]
    for extra, module in EXTRAS.items():
        there = importlib.util.find_spec(module) is not None
        said = "installed"
        if not there:
            said = f"not installed: pip install 'nas-attn[{extra}]'"
        checks.append((f"extra '{extra}'", "ok" if there else "note", said))
    if as_json:
        print_json([dict(zip(("what", "state", "found"), check, strict=True)) for check in checks])
    else:
        rows = [[state, what, remark] for what, state, remark in checks]
        console(wide=wide).print(table("This machine", ["", "what", "found"], rows, whole=[""]))
    if any(state == "bad" for _, state, _ in checks):
        raise typer.Exit(1)


def _no_gpu() -> Iterator[Check]:
    """Says so where there is none."""
    import torch

    if not torch.cuda.is_available():
        yield "GPU", "note", "none that torch can use; training runs on the CPU"


def _gpu() -> Iterator[Check]:
    """What `docs/gpu.md` describes, the short form."""
    import torch

    from nas_attn.checkup import QUICK, environment, modules

    if not torch.cuda.is_available():
        none = environment.no_gpu()
        yield none.subject, none.state, none.said
        return
    device = torch.device("cuda")
    precision = environment.precision(device)
    yield precision.subject, precision.state, precision.said
    for part, find in QUICK.items():
        echo(f"trying the GPU: {part}", err=True)
        findings = list(find(device))
        if part == modules.MODULES:
            good = [finding for finding in findings if finding.state == "ok"]
            findings = [finding for finding in findings if finding.state != "ok"]
            yield part, "ok", f"{len(good)} compute what float64 computes on the CPU"
        for finding in findings:
            yield f"{part}: {finding.subject}", finding.state, finding.said


def _machine() -> Iterator[Check]:
    """Libraries, devices, load and disk."""
    import psutil
    import torch

    from nas_attn.processes import cores
    from nas_attn.searching.worker.mps import MPS_CONTROL
    from nas_attn.study.opening import versions

    yield "python", "ok", platform.python_version()
    yield "libraries", "ok", ", ".join(f"{name} {version}" for name, version in versions().items())
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        memory = properties.total_memory / 2**30
        yield (
            f"GPU {index}",
            "ok",
            f"{properties.name}, {memory:.0f} GiB, CUDA {torch.version.cuda}",
        )
    if torch.cuda.is_available():
        there = shutil.which(MPS_CONTROL) is not None
        how = "compute at the same time" if there else "take turns"
        remark = f"{'installed' if there else 'not installed'}: several workers on one GPU {how}"
        yield "MPS", "ok" if there else "note", remark
    load = psutil.getloadavg()[0]
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    busy = load > cores() / 2
    said = f"{cores()} cores, load {load:.1f}{' (busy: expect slow searches)' if busy else ''}"
    yield "CPU", "note" if busy else "ok", said
    yield "disk", "ok" if free > 2 else "bad", f"{free:.1f} GiB free in {Path.cwd()}"


def _database(storage: str) -> Check:
    from nas_attn.storage import Database, shown_url
    from nas_attn.storage.urls import storage_url

    shown = shown_url(storage)
    try:
        url = storage_url(storage)
        if url.get_backend_name() == "sqlite" and url.database and not Path(url.database).exists():
            folder = Path(url.database).resolve().parent
            able = os.access(folder, os.W_OK)
            how = f"{folder} {'is writable' if able else 'cannot be written'}"
            return "database", "ok" if able else "bad", f"{shown}: does not exist yet; {how}"
        with Database(storage, must_exist=True) as database:
            return "database", "ok", f"{shown}: {len(database.studies())} studies"
    except NasAttnError as error:
        return "database", "bad", str(error)
