"""`nas-attn backup` and `clean`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from nas_attn.cli.common import echo, print_json, study_named
from nas_attn.cli.options import AsJson, DryRun, Storage, StudyName
from nas_attn.errors import StudyError
from nas_attn.paths import DEFAULT_URL

KEEP = ("all", "front", "none")


def backup(
    path: Annotated[str, typer.Argument(help="File to write.")],
    storage: Storage = DEFAULT_URL,
    force: Annotated[bool, typer.Option("--force", help="Replace a copy once the new one is complete.")] = False,
    artifacts: Annotated[
        bool,
        typer.Option(
            "--artifacts/--no-artifacts", help="Also copy checkpoints and weights, to PATH with the suffix .artifacts."
        ),
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Copies the whole database into one file, and checkpoints and weights into a folder beside. Workers may go on meanwhile.

    A plain copy of the file would miss what still lies in its write-ahead log.
    """
    from nas_attn.storage import Database
    from nas_attn.study.keeping import back_up

    done = back_up(Database(storage, must_exist=True), path, overwrite=force, artifacts=artifacts)
    if as_json:
        folder = done.artifacts and str(done.artifacts)
        elsewhere = list(done.elsewhere)
        print_json({"backup": str(done.database), "artifacts": folder, "files": done.files, "elsewhere": elsewhere})
        return
    echo(str(done.database))
    if done.artifacts is not None:
        echo(f"{done.artifacts} ({done.files:,} files, {done.size / 1e6:,.1f} MB)")
    for bucket in done.elsewhere:
        echo(f"the artifacts stay in {bucket}; the copy refers to them")


def clean(
    study: StudyName = None,
    storage: Storage = DEFAULT_URL,
    keep: Annotated[
        str | None,
        typer.Option("--keep", help="Which weights of the search to keep: all, front or none; default: the recipe's."),
    ] = None,
    dry_run: DryRun = False,
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
    kinds = {"weights": freed.weights, "checkpoints of finished runs": freed.checkpoints, "unused files": freed.strays}
    said = ", ".join(f"{count:,} {what}" for what, count in kinds.items() if count) or "nothing"
    verb = "would free" if dry_run else "freed"
    echo(f"{verb} {freed.size / 1e6:,.1f} MB: {said}; the weights of {freed.kept} networks stay")
