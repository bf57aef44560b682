"""`nas-attn measure`: latencies of a study's networks, and of any networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated, NamedTuple

from typer import Argument

from nas_attn.cli.commands import Context
from nas_attn.cli.common import (
    LatencySettings,
    Shape,
    check_output,
    console,
    echo,
    overrides,
    parse_shape,
    print_json,
    study_named,
    table,
)
from nas_attn.cli.trust import check_recipe, check_typed
from nas_attn.errors import RecipeError, StudyError, several
from nas_attn.space.notation import parse
from nas_attn.space.placement import Placement

if TYPE_CHECKING:
    from torch import nn

    from nas_attn.recipe.recipe import LatencySection
    from nas_attn.storage.opening import OpenStudy
    from nas_attn.storage.records import Session
    from nas_attn.training.plan import Plan


USUAL_BACKBONE = "resnet20"


def measure(
    context: Context,
    networks: Annotated[
        list[str] | None,
        Argument(
            metavar="NETWORK",
            help="A study or a recipe, then placements, numbers of trials or modules (se is se at"
            " every site); default: the front of the only study. Or a backbone, then placements on"
            " it or other backbones.",
        ),
    ] = None,
    shape: Shape = None,
    settings: LatencySettings = None,
) -> None:
    """Measure latencies on this machine. As ratios to the bare backbone's.

    Examples:
      nas-attn measure digits "stage3=se(reduction=8)" 12 eca
      nas-attn measure torchvision:resnet18 torchvision:resnet34 --input 3x224x224

    Pairs, sessions and other runtimes: docs/explain/latency.md
    """
    check_output()
    words = list(networks or ())
    if words and _is_placement(words[0]):
        words.insert(0, USUAL_BACKBONE)
    first = words.pop(0) if words else None
    for name in (first or "", *words):
        check_typed(name, trust=context.trust)
    from nas_attn.training.plan import study_plan

    study = None
    backbone = None
    if first is not None and _is_backbone(first, context.storage):
        backbone = first
        plan = _backbone_plan(first, shape)
        echo(f"'{first}': the backbone, with which the others are compared", err=True)
    elif shape is not None:
        raise RecipeError("--input has no effect here: the study's images have their shape")
    elif first is not None and _is_recipe(first, context.storage):
        plan = _recipe_plan(context, first)
        echo(f"'{first}': a recipe", err=True)
    else:
        study = study_named(context, first, runs_code=True)
        plan = study_plan(study.store)
        echo(f"'{study.store.name}': a study", err=True)
    asked = _asked(first or "", words, study)
    _compare(context, plan, backbone or plan.recipe.backbone.name, asked, settings)


def _is_recipe(word: str, storage: str) -> bool:
    """Whether a first word is no study but a recipe's path or shipped name."""
    from nas_attn.recipe.reading import shipped
    from nas_attn.storage.opening import begun_study

    return (word.endswith(".toml") or word in shipped("studies")) and begun_study(
        word, storage
    ) is None


def _is_backbone(word: str, storage: str) -> bool:
    """Whether a first word is no study but the name of a backbone."""
    from nas_attn.backbones.cifar import MODELS
    from nas_attn.storage.opening import begun_study

    known = ":" in word or word.partition("(")[0] in MODELS
    return known and begun_study(word, storage) is None


def _is_placement(word: str) -> bool:
    """Whether it writes a placement, not a study or a backbone, like `resnet8(width=10)`."""
    return "=" in word.partition("(")[0] or word == "none"


def _compare(
    context: Context,
    plan: Plan,
    backbone: str,
    asked: Mapping[str, Placement | None],
    settings: Sequence[str] | None,
) -> None:
    """Measures networks and prints their latencies.

    Args:
        context: The call.
        plan: How networks are built and measured.
        backbone: The backbone's name as it was given.
        asked: As `_asked` gives it.
        settings: Of the option --set.
    """
    for word, placement in asked.items():
        taken = f"a placement on {backbone}"
        if placement is None:
            taken = "another backbone, without attention"
        elif word.isdigit():
            taken = f"trial {word} of the study, {placement}"
        elif not _is_placement(word):
            taken = f"the module at every site of {backbone}"
        echo(f"'{word}': {taken}", err=True)
    section = latency_section(plan.recipe.latency, settings or ())
    networks = {text: _network(plan, text, placement) for text, placement in asked.items()}
    sessions = _measure(plan, section, networks)
    _show(context, backbone, networks, sessions)


def _asked(
    first: str, words: Sequence[str], study: OpenStudy | None
) -> dict[str, Placement | None]:
    """Word -> the placement that it writes, or that of the study's trial; None: it names another
    backbone. Without words, those of the study's front.
    """
    from nas_attn.attention import catalogue

    if not words and study is not None:
        return _front_of(study)
    if not words:
        raise RecipeError(
            f"measure needs a network to compare '{first}' with: add a placement, like"
            " 'stage2=se(reduction=8)', or another backbone"
        )
    rows = () if study is None else study.store.candidates()
    trials = {str(row.trial): row.placement for row in rows}
    asked: dict[str, Placement | None] = {}
    for word in words:
        if word in trials:
            asked[word] = trials[word]
        elif word.isdigit():
            raise StudyError(f"'{word}' is not a trial of a study that is named first")
        elif word in catalogue.ROWS:
            asked[word] = parse(f"*={word}")
        else:
            asked[word] = parse(word) if _is_placement(word) else None
    return asked


