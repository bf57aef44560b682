"""`nas-attn studies`: the studies of a database."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from typing import Annotated

import typer
from typer import Argument, Option

from nas_attn.cli.common import AsJson, Storage, Wide, console, echo, print_json, study_named, table
from nas_attn.errors import UserError
from nas_attn.system.paths import DEFAULT_URL


def list_(storage: Storage = DEFAULT_URL, wide: Wide = False, as_json: AsJson = False) -> None:
    """List the studies of a database. `nas-attn status` without a study does the same."""
    list_studies(storage, as_json, wide=wide)


def delete(
    study: Annotated[str, Argument(help="The study to delete.")],
    storage: Storage = DEFAULT_URL,
    yes: Annotated[bool, Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete a study. Its results, weights and checkpoints go; reports and exported files stay."""
    from nas_attn.searching.keeping import check_deletable, delete_study
    from nas_attn.storage.urls import shown_url
    from nas_attn.words.upkeep import deleted_line, deletion_question, study_text

    opened = study_named(study, storage)
    check_deletable(opened)
    count = len(opened.store.candidates())
    what = study_text(study, count, shown_url(storage))
    if not yes:
        if not sys.stdin.isatty():
            raise UserError(f"this deletes {what}, for good: add --yes")
        typer.confirm(deletion_question(what), abort=True)
    deleted = delete_study(opened)
    if as_json:
        print_json({"study": study, **asdict(deleted)})
        return
    echo(deleted_line(what, deleted.files, deleted.size))


def list_studies(storage: str, as_json: bool, *, wide: bool = False) -> None:
    """Prints the studies of a database."""
    from nas_attn.storage.database import Database
    from nas_attn.storage.urls import shown_url
    from nas_attn.words.upkeep import candidates_text, studies_title

    studies = Database(storage, must_exist=True).studies()
    if as_json:
        print_json([asdict(s) for s in studies])
        return
    rows = []
    for s in studies:
        created = time.strftime("%Y-%m-%d %H:%M", time.localtime(s.created_at))
        rows.append(
            [s.name, created, candidates_text(s.candidates, workers=s.workers, lost=s.lost)]
        )
    title = studies_title(shown_url(storage))
    columns = ["study", "created", "candidates"]
    console(wide=wide).print(table(title, columns, rows, whole=["study"], optional=["created"]))
