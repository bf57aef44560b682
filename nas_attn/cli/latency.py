"""`nas-attn latency`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas_attn.cli.common import AsJson, Storage, console, overrides, print_json, study_named, table
from nas_attn.cli.sites import parse_shape
from nas_attn.errors import RecipeError, StudyError
from nas_attn.paths import DEFAULT_URL
from nas_attn.records import BESIDE

if TYPE_CHECKING:
    from torch import nn

    from nas_attn.evaluation.plan import Plan
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
    repeat: Annotated[
        int, typer.Option("--repeat", min=1, help="Measure this many times, and say how well it repeats.")
    ] = 1,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the random order of measurements.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Compares placements on this machine with the bare backbone: ratios with 95 % intervals."""
    if not what:
        raise RecipeError("latency needs at least one placement, like 'stage2=se(reduction=8)'")
    plan = _plan(backbone, shape, study, storage)
    section = _section(plan.recipe.latency, settings or [])
    asked = _asked(plan, what, study, storage)
    runs = [_measure(plan, section, asked, seed + number) for number in range(repeat)]
    sessions = [session for run in runs for session in run]
    if as_json:
        print_json(_as_dict(plan, asked, sessions, runs))
    else:
        _show(plan, asked, sessions, runs)


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


@dataclass(frozen=True)
class Asked:
    """One network to compare."""

    shown: str
    """Explicit notation, or the backbone's name."""
    model: nn.Module


def _asked(plan: Plan, what: Sequence[str], study: str | None, storage: str) -> dict[str, Asked]:
    """Text as given -> network: a placement, a trial of the study, or another backbone."""
    from nas_attn import backbones
    from nas_attn.recipe_reading import backbone_section

    found = {}
    rows = {str(r.trial): r.placement for r in study_named(study, storage).store.candidates()} if study else {}
    for text in dict.fromkeys(what):
        if text.isdigit() and text not in rows:
            raise StudyError(f"'{text}' is not a trial of {study or 'a study: name the study with --study'}")
        if "=" not in text and text != "none" and text not in rows:
            section = backbone_section(text)
            model = backbones.build(section, input_shape=plan.input_shape, classes=plan.classes)
            found[text] = Asked(text, model)
            continue
        resolved = plan.resolved(rows.get(text, text))
        found[text] = Asked(resolved.text, plan.attach(plan.bare(0), resolved, 0))
    return found


def _measure(plan: Plan, section: LatencySection, asked: dict[str, Asked], seed: int) -> list[Session]:
    from nas_attn.analysis.latency import open_keys
    from nas_attn.latency import DeviceLock, measure

    models = {text: one.model for text, one in asked.items()}
    return list(
        measure(
            section,
            reference=plan.bare(0),
            candidates=models,
            input_shape=plan.input_shape,
            seed=seed,
            still_open=lambda sessions: open_keys(
                sessions, models, tolerance=section.tolerance, max_sessions=section.max_sessions
            ),
            lock=DeviceLock.for_section(section),
        )
    )


def _rows(asked: dict[str, Asked], sessions: Sequence[Session]) -> list[dict[str, Any]]:
    from nas_attn.analysis.latency import compare

    return [
        {
            "placement": row.key,
            "resolved": asked[row.key].shown,
            **asdict(row.latency),
            "ms": row.latency.ms,
            "faster_than_bare": row.faster_than_bare,
            "faster_than_next": row.faster_than_next,
            "tied_with": list(row.tied),
        }
        for row in compare(sessions)
    ]


def _as_dict(plan: Plan, asked: dict[str, Asked], sessions: list[Session], runs: list[list[Session]]) -> dict[str, Any]:
    from nas_attn.analysis.latency import dropped, repeatability

    found: dict[str, Any] = {
        "backbone": plan.recipe.backbone.name,
        "machine": asdict(sessions[0].fingerprint),
        "conditions": dict(sessions[0].conditions),
        "sessions": len(sessions),
        "dropped": len(dropped(sessions)),
        "beside": _beside(sessions),
        "candidates": _rows(asked, sessions),
    }
    if len(runs) > 1:
        found["repeats_within"] = repeatability(runs)
    return found


def _beside(sessions: Sequence[Session]) -> list[str]:
    """Of each session that had not the device alone, what went on beside it."""
    return [session.notes[BESIDE] for session in sessions if BESIDE in session.notes]


def _show(plan: Plan, asked: dict[str, Asked], sessions: list[Session], runs: list[list[Session]]) -> None:
    from nas_attn.analysis.latency import dropped, repeatability
    from nas_attn.report import words

    out = console()
    rows = [
        [
            f"{row['ratio']:.3f}",
            f"{row['low']:.3f} to {row['high']:.3f}",
            f"{row['ms']:.3f}",
            "" if row["faster_than_next"] is None else f"{100 * row['faster_than_next']:.1f} %",
            row["placement"],
        ]
        for row in _rows(asked, sessions)
    ]
    first = sessions[0]
    bare = f"{first.reference_ms:.3f} ms"
    columns = ["ratio", "95 % interval", "ms", "faster than next", "placement"]
    title = f"Latency relative to the bare {plan.recipe.backbone.name} ({bare})"
    out.print(table(title, columns, rows, right=columns[:-1]))
    shown = ", ".join(f"{k} {v}" for k, v in first.conditions.items())
    out.print(f"{first.fingerprint.name}; {shown}", markup=False)
    out.print(f"{len(sessions)} sessions, {len(dropped(sessions))} of them dropped by the A/A control", markup=False)
    if _beside(sessions):
        out.print(words.beside(_beside(sessions)), markup=False)
    if len(runs) > 1:
        for placement, spread in repeatability(runs).items():
            out.print(
                f"repeats within {100 * spread:.2f} % (standard deviation of {len(runs)} measurements): {placement}"
            )
