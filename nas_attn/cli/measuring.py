"""`nas-attn measure` and `benchmark`: latencies of a study's networks, and of any networks."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from typer import Argument, Option

from nas_attn.cli.commands import Context
from nas_attn.cli.common import (
    LatencySettings,
    Shape,
    check_output,
    check_trust,
    check_typed,
    console,
    echo,
    overrides,
    parse_shape,
    print_json,
    study_named,
    table,
)
from nas_attn.errors import MeasurementError, RecipeError, StudyError, several
from nas_attn.space.notation import parse
from nas_attn.space.placement import Placement
from nas_attn.storage.records import BESIDE, Session

if TYPE_CHECKING:
    from torch import nn

    from nas_attn.recipe.recipe import LatencySection
    from nas_attn.storage.opening import OpenStudy
    from nas_attn.training.plan import Plan


USUAL_BACKBONE = "resnet20"
ToFolder = Annotated[
    Path | None,
    Option(
        "--to",
        help="Measure on another device, without torch: write the networks and a program here.",
    ),
]
FromFolder = Annotated[
    Path | None,
    Option("--from", help="Show what that program has measured; a study that is named keeps it."),
]


def measure(
    context: Context,
    study: Annotated[
        str | None,
        Argument(
            help="A study, or a recipe by its path or shipped name; default: the only study of"
            " the database."
        ),
    ] = None,
    networks: Annotated[
        list[str] | None,
        Argument(
            metavar="PLACEMENT",
            help="Placements, numbers of trials, or modules (se is se at every site); default:"
            " the study's front.",
        ),
    ] = None,
    settings: LatencySettings = None,
    to: ToFolder = None,
    back: FromFolder = None,
    backbone: Annotated[str | None, Option(hidden=True)] = None,
    shape: Annotated[str, Option("--input", hidden=True)] = "3x32x32",
) -> None:
    """Measure latencies of a study's networks on this machine. As ratios to the bare backbone's.

    Examples:
      nas-attn measure
      nas-attn measure digits "stage3=se(reduction=8)" 12 eca

    Pairs, sessions and other runtimes: docs/explain/latency.md
    """
    from nas_attn.training.plan import study_plan

    words = [*filter(None, [study]), *(networks or ())]
    # formerly this command measured networks without a study, too
    if backbone is not None or _is_network(words, context.storage, back):
        named = [backbone] if backbone is not None else []
        benchmark(context, [*named, *words], shape, settings, to, back)
        return
    check_output()
    if back is not None:
        # what another device has measured runs no code
        _bring_back(context, back, study_named(context, study))
        return
    if study is not None and _is_recipe(study, context.storage):
        plan = _recipe_plan(context, study)
        asked = _asked(networks or (), {})
        echo(f"'{study}': a recipe", err=True)
    else:
        opened = study_named(context, study, runs_code=True)
        plan = study_plan(opened.store)
        trials = {str(row.trial): row.placement for row in opened.store.candidates()}
        asked = _asked(networks, trials) if networks else _front_of(opened)
        front = "" if networks else ", so its front is measured"
        echo(f"'{opened.store.name}': a study{front}", err=True)
    if not asked:
        raise RecipeError(f"a recipe has no front: name placements after '{study}'")
    _compare(context, plan, plan.recipe.backbone.name, asked, settings, to)


def benchmark(
    context: Context,
    networks: Annotated[
        list[str] | None,
        Argument(
            metavar="NETWORK",
            help="A backbone, then what is compared with it: other backbones, or placements on"
            " it. Or ONNX files, or a folder of them, without torch.",
        ),
    ] = None,
    shape: Shape = None,
    settings: LatencySettings = None,
    to: ToFolder = None,
    back: FromFolder = None,
) -> None:
    """Compare latencies of any networks on this machine. As ratios to the first one's.

    Examples:
      nas-attn benchmark resnet20 "stage2=se(reduction=8)"
      nas-attn benchmark torchvision:resnet18 torchvision:resnet34 --input 3x224x224

    Pairs, sessions and other runtimes: docs/explain/latency.md
    """
    check_output()
    words = list(networks or ())
    files = _files(words)
    if files:
        if to is not None or back is not None:
            raise RecipeError("--to and --from are not for ONNX files: leave them out")
        echo(f"measuring {several(len(files), 'ONNX file')}, without torch", err=True)
        _measure_files(context, files, settings or [])
        return
    if back is not None:
        _bring_back(context, back, None)
        return
    if not words:
        raise RecipeError(
            "benchmark needs networks: a backbone, and placements on it ('stage2=se(reduction=8)')"
            " or other backbones"
        )
    backbone = USUAL_BACKBONE if _is_placement(words[0]) else words.pop(0)
    if not words:
        raise RecipeError(
            f"benchmark needs a network to compare '{backbone}' with: add a placement, like"
            " 'stage2=se(reduction=8)', or another backbone"
        )
    for name in (backbone, *words):
        check_typed(name, trust=context.trust)
    echo(f"'{backbone}': the backbone, with which the others are compared", err=True)
    _compare(context, _plan(backbone, shape), backbone, _asked(words, {}), settings, to)


def _is_network(words: Sequence[str], storage: str, back: Path | None) -> bool:
    """Whether words are networks, as `measure` formerly took them, and the first is no study."""
    if not words:
        return back is not None
    return bool(
        _files(words)
        or _is_placement(words[0])
        or (back is None and _is_backbone(words[0], storage))
    )


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
    to: Path | None,
) -> None:
    """Measures networks and prints their latencies, or writes the networks for another device.

    Args:
        context: The call.
        plan: How networks are built and measured.
        backbone: The backbone's name as it was given.
        asked: As `_asked` gives it.
        settings: Of the option --set.
        to: The folder for another device; None: they are measured here.
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
    if to is not None:
        _send(plan, section, networks, to)
        return
    sessions = _measure(plan, section, {text: built.model for text, built in networks.items()})
    shown = {text: (text, built.notation) for text, built in networks.items()}
    _show(context, backbone, shown, sessions)


