"""`nas-attn effects`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from nas_attn.cli.common import AsJson, Storage, StudyName, console, print_json, study_named
from nas_attn.errors import StudyError, did_you_mean, shorten
from nas_attn.paths import DEFAULT_URL

if TYPE_CHECKING:
    from nas_attn.analysis.effects import Effects, Level
    from nas_attn.analysis.snapshot import Snapshot

TITLES: dict[Level, str] = {
    "choice": "What each choice gains at each site",
    "type": "What each type gains at a site, over all its sites",
    "knob": "What a knob's value gains over its type's mean",
    "position": "What a position gains over the mean of all",
}


def effects(
    study: StudyName = None,
    what: Annotated[str, typer.Option("--of", help="latency, or a metric: accuracy, loss, …")] = "accuracy",
    storage: Storage = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Says what each choice does at each site, each type over all its sites, and each knob."""
    from nas_attn.analysis.in_place import in_place
    from nas_attn.analysis.units import unit as unit_of
    from nas_attn.cli.effect_tables import choices, others
    from nas_attn.study.reading import snapshot

    now = snapshot(study_named(study, storage).store)
    found, placed = _effects(now, what), in_place(now, what)
    unit = "relative to the bare backbone's time" if what == "latency" else what
    if as_json:
        plain = [asdict(row) for row in found.rows]
        facts = {"unit": unit, "cv_error": found.cv_error, "sentences": found.sentences, "effects": plain}
        print_json(facts | {"in_place": [asdict(one) for one in placed.values()]})
        return
    out = console()
    for sentence in found.sentences:
        out.print(sentence, markup=False)
    for level, title in TITLES.items():
        rows = found.at(level)
        if rows:
            heading = ", ".join(filter(None, (f"{title} ({unit})", unit_of(what).of_differences)))
            heading = heading.replace("gains", "adds") if what == "latency" else heading
            out.print(choices(heading, what, rows, placed) if level == "choice" else others(heading, what, rows))
    out.print("Bold: the 95 % interval excludes zero.", markup=False)
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