def _front_of(study: OpenStudy) -> dict[str, Placement | None]:
    """The front of a study, where no placement is named."""
    from nas_attn.answer.reading import snapshot

    front = snapshot(study.store).front
    placements: dict[str, Placement | None] = {
        str(v.placement): v.placement for v in front if not v.is_bare
    }
    if not placements:
        raise RecipeError("the study's front is the bare backbone alone: name placements or trials")
    return placements


def _recipe_plan(context: Context, name: str) -> Plan:
    """How a recipe's networks are built, for the shape and the classes of its data."""
    from nas_attn.recipe.reading import load_recipe
    from nas_attn.training.plan import plan_for
    from nas_attn.training.tasks.data import reading_of

    recipe = load_recipe(name)
    check_recipe(name, recipe, trust=context.trust)
    return plan_for(recipe, reading_of(recipe).load(recipe, device="cpu"))


def _backbone_plan(backbone: str, shape: str | None) -> Plan:
    """How networks of a backbone are built."""
    from nas_attn.cli.usual import CLASSES, task_of, usual_shape
    from nas_attn.recipe.reading import recipe_from
    from nas_attn.training.plan import plan_for

    table = {
        "name": "measure",
        "space": "small",
        "backbone": {"name": backbone},
        "data": {
            "name": "external",
            "input_shape": parse_shape(shape or usual_shape(backbone)),
            "classes": CLASSES[task_of(backbone)],
        },
        "training": {"start": "scratch", "init": "identity"},
    }
    return plan_for(recipe_from(table, where="measure"), None)


def latency_section(section: LatencySection, settings: Sequence[str]) -> LatencySection:
    """A section with the settings of `--set`: its keys, with or without its name."""
    from nas_attn.recipe.reading import validated

    table = {**section.model_dump(), "tolerance": section.front_tolerance}
    for key, value in overrides(settings, "latency.batch_size=32").items():
        table[key.removeprefix("latency.")] = value
    return validated(type(section), table, "--set")


class Built(NamedTuple):
    """A network to be measured; for another backbone, notation is its name."""

    notation: str
    model: nn.Module
    shape: tuple[int, int, int]


def _network(plan: Plan, text: str, placement: Placement | None) -> Built:
    """The network of a placement; without one, the backbone that the text names."""
    from nas_attn import backbones
    from nas_attn.recipe.reading import backbone_section

    if placement is None:
        shape = plan.input_shape
        classes = plan.classes
        model = backbones.build(backbone_section(text), input_shape=shape, classes=classes)
        return Built(text, model, shape)
    resolved = plan.resolved(placement)
    model = plan.network(resolved, 0)
    return Built(resolved.text, model, plan.shape_of(resolved))


def _measure(plan: Plan, section: LatencySection, networks: Mapping[str, Built]) -> list[Session]:
    from nas_attn.latency.locks import DeviceLock
    from nas_attn.latency.ratios import open_keys
    from nas_attn.latency.session import measure

    enough = partial(open_keys, keys=networks, tolerance=section.tolerance)
    return list(
        measure(
            section,
            reference=plan.bare(0),
            candidates={text: built.model for text, built in networks.items()},
            input_shape=plan.input_shape,
            own_shapes={text: built.shape for text, built in networks.items()},
            seed=0,
            still_open=enough,
            lock=DeviceLock.for_section(section),
        )
    )


def _show(
    context: Context, backbone: str, networks: Mapping[str, Built], sessions: Sequence[Session]
) -> None:
    """Prints what the sessions say of each network, the fastest first."""
    from nas_attn.cli.terminal import show_prose
    from nas_attn.latency.ratios import dropped, estimate, not_alone, probability_faster
    from nas_attn.storage.records import BESIDE

    first = sessions[0]
    left_out = len(dropped(sessions))
    # what else ran on the machine
    beside = [one.notes[BESIDE] for one in sessions if BESIDE in one.notes]
    latencies = sorted(estimate(sessions).items(), key=lambda known: known[1].ratio)
    if context.as_json:
        print_json(
            {
                "backbone": backbone,
                "machine": asdict(first.fingerprint),
                "conditions": dict(first.conditions),
                "sessions": len(sessions),
                "dropped": left_out,
                "beside": beside,
                "candidates": [
                    {
                        "placement": text,
                        "resolved": networks[text].notation,
                        **asdict(latency),
                        "ms": latency.ms,
                        "faster_than_bare": probability_faster(latency, None),
                    }
                    for text, latency in latencies
                ],
            }
        )
        return
    rows = [
        [f"{one.ratio:.3f}", f"{one.low:.3f} to {one.high:.3f}", f"{one.ms:.3f}", text]
        for text, one in latencies
    ]
    columns = ["ratio", "95 % interval", "ms", "placement"]
    reference_ms = latencies[0][1].reference_ms
    title = f"Latency relative to the bare {backbone} ({reference_ms:.3f} ms)"
    out = console(wide=context.wide)
    out.print(table(title, columns, rows, right=columns[:-1]))
    conditions = ", ".join(f"{name} {value}" for name, value in first.conditions.items())
    show_prose(out, f"{first.fingerprint.name}; {conditions}")
    counted = several(len(sessions), "session")
    show_prose(out, f"{counted}, {left_out} of them dropped by the A/A check")
    if beside:
        show_prose(out, not_alone(beside))
