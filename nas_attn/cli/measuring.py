"""`nas-attn measure`: latencies of a study's networks, and of any networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

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
from nas_attn.storage.records import BESIDE, Session

if TYPE_CHECKING:
    from torch import nn

    from nas_attn.recipe.recipe import LatencySection
    from nas_attn.storage.opening import OpenStudy
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
    if first is not None and _is_backbone(first, context.storage):
        backbone = first
        plan, asked = _of_backbone(context, first, words, shape)
    elif shape is not None:
        raise RecipeError("--input has no effect here: the study's images have their shape")
    else:
        plan, asked = _of_study(context, first, words)
        backbone = plan.recipe.backbone.name
    _compare(context, plan, backbone, asked, settings)


def _of_backbone(
    context: Context, backbone: str, words: Sequence[str], shape: str | None
) -> tuple[Plan, dict[str, Placement | None]]:
    """How networks of a backbone are built, and which ones are asked for."""
    if not words:
        raise RecipeError(
            f"measure needs a network to compare '{backbone}' with: add a placement, like"
            " 'stage2=se(reduction=8)', or another backbone"
        )
    for name in (backbone, *words):
        check_typed(name, trust=context.trust)
    echo(f"'{backbone}': the backbone, with which the others are compared", err=True)
    return _plan(backbone, shape), _asked(words, {})


def _of_study(
    context: Context, name: str | None, words: Sequence[str]
) -> tuple[Plan, dict[str, Placement | None]]:
    """How networks of a study or a recipe are built, and which ones are asked for."""
    from nas_attn.training.plan import study_plan

    if name is not None and _is_recipe(name, context.storage):
        if not words:
            raise RecipeError(f"a recipe has no front: name placements after '{name}'")
        echo(f"'{name}': a recipe", err=True)
        return _recipe_plan(context, name), _asked(words, {})
    opened = study_named(context, name, runs_code=True)
    trials = {str(row.trial): row.placement for row in opened.store.candidates()}
    asked = _asked(words, trials) if words else _front_of(opened)
    front = "" if words else ", so its front is measured"
    echo(f"'{opened.store.name}': a study{front}", err=True)
    return study_plan(opened.store), asked


def _is_recipe(word: str, storage: str) -> bool:
    """Whether a first word is no study but a recipe's path or shipped name."""
    from nas_attn.recipe.reading import shipped
    from nas_attn.storage.opening import is_study

    return (word.endswith(".toml") or word in shipped("studies")) and not is_study(word, storage)


def _is_backbone(word: str, storage: str) -> bool:
    """Whether a first word is no study but the name of a backbone."""
    from nas_attn.backbones.cifar import MODELS
    from nas_attn.storage.opening import is_study

    if is_study(word, storage):
        return False
    return ":" in word or word.partition("(")[0] in MODELS


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
    shown = {text: (text, built.notation) for text, built in networks.items()}
    _show(context, backbone, shown, sessions)


def _asked(words: Sequence[str], trials: Mapping[str, Placement]) -> dict[str, Placement | None]:
    """Word -> the placement that it writes, or that of the study's trial; None: it names another
    backbone.
    """
    from nas_attn.attention import catalogue

    asked: dict[str, Placement | None] = {}
    for word in words:
        if word in trials:
            asked[word] = trials[word]
        elif word.isdigit():
            missing = (
                "a trial of the study" if trials else "a trial of a study: name the study first"
            )
            raise StudyError(f"'{word}' is not {missing}")
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
    from nas_attn.recipe import tasks
    from nas_attn.recipe.reading import load_recipe
    from nas_attn.training.plan import plan_for
    from nas_attn.training.tasks.data import data_of

    recipe = load_recipe(name)
    check_recipe(name, recipe, trust=context.trust)
    return plan_for(recipe, data_of(tasks.of(recipe)).load(recipe, device="cpu"))