def _files(words: Sequence[str]) -> list[Path]:
    """The ONNX files, or the folder of them, that all words name; else nothing."""
    if not words:
        return []
    paths = [Path(word) for word in words]
    if all(path.suffix == ".onnx" for path in paths):
        return paths
    folder = paths[0]
    if len(paths) == 1 and folder.is_dir() and any(folder.glob("*.onnx")):
        return paths
    return []


def _measure_files(context: Context, files: Sequence[Path], settings: Sequence[str]) -> None:
    """Runs the program that goes to other devices, which needs no torch."""
    from nas_attn.latency.paired import measured_line

    given = _latency_settings(settings)
    unknown = sorted(given.keys() - {"mode", "threads"})
    if unknown:
        raise RecipeError(
            f"--set {unknown[0]} is not for files: their settings are mode and threads"
        )
    program = Path(__file__).parents[1] / "latency" / "paired.py"
    options = [f"--{name}={value}" for name, value in given.items()]
    command = [sys.executable, str(program), *map(str, files), *options, "--json"]
    found = []
    # runtimes write warnings of their own to standard error
    with subprocess.Popen(command, stdout=PIPE, stderr=DEVNULL, text=True) as child:
        for line in child.stdout or ():
            measured = json.loads(line)
            if "error" in measured:
                raise MeasurementError(measured["error"])
            found.append(measured)
            if not context.as_json:
                echo(measured_line(measured))
    if child.returncode:
        raise MeasurementError(
            f"measuring files ended with status {child.returncode}: run python {program} with"
            " these files to see why"
        )
    if context.as_json:
        print_json(found)


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


