"""`nas-attn backup`."""

from __future__ import annotations

from typing import Annotated

import typer

from nas_attn.cli.common import DEFAULT_STORAGE, AsJson, Storage, print_json


def backup(
    path: Annotated[str, typer.Argument(help="File to write; replaced once the copy is whole.")],
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
) -> None:
    """Copies the whole database, Optuna's tables included, into one file. Workers may go on writing meanwhile.

    A plain copy of the file would miss what still lies in its write-ahead log.
    """
    from nas_attn.storage import Database

    written = Database(storage, must_exist=True).backup(path)
    if as_json:
        print_json({"backup": str(written)})
    else:
        typer.echo(str(written))
