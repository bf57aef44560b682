"""`nas-attn effects`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from nas_attn.cli.common import AsJson, Storage, StudyName, console, print_json, study_named, table
from nas_attn.errors import StudyError, did_you_mean, shorten
from nas_attn.paths import DEFAULT_URL

if TYPE_CHECKING:
    from nas_attn.analysis.effects import Effect, Effects
    from nas_attn.analysis.snapshot import Snapshot

TITLES = {
    "choice": "What each choice adds at each site",
    "type": "What each type adds at a site, over all its sites",
    "knob": "What a knob's value adds to its type's mean",
    "position": "What a position adds to the mean of all",
}


def effects(
    study: StudyName = None,
    what: Annotated[str, typer.Option("--of", help="latency, or a metric: accuracy, loss, …")] = "accuracy",
    storage: Storage = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Says what each choice does at each site, each type over all its sites, and each knob."""
    from nas_attn.analysis.snapshot import snapshot
    from nas_attn.analysis.units import unit as unit_of

    now = snapshot(study_named(study, storage).store)
    found = _effects(now, what)
    unit = "relative to the bare backbone's time" if what == "latency" else what
    if as_json:
        plain = [asdict(row) for row in found.rows]
        print_json({"unit": unit, "cv_error": found.cv_error, "sentences": found.sentences, "effects": plain})
        return
    out = console()
    for sentence in found.sentences:
        out.print(sentence, markup=False)
    for level, title in TITLES.items():
        rows = [row for row in found.rows if row.level == level]
        if rows:
            at_site = level == "choice"
            named = ["site", "choice"] if at_site else ["choice"]
            numbers = ["adds", "95 % interval", "does good", "tried", *(["its type\nelsewhere"] if at_site else [])]
            heading = ", ".join(filter(None, (f"{title} ({unit})", unit_of(what).of_differences)))
            cells = [_cells(row, what) for row in rows]
            out.print(table(heading, [*named, *numbers], cells, right=numbers, whole=["site", *numbers]))
    if found.cv_error is not None:
        out.print(f"error for candidates left out of the fit: {found.cv_error:.3g}", markup=False)


def _effects(now: Snapshot, what: str) -> Effects:
    from nas_attn.analysis.effects import fit_effects

    same = next((constant for constant in now.constants if constant.metric == what), None)
    if same is not None:
        raise StudyError(f"there are no effects on '{what}': {same.sentence.removesuffix('.')}")
    found = fit_effects(now, what)
    if found is not None:
        return found
    known = [
        "latency",
        *sorted({metric for view in now.candidates for point in view.scores for metric in point.metrics}),
    ]
    if len(known) > 1 and what not in known:
        raise StudyError(f"--of '{shorten(what)}' is not a metric of study '{now.study}': {did_you_mean(what, known)}")
    raise StudyError(f"effects on '{what}' need at least eight candidates that have it: continue the study")


def _cells(row: Effect, what: str) -> list[str]:
    from nas_attn.analysis.recommendation import format_probability
    from nas_attn.analysis.units import signed

    at_site = row.level == "choice"
    return [
        *([row.site] if at_site else []),
        row.name,
        signed(what, row.effect),
        f"{signed(what, row.low)} to {signed(what, row.high)}",
        format_probability(row.better),
        str(row.observations),
        *([str(row.elsewhere)] if at_site else []),
    ]
