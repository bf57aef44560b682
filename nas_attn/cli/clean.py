"""`nas-attn clean`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from nas_attn.cli.common import AsJson, Storage, StudyName, echo, print_json, study_named
from nas_attn.errors import StudyError
from nas_attn.paths import DEFAULT_URL

KEEP = ("all", "front", "none")


def clean(
    study: StudyName = None,
    storage: Storage = DEFAULT_URL,
    keep: Annotated[
        str | None,
        typer.Option("--keep", help="Which weights of the search to keep: all, front or none; default: the recipe's."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be deleted, and stop.")] = False,
    as_json: AsJson = False,
) -> None:
    """Frees what a study no longer needs: weights, checkpoints of ended runs, unused files. Safe while workers work."""
    if keep is not None and keep not in KEEP:
        raise StudyError(f"--keep '{keep}' is unknown: give all, front or none")
    from nas_attn.study.keeping import clean as free

    opened = study_named(study, storage)
    freed = free(opened, keep, dry_run=dry_run)
    if as_json:
        print_json({"study": opened.store.name, "dry_run": dry_run, **asdict(freed)})
        return
    parts = [
        _counted(freed.weights, "network's weights", "networks' weights"),
        _counted(freed.checkpoints, "checkpoint of finished runs", "checkpoints of finished runs"),
        _counted(freed.strays, "unused file", "unused files"),
    ]
    said = ", ".join(part for part in parts if part) or "nothing"
    verb = "would free" if dry_run else "freed"
    echo(f"{verb} {_size(freed.size)}: {said}; the weights of {freed.kept} networks stay")


def _counted(count: int, one: str, several: str) -> str:
    return "" if not count else f"{count:,} {one if count == 1 else several}"


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1000
    raise AssertionError
