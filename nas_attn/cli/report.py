"""`nas-attn report`."""

from __future__ import annotations

from typing import Annotated

import typer

from nas_attn.analysis.criteria import Criteria
from nas_attn.cli.choosing import choosing
from nas_attn.cli.common import AsJson, Storage, StudyName, echo, page_path, print_json, study_named
from nas_attn.collecting import uncollected
from nas_attn.paths import DEFAULT_URL


@choosing
def report(
    criteria: Criteria,
    study: StudyName = None,
    storage: Storage = DEFAULT_URL,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="File; default: STUDY.html next to the database.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Writes the report from what the database holds now, and refreshes the dashboard's notes and plots."""
    from nas_attn.study.publishing import Publisher, write_study_report

    path = page_path(output, "--output")
    with uncollected():
        opened = study_named(study, storage)
        now = Publisher(opened).current()
        choice = None
        if not criteria.default:
            from nas_attn.study.trained import chosen

            choice = chosen(opened, now, criteria)
        path = write_study_report(opened, now, path, choice)
    if as_json:
        print_json({"report": str(path)})
    else:
        echo(str(path))
