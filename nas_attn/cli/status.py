"""`nas-attn status`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas_attn.cli.common import console, print_json, study_named, table
from nas_attn.cli.options import AsJson, Storage, StudyName
from nas_attn.errors import StorageAway, UserError
from nas_attn.paths import DEFAULT_URL

if TYPE_CHECKING:
    from rich.console import Group

    from nas_attn.study.opening import OpenStudy
    from nas_attn.study.progress import Overview, WorkerView

REASONS = 5
"""Reasons of failures that are shown."""
REFRESH_S = 2.0
"""Between two updates with --watch."""


def status(
    study: StudyName = None,
    storage: Storage = DEFAULT_URL,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Refresh the view until the study ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """Counts of candidates by state; for one study also who works on it, at what, what failed, and the time left."""
    if watch and as_json:
        raise UserError("--watch and --json exclude each other: give one of them")
    if watch:
        _watch(study_named(study, storage))
    elif study is not None:
        _once(study_named(study, storage), as_json)
    else:
        _all(storage, as_json)


def _all(storage: str, as_json: bool) -> None:
    from nas_attn.storage import Database, shown_url

    studies = Database(storage, must_exist=True).studies()
    if as_json:
        print_json([asdict(s) for s in studies])
        return
    rows = []
    for s in studies:
        counts = ", ".join(f"{count} {state}" for state, count in s.candidates.items()) or "none yet"
        rows.append([s.name, time.strftime("%Y-%m-%d %H:%M", time.localtime(s.created_at)), counts])
    console().print(table(f"Studies in {shown_url(storage)}", ["study", "created", "candidates"], rows))


def _once(opened: OpenStudy, as_json: bool) -> None:
    from nas_attn.study.progress import overview
    from nas_attn.study.reading import constants_now

    now, held = overview(opened), _leases(opened)
    same = constants_now(opened.store, opened.recipe)
    if as_json:
        found = {**asdict(now.progress), "finished": now.progress.finished}
        more = {**asdict(now), "leases": held, "constants": [asdict(constant) for constant in same]}
        print_json({"study": opened.store.name, **found, **{k: v for k, v in more.items() if k != "progress"}})
        return
    out = console()
    out.print(_shown(opened, now))
    for constant in same:
        out.print(f"Note: {constant.sentence}\n", markup=False)
    unfinished = now.progress.finished < now.progress.trials
    anybody = any(worker.state in ("working", "waiting") for worker in now.workers)
    if unfinished and not anybody and not any(lease["state"] == "held" for lease in held):
        out.print(f"No worker is running; continue with: nas-attn resume {opened.store.name}", markup=False)


def _watch(opened: OpenStudy) -> None:
    """Until the study has ended and nobody works on it any more, or Ctrl-C."""
    from rich.live import Live

    out = console()
    try:
        if not out.is_terminal:
            _look(opened, out.print)
            return
        with Live(console=out, auto_refresh=False, vertical_overflow="visible") as live:
            _look(opened, lambda shown: live.update(shown, refresh=True))
    except KeyboardInterrupt:
        return


def _look(opened: OpenStudy, show: Callable[[Any], None]) -> None:
    from nas_attn.study.progress import overview

    while True:
        try:
            now = overview(opened)
        except StorageAway as error:
            show(f"{time.strftime('%H:%M:%S')}  {error}")
        else:
            show(_shown(opened, now))
            if not now.workers and now.progress.finished >= now.progress.trials:
                return
        time.sleep(REFRESH_S)


def _shown(opened: OpenStudy, now: Overview) -> Group:
    from rich.console import Group
    from rich.text import Text

    running = now.progress.running
    more = "running" if now.workers or not running else "begun, to be continued by the next worker"
    words = [f"Study {opened.store.name}: {now.progress.line(working=False)}", f"{running} {more}"]
    if now.per_hour is not None:
        words.append(f"{now.per_hour:,.{0 if now.per_hour >= 10 else 1}f} candidates an hour")
        words += [now.progress.left.text] if now.progress.left is not None else []
    parts: list[Any] = [Text("; ".join(words))]
    if now.workers:
        columns = ["machine", "pid", "device", "at", "for", "last sign of life"]
        count = len(now.workers)
        title = f"{count} worker{'' if count == 1 else 's'}"
        parts.append(table(title, columns, map(_row, now.workers), right=["for", "last sign of life"]))
    if now.launched:
        parts.append(Text(f"Launched on {'; '.join(now.launched)}\n"))
    if now.failures:
        rows = [[str(count), reason] for reason, count in now.failures[:REASONS]]
        parts.append(table("Failed", ["runs", "reason"], rows, right=["runs"]))
    return Group(*parts)


def _row(worker: WorkerView) -> list[str]:
    from nas_attn.analysis.units import duration

    doing = worker.doing if not worker.waiting else f"{worker.doing}; {worker.waiting}"
    if worker.state in ("silent", "gone"):
        doing = f"{worker.state}; last task: {doing}"
    seen = f"{duration(worker.silent_s)} ago"
    return [worker.machine, worker.pid, worker.device, doing, duration(worker.at_it_s), seen]


def _leases(opened: OpenStudy) -> list[dict[str, Any]]:
    """Who holds what."""
    from nas_attn.processes import is_dead, machine_and_pid

    clock, found = opened.database.now(), []
    for row in opened.store.leases(released=False):
        state = "expired" if row.state == "held" and row.expires_at < clock else row.state
        if is_dead(row.owner, local=opened.store.is_local):
            state = "worker gone"
        pid, left = machine_and_pid(row.owner)[1], round(row.expires_at - clock)
        found.append({"work": row.resource, "state": state, "owner": row.owner, "pid": pid, "expires_in_s": left})
    return found
