"""`nas-attn pareto` and `report`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from nas_attn.analysis.criteria import Criteria
from nas_attn.cli.common import console, echo, page_path, print_json, study_named
from nas_attn.cli.options import AsJson, Storage, StudyName, grouped
from nas_attn.paths import DEFAULT_URL

if TYPE_CHECKING:
    from nas_attn.analysis.choosing import Chosen
    from nas_attn.analysis.snapshot import Snapshot
    from nas_attn.study.opening import OpenStudy


@grouped
def pareto(
    criteria: Criteria,
    study: StudyName = None,
    absolute: Annotated[
        bool, typer.Option("--absolute", help="Values of metrics, not gains over the bare backbone.")
    ] = False,
    why: Annotated[
        bool, typer.Option("--why", help="The reasons behind the answer, code that builds it, and untried placements.")
    ] = False,
    storage: Storage = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """The front by current estimates (not the snapshot that Optuna holds), the baselines, and the one to take."""
    from nas_attn.analysis.effects import suggest
    from nas_attn.cli.showing import show_answer, show_choice, show_front, show_why
    from nas_attn.study.reading import snapshot

    opened = study_named(study, storage)
    now = snapshot(opened.store)
    choice = _chosen(opened, now, criteria)
    if as_json:
        found = {} if choice is None else {"chosen": choice.as_dict()}
        print_json(now.as_dict() | {"suggestions": [asdict(one) for one in suggest(now)]} | found)
        return
    out = console()
    if choice is not None:
        show_front(out, now, absolute=absolute)
        show_choice(out, choice)
        return
    show_answer(out, now, storage)
    out.print()
    show_front(out, now, absolute=absolute)
    if why:
        show_why(out, now)


@grouped
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
    opened = study_named(study, storage)
    now = Publisher(opened).current()
    path = write_study_report(opened, now, path, _chosen(opened, now, criteria))
    if as_json:
        print_json({"report": str(path)})
    else:
        echo(str(path))


def _chosen(opened: OpenStudy, now: Snapshot, criteria: Criteria) -> Chosen | None:
    """The candidate that criteria mean; None without any."""
    if criteria.default:
        return None
    from nas_attn.study.exporting import chosen

    return chosen(opened, now, criteria)
