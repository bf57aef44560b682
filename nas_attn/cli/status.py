"""`nas-attn status`."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from nas_attn.cli.common import DEFAULT_STORAGE, AsJson, Storage, StudyName, console, print_json, table

if TYPE_CHECKING:
    from nas_attn.storage import LeaseRow


def status(study: StudyName = None, storage: Storage = DEFAULT_STORAGE, as_json: AsJson = False) -> None:
    """Counts of candidates by state; for one study also its running trials and who holds them."""
    from nas_attn.storage import Database, shown_url

    if study is not None:
        _one(study, storage, as_json)
        return
    studies = Database(storage, must_exist=True).studies()
    if as_json:
        print_json([asdict(s) for s in studies])
        return
    rows = [
        [s.name, time.strftime("%Y-%m-%d %H:%M", time.localtime(s.created_at)), _counts(s.candidates)] for s in studies
    ]
    console().print(table(f"Studies in {shown_url(storage)}", ["study", "created", "candidates"], rows))


def _one(study: str, storage: str, as_json: bool) -> None:
    from nas_attn.study.opening import open_study
    from nas_attn.study.progress import progress

    opened = open_study(study, storage)
    found = progress(opened)
    now = opened.database.now()
    leases = [row for row in opened.store.leases() if row.state != "released"]
    held = [
        {"work": row.resource, "state": _state(row), "owner": row.owner, "expires_in_s": round(row.expires_at - now)}
        for row in leases
    ]
    if as_json:
        print_json({"study": study, **asdict(found), "finished": found.finished, "leases": held})
        return
    out = console()
    out.print(f"Study {study}: {found.line(0.0)}; {found.running} running", markup=False)
    rows = [[str(lease[key]) for key in ("work", "state", "expires_in_s", "owner")] for lease in held]
    if rows:
        out.print(table("Work under way", ["work", "state", "lease ends in (s)", "owner"], rows))
    if found.finished < found.trials and not any(lease["state"] == "held" for lease in held):
        out.print(f"Nobody works on it; go on with: nas-attn resume {study}", markup=False)


def _state(row: LeaseRow) -> str:
    from nas_attn.study.owner import is_dead

    return "worker gone" if is_dead(row.owner) else row.state


def _counts(states: object) -> str:
    assert isinstance(states, dict)
    return ", ".join(f"{count} {state}" for state, count in states.items()) or "none yet"
