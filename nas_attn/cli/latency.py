"""`nas-attn latency`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas_attn.cli.common import console, overrides, print_json, study_named, table
from nas_attn.cli.options import AsJson, Storage
from nas_attn.cli.sites import parse_shape
from nas_attn.errors import RecipeError, StudyError
from nas_attn.paths import DEFAULT_URL
from nas_attn.records import BESIDE

if TYPE_CHECKING:
    from torch import nn

    from nas_attn.evaluation.plan import Plan
    from nas_attn.latency.session import Measured
    from nas_attn.recipe import LatencySection
    from nas_attn.records import Session


def latency(
    what: Annotated[
        list[str] | None,
        typer.Argument(help="Placements in notation; trial numbers with --study; other backbones by name."),
    ] = None,
    backbone: Annotated[str, typer.Option("--backbone", help="Backbone of the placements.")] = "resnet20",
    shape: Annotated[str, typer.Option("--input", help="Shape of one image, channels first.")] = "3x32x32",
    study: Annotated[
        str | None, typer.Option("--study", help="Take backbone, input and [latency] from this study.")
    ] = None,
    storage: Storage = DEFAULT_URL,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of [latency]: --set batch_size=32, --set mode=onnxruntime; repeatable."),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option("--to", help="Measure on another device, without torch: write the networks and a program here."),
    ] = None,
    back: Annotated[
        Path | None, typer.Option("--from", help="Show what that program has measured; with --study, keep it there.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compares placements on this machine with the bare backbone: ratios with 95 % intervals."""
    if back is not None:
        measured = _brought_back(back, study, storage)
        texts = {key: (notation, notation) for key, notation in measured.placements.items()}
        _answer(_found(measured.backbone, texts, measured.sessions), measured.sessions, as_json)
        return
    plan = _plan(backbone, shape, study, storage)
    section = _section(plan.recipe.latency, settings or [])
    trials = {str(r.trial): r.placement for r in study_named(study, storage).store.candidates()} if study else {}
    networks = {text: _network(plan, text, trials) for text in dict.fromkeys(what or _front(study, storage))}
    if to is not None:
        _send(plan, section, networks, to)
        return
    sessions = _measure(plan, section, {text: model for text, (_, model) in networks.items()})
    shown = {text: (text, notation) for text, (notation, _) in networks.items()}
    _answer(_found(plan.recipe.backbone.name, shown, sessions), sessions, as_json)


def _front(study: str | None, storage: str) -> list[str]:
    """The front of a study, where no placement is named."""
    if study is None:
        raise RecipeError("latency needs at least one placement, like 'stage2=se(reduction=8)'")
    from nas_attn.study.reading import snapshot

    return [view.placement for view in snapshot(study_named(study, storage).store).front if view.baseline != "none"]


def _send(plan: Plan, section: LatencySection, networks: Mapping[str, tuple[str, nn.Module]], folder: Path) -> None:
    from nas_attn.latency.session import PROGRAM, write_folder

    known = {
        notation: plan.resolved(notation).key if "=" in notation else notation for notation, _ in networks.values()
    }
    write_folder(
        folder,
        section,
        backbone=plan.recipe.backbone.name,
        reference=plan.bare(0),
        candidates={known[notation]: (notation, model) for notation, model in networks.values()},
        input_shape=plan.input_shape,
    )
    runtime = section.mode.removesuffix("-int8")
    console().print(
        f"{len(networks)} networks are in {folder}. On the device, with numpy and {runtime}: python {PROGRAM}. Then copy the folder "
        "back, and give it to nas-attn latency --from.",
        markup=False,
    )


def _brought_back(folder: Path, study: str | None, storage: str) -> Measured:
    from nas_attn.evaluation.measuring import from_text, to_text
    from nas_attn.latency.session import read_folder

    found = read_folder(folder)
    if study is not None:
        store, here = study_named(study, storage).store, found.sessions[0].fingerprint
        pinned = from_text(store.set_fingerprint_once(to_text(here)))
        if pinned.id != here.id:
            raise StudyError(
                f"the latencies of study '{study}' belong to '{pinned.name}', these to '{here.name}': leave out --study"
            )
        for session in found.sessions:
            store.add_session(session)
    return found


