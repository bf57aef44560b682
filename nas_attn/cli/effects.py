"""`nas-attn effects`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from nas_attn.cli.common import DEFAULT_STORAGE, AsJson, Storage, StudyName, console, print_json, study_named, table
from nas_attn.errors import StudyError


def effects(
    study: StudyName = None,
    what: Annotated[str, typer.Option("--of", help="latency, or a metric: accuracy, loss, …")] = "accuracy",
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
) -> None:
    """Fits the additive model over sites to the study's candidates and prints what it says of each choice."""
    show_effects(study, storage, what, as_json)


def show_effects(study: str | None, storage: str, what: str, as_json: bool) -> None:
    """Prints the effects of each choice on a latency or a metric.

    Raises:
        StudyError: too few candidates have it.
    """
    from nas_attn.analysis.effects import fit_effects
    from nas_attn.analysis.snapshot import snapshot

    model = fit_effects(snapshot(study_named(study, storage).store), what)
    if model is None:
        raise StudyError(f"the effects on '{what}' are known from eight candidates with it on: let the study go on")
    unit = "share of the bare backbone's time" if what == "latency" else what
    rows = model.table()
    if as_json:
        print_json({"unit": unit, "cv_error": model.cv_error, "effects": [asdict(effect) for effect in rows]})
        return
    cells = [
        [
            e.site,
            f"{e.type}({e.knobs})" if e.knobs else e.type,
            f"{e.effect:+.2%}" if what in ("latency", "accuracy") else f"{e.effect:+.4g}",
            f"{e.standard_error:.2%}" if what in ("latency", "accuracy") else f"{e.standard_error:.2g}",
            str(e.observations),
        ]
        for e in rows
    ]
    columns = ["site", "choice", "adds", "± (1 sd)", "candidates"]
    out = console()
    out.print(table(f"What each choice adds ({unit}), against none at its site", columns, cells, right=columns[2:]))
    out.print(f"error on candidates left out of the fit: {model.cv_error:.3g}", markup=False)
