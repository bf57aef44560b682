"""`nas-attn backup`."""

from __future__ import annotations

from typing import Annotated

import typer

from nas_attn.cli.common import AsJson, Storage, echo, print_json
from nas_attn.paths import DEFAULT_URL


def backup(
    path: Annotated[str, typer.Argument(help="File to write.")],
    storage: Storage = DEFAULT_URL,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an existing copy once the new one is complete.")
    ] = False,
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
    from nas_attn.study.backing_up import back_up

    done = back_up(Database(storage, must_exist=True), path, overwrite=force, artifacts=artifacts)
    if as_json:
        print_json(
            {
                "backup": str(done.database),
                "artifacts": done.artifacts and str(done.artifacts),
                "files": done.files,
                "elsewhere": list(done.elsewhere),
            }
        )
        return
    echo(str(done.database))
    if done.artifacts is not None:
        echo(f"{done.artifacts} ({done.files:,} files, {done.size / 1e6:,.1f} MB)")
    for bucket in done.elsewhere:
        echo(f"the artifacts stay in {bucket}; the copy refers to them")