def _answer(found: Mapping[str, Any], sessions: Sequence[Session], as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        _show(found, sessions)


def _plan(backbone: str, shape: str, study: str | None, storage: str) -> Plan:
    from nas_attn.evaluation.plan import plan_for
    from nas_attn.recipe_reading import recipe_from

    if study is not None:
        return study_named(study, storage).plan
    data = {"name": "external", "input_shape": parse_shape(shape), "classes": 1000}
    recipe = {"name": "latency", "space": "small", "backbone": {"name": backbone}, "data": data}
    return plan_for(
        recipe_from({**recipe, "training": {"start": "scratch", "init": "identity"}}, where="latency"), None
    )


def _section(section: LatencySection, settings: Sequence[str]) -> LatencySection:
    from pydantic import ValidationError

    from nas_attn.recipe import LatencySection
    from nas_attn.recipe_reading import sentence

    table = {**section.model_dump(), "tolerance": section.front_tolerance, **overrides(settings)}
    try:
        return LatencySection.model_validate(table)
    except ValidationError as error:
        raise RecipeError(sentence(LatencySection, error, "--set")) from None


def _network(plan: Plan, text: str, trials: Mapping[str, str]) -> tuple[str, nn.Module]:
    """(explicit notation or the backbone's name, network) of a placement, a trial of the study, or another backbone."""
    from nas_attn import backbones
    from nas_attn.recipe_reading import backbone_section

    if text.isdigit() and text not in trials:
        raise StudyError(f"'{text}' is not a trial of {'the study' if trials else 'a study: name it with --study'}")
    if "=" not in text and text != "none" and text not in trials:
        shape, classes = plan.input_shape, plan.classes
        return text, backbones.build(backbone_section(text), input_shape=shape, classes=classes)
    resolved = plan.resolved(trials.get(text, text))
    return resolved.text, plan.attach(plan.bare(0), resolved, 0)


def _measure(plan: Plan, section: LatencySection, models: Mapping[str, nn.Module]) -> list[Session]:
    from nas_attn.analysis.latency import open_keys
    from nas_attn.latency import DeviceLock, measure

    enough = partial(open_keys, keys=models, tolerance=section.tolerance, max_sessions=section.max_sessions)
    return list(
        measure(
            section,
            reference=plan.bare(0),
            candidates=models,
            input_shape=plan.input_shape,
            seed=0,
            still_open=enough,
            lock=DeviceLock.for_section(section),
        )
    )


def _found(backbone: str, shown: Mapping[str, tuple[str, str]], sessions: Sequence[Session]) -> dict[str, Any]:
    """For JSON. `shown`: key of a session's samples -> (placement as given, its explicit notation)."""
    from nas_attn.analysis.latency import Order, dropped, estimate

    known, order, rows = estimate(sessions), Order(sessions), []
    keys = sorted(known, key=lambda key: known[key].ratio)
    for key, following in zip(keys, [*keys[1:], None], strict=True):
        row = {"placement": shown[key][0], "resolved": shown[key][1], **asdict(known[key]), "ms": known[key].ms}
        row["faster_than_bare"] = order.probability_faster(key, None)
        rows.append({**row, "faster_than_next": following and order.probability_faster(key, following)})
    return {
        "backbone": backbone,
        "machine": asdict(sessions[0].fingerprint),
        "conditions": dict(sessions[0].conditions),
        "sessions": len(sessions),
        "dropped": len(dropped(sessions)),
        "beside": [session.notes[BESIDE] for session in sessions if BESIDE in session.notes],
        "candidates": rows,
    }


def _show(found: Mapping[str, Any], sessions: Sequence[Session]) -> None:
    from nas_attn.report import words

    rows = [
        [
            f"{row['ratio']:.3f}",
            f"{row['low']:.3f} to {row['high']:.3f}",
            f"{row['ms']:.3f}",
            "" if row["faster_than_next"] is None else f"{100 * row['faster_than_next']:.1f} %",
            row["placement"],
        ]
        for row in found["candidates"]
    ]
    bare = f"{sessions[0].reference_ms:.3f} ms"
    columns = ["ratio", "95 % interval", "ms", "faster than next", "placement"]
    out = console()
    out.print(table(f"Latency relative to the bare {found['backbone']} ({bare})", columns, rows, right=columns[:-1]))
    conditions = ", ".join(f"{name} {value}" for name, value in found["conditions"].items())
    out.print(f"{found['machine']['name']}; {conditions}", markup=False)
    out.print(f"{found['sessions']} sessions, {found['dropped']} of them dropped by the A/A control", markup=False)
    if found["beside"]:
        out.print(words.beside(found["beside"]), markup=False)