def _plan(backbone: str, shape: str | None) -> Plan:
    from nas_attn.cli.usual import CLASSES, task_of, usual_shape
    from nas_attn.recipe.reading import recipe_from
    from nas_attn.training.plan import plan_for

    classes = CLASSES[task_of(backbone)]
    input_shape = parse_shape(shape or usual_shape(backbone))
    data = {"name": "external", "input_shape": input_shape, "classes": classes}
    made = {"name": "measure", "space": "small", "backbone": {"name": backbone}, "data": data}
    return plan_for(
        recipe_from(
            {**made, "training": {"start": "scratch", "init": "identity"}}, where="measure"
        ),
        None,
    )


def _latency_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Of `--set`: keys of the section [latency], with or without its name."""
    given = overrides(settings, "latency.batch_size=32")
    return {key.removeprefix("latency."): value for key, value in given.items()}


def latency_section(section: LatencySection, settings: Sequence[str]) -> LatencySection:
    """A section with the settings of `--set`."""
    from pydantic import ValidationError

    from nas_attn.recipe.reading import sentence
    from nas_attn.recipe.recipe import LatencySection

    table = {
        **section.model_dump(),
        "tolerance": section.front_tolerance,
        **_latency_settings(settings),
    }
    try:
        return LatencySection.model_validate(table)
    except ValidationError as error:
        raise RecipeError(sentence(LatencySection, error, "--set")) from None


class Built(NamedTuple):
    """A network to be measured; for another backbone, key and notation are its name."""

    key: str
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
        return Built(text, text, model, shape)
    resolved = plan.resolved(placement)
    model = plan.network(resolved, 0)
    return Built(resolved.key, resolved.text, model, plan.shape_of(resolved))


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


def _rows(
    shown: Mapping[str, tuple[str, str]], sessions: Sequence[Session]
) -> list[dict[str, Any]]:
    """Of each network, the fastest first: its placement as given and in full, its latency, and how
    probably it is faster than the bare backbone and than the next one.
    """
    from nas_attn.latency.ratios import estimate, probability_faster

    latencies = estimate(sessions)
    keys = sorted(latencies, key=lambda key: latencies[key].ratio)
    rows = []
    for key, following in zip(keys, [*keys[1:], None], strict=True):
        given, resolved = shown[key]
        rows.append(
            {
                "placement": given,
                "resolved": resolved,
                **asdict(latencies[key]),
                "ms": latencies[key].ms,
                "faster_than_bare": probability_faster(latencies[key], None),
                "faster_than_next": following
                and probability_faster(latencies[key], latencies[following]),
            }
        )
    return rows


def _show(
    context: Context,
    backbone: str,
    shown: Mapping[str, tuple[str, str]],
    sessions: Sequence[Session],
) -> None:
    """Prints what the sessions say. `shown`: key of a session's samples -> (placement as given, its
    explicit notation).
    """
    from nas_attn.cli.terminal import show_prose
    from nas_attn.latency.ratios import dropped, not_alone

    first = sessions[0]
    rows = _rows(shown, sessions)
    left_out = len(dropped(sessions))
    # what else ran on the machine
    beside = [one.notes[BESIDE] for one in sessions if BESIDE in one.notes]
    if context.as_json:
        print_json(
            {
                "backbone": backbone,
                "machine": asdict(first.fingerprint),
                "conditions": dict(first.conditions),
                "sessions": len(sessions),
                "dropped": left_out,
                "beside": beside,
                "candidates": rows,
            }
        )
        return
    cells = []
    for row in rows:
        faster = row["faster_than_next"]
        cells.append(
            [
                f"{row['ratio']:.3f}",
                f"{row['low']:.3f} to {row['high']:.3f}",
                f"{row['ms']:.3f}",
                "" if faster is None else f"{100 * faster:.1f} %",
                row["placement"],
            ]
        )
    columns = ["ratio", "95 % interval", "ms", "faster than next", "placement"]
    title = f"Latency relative to the bare {backbone} ({rows[0]['reference_ms']:.3f} ms)"
    out = console(wide=context.wide)
    out.print(table(title, columns, cells, right=columns[:-1]))
    conditions = ", ".join(f"{name} {value}" for name, value in first.conditions.items())
    show_prose(out, f"{first.fingerprint.name}; {conditions}")
    counted = several(len(sessions), "session")
    show_prose(out, f"{counted}, {left_out} of them dropped by the A/A check")
    if beside:
        show_prose(out, not_alone(beside))
