"""`nas-attn report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas_attn.cli.common import DEFAULT_STORAGE, AsJson, Storage, StudyName, print_json, study_named


def report(
    study: StudyName = None,
    storage: Storage = DEFAULT_STORAGE,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="File; default: STUDY.html beside the database.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Writes the report from what the database holds now, and refreshes the dashboard's notes and plots."""
    from nas_attn.report import write_report
    from nas_attn.study.searching import Publisher, report_path

    opened = study_named(study, storage)
    path = write_report(Publisher(opened).now(), Path(output) if output else report_path(opened))
    if as_json:
        print_json({"report": str(path)})
    else:
        typer.echo(str(path))
