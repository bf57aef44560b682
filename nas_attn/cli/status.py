"""`nas-attn status`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas_attn.cli.common import AsJson, Storage, StudyName, console, print_json, study_named, table
from nas_attn.errors import StorageAway, UserError
from nas_attn.paths import DEFAULT_URL

if TYPE_CHECKING:
    from rich.console import Group

    from nas_attn.storage import LeaseRow
    from nas_attn.study.opening import OpenStudy
    from nas_attn.study.overview import Overview, WorkerView

REASONS = 5
"""Reasons of failures that are shown."""


def status(
    study: StudyName = None,
    storage: Storage = DEFAULT_URL,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Refresh the view until the study ends.")] = False,
    every: Annotated[float, typer.Option("--every", min=0.2, help="With --watch: seconds between two updates.")] = 2.0,
    as_json: AsJson = False,
) -> None:
    """Counts of candidates by state; for one study also who works on it, at what, what failed, and the time left."""
    if watch and as_json:
        raise UserError("--watch and --json exclude each other: give one of them")
    if study is not None or watch:
        opened = study_named(study, storage)
        if watch:
            _watch(opened, every)
        else:
            _once(opened, as_json)
        return
    from nas_attn.storage import Database, shown_url

    studies = Database(storage, must_exist=True).studies()
    if as_json:
        print_json([asdict(s) for s in studies])
        return
    rows = [
        [s.name, time.strftime("%Y-%m-%d %H:%M", time.localtime(s.created_at)), _counts(s.candidates)] for s in studies
    ]
    console().print(table(f"Studies in {shown_url(storage)}", ["study", "created", "candidates"], rows))


def _once(opened: OpenStudy, as_json: bool) -> None:
    from nas_attn.study.overview import overview
    from nas_attn.study.reading import constants_now

    now = overview(opened)
    same = constants_now(opened.store, opened.recipe)
    held = _leases(opened)
    if as_json:
        found = {**asdict(now.progress), "finished": now.progress.finished}
        more = {**asdict(now), "leases": held, "constants": [asdict(constant) for constant in same]}
        print_json({"study": opened.store.name, **found, **{k: v for k, v in more.items() if k != "progress"}})
        return
    out = console()
    out.print(_shown(opened, now))
    for constant in same:
        out.print(f"Note: {constant.sentence}\n", markup=False)
    listed = {worker.pid for worker in now.workers}
    rows = [
        [str(lease[key]) for key in ("work", "state", "expires_in_s", "owner")]
        for lease in held
        if lease["pid"] not in listed
    ]
    if rows:
        out.print(table("Work held by other processes", ["work", "state", "lease expires in (s)", "owner"], rows))
    if _nobody(now) and not any(lease["state"] == "held" for lease in held):
        out.print(f"No worker is running; continue with: nas-attn resume {opened.store.name}", markup=False)


def _watch(opened: OpenStudy, every_s: float) -> None:
    """Until the study has ended and nobody works on it any more, or Ctrl-C."""
    from rich.live import Live

    out = console()
    try:
        if not out.is_terminal:
            _look(opened, every_s, out.print)
            return
        with Live(console=out, auto_refresh=False, vertical_overflow="visible") as live:
            _look(opened, every_s, lambda shown: live.update(shown, refresh=True))
    except KeyboardInterrupt:
        return


def _look(opened: OpenStudy, every_s: float, show: Callable[[Any], None]) -> None:
    from nas_attn.study.overview import overview

    while True:
        try:
            now = overview(opened)
        except StorageAway as error:
            show(f"{time.strftime('%H:%M:%S')}  {error}")
        else:
            show(_shown(opened, now))
            if not now.workers and now.progress.finished >= now.progress.trials:
                return
        time.sleep(every_s)


def _shown(opened: OpenStudy, now: Overview) -> Group:
    from rich.console import Group
    from rich.text import Text

    words = [f"Study {opened.store.name}: {now.progress.line(working=False)}", _begun(now)]
    if now.per_hour is not None:
        words.append(
            f"{now.per_hour:,.0f} candidates an hour" if now.per_hour >= 100 else f"{now.per_hour:.3g} an hour"
        )
    if now.per_hour is not None and now.progress.left is not None:
        words.append(now.progress.left.text)
    parts: list[Any] = [Text("; ".join(words))]
    if now.workers:
        columns = ["machine", "pid", "device", "at", "for", "last sign of life"]
        rows = [_row(worker) for worker in now.workers]
        parts.append(table(_title(now), columns, rows, right=["for", "last sign of life"]))
    if now.launched:
        parts.append(Text(f"Launched on {'; '.join(now.launched)}\n"))
    if now.failures:
        rows = [[str(count), reason] for reason, count in now.failures[:REASONS]]
        parts.append(table("Failed", ["runs", "reason"], rows, right=["runs"]))
    return Group(*parts)


def _begun(now: Overview) -> str:
    count = now.progress.running
    return f"{count} running" if now.workers or not count else f"{count} begun, to be continued by the next worker"


def _title(now: Overview) -> str:
    count = len(now.workers)
    return f"{count} worker{'' if count == 1 else 's'}"


def _row(worker: WorkerView) -> list[str]:
    from nas_attn.analysis.units import duration

    doing = worker.doing if not worker.waiting else f"{worker.doing}; {worker.waiting}"
    if worker.state in ("silent", "gone"):
        doing = f"{worker.state}; last task: {doing}"
    seen = f"{duration(worker.silent_s)} ago"
    return [worker.machine, worker.pid, worker.device, doing, duration(worker.at_it_s), seen]


def _leases(opened: OpenStudy) -> list[dict[str, Any]]:
    from nas_attn.processes import machine_and_pid

    clock, local = opened.database.now(), opened.store.is_local
    return [
        {
            "work": row.resource,
            "state": _state(row, clock, local=local),
            "owner": row.owner,
            "pid": machine_and_pid(row.owner)[1],
            "expires_in_s": round(row.expires_at - clock),
        }
        for row in opened.store.leases(released=False)
    ]


def _state(row: LeaseRow, now: float, *, local: bool) -> str:
    from nas_attn.processes import is_dead

    if is_dead(row.owner, local=local):
        return "worker gone"
    return "expired" if row.state == "held" and row.expires_at < now else row.state


def _nobody(now: Overview) -> bool:
    unfinished = now.progress.finished < now.progress.trials
    return unfinished and not any(worker.state in ("working", "waiting") for worker in now.workers)


def _counts(states: object) -> str:
    assert isinstance(states, dict)
    return ", ".join(f"{count} {state}" for state, count in states.items()) or "none yet"