def _send(plan: Plan, section: LatencySection, networks: Mapping[str, Built], folder: Path) -> None:
    from nas_attn.cli.terminal import show_prose
    from nas_attn.latency.session import PROGRAM_FILE, write_folder

    write_folder(
        folder,
        section,
        backbone=plan.recipe.backbone.name,
        reference=plan.bare(0),
        candidates={built.key: (built.notation, built.model) for built in networks.values()},
        input_shape=plan.input_shape,
    )
    runtime = section.row.package
    show_prose(
        console(),
        f"{folder} has the bare backbone and {len(networks)} more. On the device, with numpy and"
        f" {runtime}: python {PROGRAM_FILE}. Then copy the folder back, and give it to nas-attn"
        " measure --from.",
    )


def _bring_back(context: Context, folder: Path, study: OpenStudy | None) -> None:
    """Prints what another device has measured; a study keeps it."""
    from nas_attn.cli.terminal import show_prose
    from nas_attn.latency.session import read_folder
    from nas_attn.system.processes import owner_name
    from nas_attn.training.measurer import to_text

    results = read_folder(folder)
    elsewhere = False
    if study is not None:
        device = to_text(results.sessions[0].fingerprint)
        elsewhere = study.store.set_fingerprint_once(device) != device
        # this process: the device keeps no study
        owner = owner_name()
        for session in results.sessions:
            study.store.add_session(session, owner=owner)
    shown = {key: (notation, notation) for key, notation in results.placements.items()}
    _show(context, results.backbone, shown, results.sessions)
    if elsewhere and not context.as_json:
        show_prose(
            console(),
            "The study's search used the latencies of another machine. nas-attn show shows both"
            " for its candidates.",
        )


def _recipe_plan(context: Context, name: str) -> Plan:
    """How a recipe's networks are built, for the shape and the classes of its data."""
    from nas_attn.recipe import tasks
    from nas_attn.recipe.reading import load_recipe
    from nas_attn.training.plan import plan_for
    from nas_attn.training.tasks.data import data_of

    recipe = load_recipe(name)
    check_trust(name, recipe, trust=context.trust)
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
        given = LatencySection.model_validate(table)
    except ValidationError as error:
        raise RecipeError(sentence(LatencySection, error, "--set")) from None
    given.refuse_former()
    return given


class Built(NamedTuple):
    """A network to be measured; for another backbone, key and notation are its name."""

    key: str
    notation: str
    model: nn.Module


def _network(plan: Plan, text: str, placement: Placement | None) -> Built:
    """The network of a placement; without one, the backbone that the text names."""
    from nas_attn import backbones
    from nas_attn.recipe.reading import backbone_section

    if placement is None:
        shape = plan.input_shape
        classes = plan.classes
        return Built(
            text, text, backbones.build(backbone_section(text), input_shape=shape, classes=classes)
        )
    resolved = plan.resolved(placement)
    return Built(resolved.key, resolved.text, plan.network(resolved, 0))


def _measure(plan: Plan, section: LatencySection, models: Mapping[str, nn.Module]) -> list[Session]:
    from nas_attn.latency.locks import DeviceLock
    from nas_attn.latency.ratios import open_keys
    from nas_attn.latency.session import measure

    enough = partial(open_keys, keys=models, tolerance=section.tolerance)
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


def _rows(
    shown: Mapping[str, tuple[str, str]], sessions: Sequence[Session]
) -> list[dict[str, Any]]:
    """Of each network, the fastest first: its placement as given and in full, its latency, and how
    probably it is faster than the bare backbone and than the next one.
    """
    from nas_attn.latency.ratios import LatencyOrder, estimate

    latencies = estimate(sessions)
    order = LatencyOrder(sessions)
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
                "faster_than_bare": order.probability_faster(key, None),
                "faster_than_next": following and order.probability_faster(key, following),
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
    optional = ["faster than next", "ms", "95 % interval"]
    out.print(table(title, columns, cells, right=columns[:-1], optional=optional))
    conditions = ", ".join(f"{name} {value}" for name, value in first.conditions.items())
    show_prose(out, f"{first.fingerprint.name}; {conditions}")
    counted = several(len(sessions), "session")
    show_prose(out, f"{counted}, {left_out} of them dropped by the A/A check")
    if beside:
        show_prose(out, not_alone(beside))
