"""`nas-attn export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas_attn.cli.common import DEFAULT_STORAGE, AsJson, Storage, StudyName, print_json, study_named


def export(
    study: StudyName = None,
    which: Annotated[
        str | None, typer.Option("--candidate", help="Trial number or placement; default: the recommended one.")
    ] = None,
    format_: Annotated[str, typer.Option("--format", help="weights, torch (torch.export) or onnx.")] = "weights",
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="File; default: STUDY.pt, .pt2 or .onnx.")
    ] = None,
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
) -> None:
    """Writes a trained candidate of a study: the weights that its score is of, after the search's brief training."""
    from nas_attn.analysis.snapshot import snapshot
    from nas_attn.export.formats import SUFFIXES, write
    from nas_attn.study.searching import plan_recipe
    from nas_attn.study.trained import pick, trained_model

    opened = study_named(study, storage)
    plan = plan_recipe(opened.recipe)
    view = pick(snapshot(opened.store), plan, which)
    model = trained_model(opened, plan, view)
    path = Path(output or f"{opened.store.name}{SUFFIXES.get(format_, '')}")
    notes = {"study": opened.store.name, "placement": view.placement, "init": plan.space.init, "key": view.key}
    written = write(model, path, format_, input_shape=plan.input_shape, notes=notes)
    if as_json:
        print_json({"file": str(written), "format": format_, **notes})
    else:
        typer.echo(f"{written}: {view.placement} ({view.label})")
