"""`nas-attn check-export`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from nas_attn.cli.common import AsJson, echo, print_json
from nas_attn.errors import OperationError, UserError


def check_export(
    file: Annotated[str, typer.Argument(help="A file written by nas-attn export, with its card next to it.")],
    root: Annotated[str | None, typer.Option("--root", help="Where the data is now.")] = None,
    as_json: AsJson = False,
) -> None:
    """Runs an exported file on the study's validation images, in a process in which nas_attn cannot be imported."""
    from nas_attn.analysis import units
    from nas_attn.export.verifying import verify
    from nas_attn.paths import user_path

    found = verify(user_path(file, what="FILE", error=UserError), root=root)
    value = units.value(found.metric, found.value)
    if found.right is None:
        scored = f"{units.title(found.metric)} {value} on {found.images} validation images"
        expected = units.value(found.metric, found.expected)
    else:
        scored = f"{found.right} of {found.images} validation images right ({value})"
        expected = f"{found.expected:g}"
    if as_json:
        print_json({**asdict(found), found.metric: found.value, "agrees": found.agrees})
    else:
        where = "in a process without nas_attn" if found.elsewhere else "in this process, since weights need nas_attn"
        echo(f"{found.file} ({found.format}), {where}: {scored}; {expected} {found.expected_where}")
    if not found.agrees:
        raise OperationError(f"'{found.file}' scores differently from its card: {scored} instead of {expected}")
