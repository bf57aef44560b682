"""`nas-attn extend`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from nas_attn.cli import completing
from nas_attn.cli.common import (
    AsJson,
    Storage,
    StudyName,
    at_storage,
    console,
    print_json,
    study_named,
)
from nas_attn.paths import DEFAULT_URL


def extend(
    space: Annotated[
        str,
        typer.Option("--space", help="Shipped name or path of the new search space.", autocompletion=completing.spaces),
    ],
    study: StudyName = None,
    trials: Annotated[
        int | None,
        typer.Option("--trials", min=1, help="New total of candidates; default: the recipe's trials in addition."),
    ] = None,
    storage: Storage = DEFAULT_URL,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")] = False,
    as_json: AsJson = False,
) -> None:
    """Gives a study another search space: more choices, sites, knobs. Every finished run is kept as evidence."""
    from nas_attn.recipe_reading import load_space
    from nas_attn.study.extending import extend as do

    opened = study_named(study, storage)
    found = do(opened, load_space(space), trials=trials, dry_run=dry_run)
    if as_json:
        print_json(asdict(found))
        return
    out = console()
    out.print(found.text(), markup=False)
    if not dry_run:
        out.print(f"continue with: nas-attn resume {opened.store.name}{at_storage(storage)}", markup=False)
