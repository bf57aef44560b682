"""`nas-attn measure`: latencies of networks, with or without a study."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from typer import Argument, Option

from nas_attn.cli.common import (
    AsJson,
    LatencySettings,
    Shape,
    Storage,
    Trust,
    Wide,
    check_output,
    check_typed,
    console,
    echo,
    overrides,
    parse_shape,
    print_json,
    study_named,
    table,
)
from nas_attn.errors import (
    MeasurementError,
    RecipeError,
    StudyError,
    several,
)
from nas_attn.space.notation import parse
from nas_attn.space.placement import Placement
from nas_attn.storage.records import BESIDE, Session
from nas_attn.system.paths import DEFAULT_URL

if TYPE_CHECKING:
    from torch import nn

    from nas_attn.recipe.recipe import LatencySection
    from nas_attn.storage.opening import OpenStudy
    from nas_attn.training.plan import Plan


USUAL_BACKBONE = "resnet20"


def measure(
    what: Annotated[
        list[str] | None,
        Argument(
            help=(
                "A study, then its trials or placements (default: its front). Without a study:"
                " placements, or two backbones and more, compared with the first. Or ONNX files,"
                " or a folder of them, without torch. The command says what it has taken each word"
                " for."
            )
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        Option(help="Backbone of the placements, without a study.", show_default=USUAL_BACKBONE),
    ] = None,
    shape: Shape = "3x32x32",
    settings: LatencySettings = None,
    to: Annotated[
        Path | None,
        Option(
            help="Measure on another device, without torch: write the networks and a program here."
        ),
    ] = None,
    back: Annotated[
        Path | None,
        Option("--from", help="Show what that program has measured; with a study, keep it there."),
    ] = None,
    storage: Storage = DEFAULT_URL,
    trust: Trust = False,
    wide: Wide = False,
    as_json: AsJson = False,
) -> None:
    """Measure latencies of networks on this machine. As ratios to the bare backbone's."""
    check_output()
    words = list(what or [])
    files = _files(words) if words and backbone is None else []
    if files:
        if to is not None or back is not None or as_json:
            raise RecipeError("--to, --from and --json are not for ONNX files: leave them out")
        echo(f"measuring {several(len(files), 'ONNX file')}, without torch", err=True)
        _measure_files(files, settings or [])
        return
    study = None
    measured: MeasuredHere | None
    if words and backbone is None and not _places(words[0]):
        if back is None and _is_backbone(words[0], storage):
            backbone = words.pop(0)
        else:
            # what another device has measured runs no code
            study = study_named(words.pop(0), storage, trust=trust if back is None else None)
    if back is not None:
        measured = _bring_back(back, study)
    else:
        for name in (backbone, *words):
            check_typed(name, trust=trust)
        measured = _measured(words, study, Wish(backbone, shape, settings or [], to))
    if measured is None:
        return
    if as_json:
        _print_measured(measured)
        return
    _show_measured(measured, wide=wide)
    if back is not None and study is not None and not measured.at_home:
        from nas_attn.cli.printing import show_prose

        show_prose(
            console(),
            "The study's search used the latencies of another machine. nas-attn pareto shows both"
            " for its candidates.",
        )


@dataclass(frozen=True)
class Wish:
    """Which networks are measured, and how."""

    backbone: str | None
    shape: str
    settings: Sequence[str]
    to: Path | None
    """Where the networks are written for another device; None: they are measured here."""


def _is_backbone(word: str, storage: str) -> bool:
    """Whether a first word is no study but the name of a backbone."""
    from nas_attn.storage.opening import is_study

    if is_study(word, storage):
        return False
    if ":" in word:
        return True
    from nas_attn.backbones.cifar import MODELS

    return word.partition("(")[0] in MODELS


def _measured(words: Sequence[str], study: OpenStudy | None, wish: Wish) -> MeasuredHere | None:
    """What was measured of the networks that the words name; None: they were written for another
    device.
    """
    from nas_attn.training.plan import study_plan

    if study is None:
        plan = _plan(wish.backbone or USUAL_BACKBONE, wish.shape)
    else:
        plan = study_plan(study.store)
    backbone = wish.backbone or plan.recipe.backbone.name
    section = latency_section(plan.recipe.latency, wish.settings)
    asked = _asked(words, study) if words else _front_of(study, wish.backbone)
    for line in _readings(words, asked, study, backbone):
        echo(line, err=True)
    networks = {text: _network(plan, text, placement) for text, placement in asked.items()}
    if wish.to is not None:
        _send(plan, section, networks, wish.to)
        return None
    sessions = _measure(plan, section, {text: built.model for text, built in networks.items()})
    shown = {text: (text, built.notation) for text, built in networks.items()}
    return _answer(backbone, shown, sessions)


def _files(words: Sequence[str]) -> list[Path]:
    """The ONNX files, or the folder of them, that all words name; else nothing."""
    paths = [Path(word) for word in words]
    if all(path.suffix == ".onnx" for path in paths):
        return paths
    folder = paths[0]
    if len(paths) == 1 and folder.is_dir() and any(folder.glob("*.onnx")):
        return paths
    return []


def _measure_files(files: Sequence[Path], settings: Sequence[str]) -> None:
    """Runs the program that goes to other devices, which needs no torch."""
    from nas_attn.latency.paired import measured_line

    given = overrides(settings, "--latency")
    unknown = sorted(given.keys() - {"mode", "threads"})
    if unknown:
        raise RecipeError(
            f"--latency {unknown[0]} is not for files: their settings are mode and threads"
        )
    program = Path(__file__).parents[1] / "latency" / "paired.py"
    options = [f"--{name}={value}" for name, value in given.items()]
    command = [sys.executable, str(program), *map(str, files), *options, "--json"]
    # runtimes write warnings of their own to standard error
    with subprocess.Popen(command, stdout=PIPE, stderr=DEVNULL, text=True) as child:
        for line in child.stdout or ():
            measured = json.loads(line)
            if "error" in measured:
                raise MeasurementError(measured["error"])
            echo(measured_line(measured))
    if child.returncode:
        raise MeasurementError(
            f"measuring files ended with status {child.returncode}: run python {program} with"
            " these files to see why"
        )


def _asked(words: Sequence[str], study: OpenStudy | None) -> dict[str, Placement | None]:
    """Word -> the placement that it writes, or that of the study's trial; None: it names another
    backbone.
    """
    trials: dict[str, Placement] = {}
    missing = "a trial of a study: name the study first"
    if study is not None:
        trials = {str(row.trial): row.placement for row in study.store.candidates()}
        missing = "a trial of the study"
    asked: dict[str, Placement | None] = {}
    for word in words:
        if word in trials:
            asked[word] = trials[word]
        elif word.isdigit():
            raise StudyError(f"'{word}' is not {missing}")
        else:
            asked[word] = parse(word) if _places(word) else None
    return asked


def _readings(
    words: Sequence[str],
    asked: Mapping[str, Placement | None],
    study: OpenStudy | None,
    backbone: str,
) -> Iterator[str]:
    """What each word was taken for, a line each."""
    if study is None:
        yield f"'{backbone}': the backbone, with which the others are compared"
    elif words:
        yield f"'{study.store.name}': a study"
    else:
        yield f"'{study.store.name}': a study, so its front is measured"
    for word in words:
        if asked[word] is None:
            yield f"'{word}': another backbone, without attention"
        elif word.isdigit():
            yield f"'{word}': trial {word} of the study, {asked[word]}"
        else:
            yield f"'{word}': a placement on {backbone}"


def _places(word: str) -> bool:
    """Whether it writes a placement, not a study or a backbone, like `resnet8(width=10)`."""
    return "=" in word.partition("(")[0] or word == "none"


def _front_of(study: OpenStudy | None, backbone: str | None) -> dict[str, Placement | None]:
    """The front of a study, where no placement is named."""
    if study is None and backbone is not None:
        raise RecipeError(
            f"measure needs a network to compare '{backbone}' with: add a placement, like"
            " 'stage2=se(reduction=8)', or another backbone"
        )
    if study is None:
        raise RecipeError(
            "measure needs a study, or at least one placement, like 'stage2=se(reduction=8)'"
        )
    from nas_attn.answer.reading import snapshot

    front = snapshot(study.store).front
    placements: dict[str, Placement | None] = {
        str(v.placement): v.placement for v in front if not v.is_bare
    }
    if not placements:
        raise RecipeError("the study's front is the bare backbone alone: name placements or trials")
    return placements


def _send(plan: Plan, section: LatencySection, networks: Mapping[str, Built], folder: Path) -> None:
    from nas_attn.cli.printing import show_prose
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


def _bring_back(folder: Path, study: OpenStudy | None) -> MeasuredHere:
    """What another device has measured; a study keeps it."""
    from nas_attn.latency.session import read_folder
    from nas_attn.system.processes import owner_name
    from nas_attn.training.measuring import to_text

    results = read_folder(folder)
    at_home = False
    if study is not None:
        store = study.store
        device = to_text(results.sessions[0].fingerprint)
        at_home = store.set_fingerprint_once(device) == device
        # this process: the device keeps no study
        owner = owner_name()
        for session in results.sessions:
            store.add_session(session, owner=owner)
    shown = {key: (notation, notation) for key, notation in results.placements.items()}
    return replace(_answer(results.backbone, shown, results.sessions), at_home=at_home)


def _plan(backbone: str, shape: str) -> Plan:
    from nas_attn.cli.usual import CLASSES, task_of
    from nas_attn.recipe.reading import recipe_from
    from nas_attn.training.plan import plan_for

    classes = CLASSES[task_of(backbone)]
    data = {"name": "external", "input_shape": parse_shape(shape), "classes": classes}
    made = {"name": "measure", "space": "small", "backbone": {"name": backbone}, "data": data}
    return plan_for(
        recipe_from(
            {**made, "training": {"start": "scratch", "init": "identity"}}, where="measure"
        ),
        None,
    )


def latency_section(section: LatencySection, settings: Sequence[str]) -> LatencySection:
    """A section with the settings of `--latency`."""
    from pydantic import ValidationError

    from nas_attn.recipe.reading import sentence
    from nas_attn.recipe.recipe import LatencySection

    table = {
        **section.model_dump(),
        "tolerance": section.front_tolerance,
        **overrides(settings, "--latency"),
    }
    try:
        given = LatencySection.model_validate(table)
    except ValidationError as error:
        raise RecipeError(sentence(LatencySection, error, "--latency")) from None
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
    from nas_attn.latency.estimates import open_keys
    from nas_attn.latency.locks import DeviceLock
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


@dataclass(frozen=True)
class MeasuredHere:
    """What was measured of networks, the fastest first."""

    backbone: str
    sessions: Sequence[Session]
    rows: Sequence[Mapping[str, Any]]
    """Of each network: its placement as given and in full, its latency, and how probably it is
    faster than the bare backbone and than the next one.
    """
    dropped: int
    """Sessions that the A/A control dropped."""
    beside: Sequence[str]
    """Of some sessions: what else ran on the machine."""
    at_home: bool = False
    """Whether the machine is the study's own."""


def _answer(
    backbone: str, shown: Mapping[str, tuple[str, str]], sessions: Sequence[Session]
) -> MeasuredHere:
    """What the sessions say. `shown`: key of a session's samples -> (placement as given, its
    explicit notation).
    """
    from nas_attn.latency.estimates import dropped

    return MeasuredHere(
        backbone,
        sessions,
        rows=_rows(shown, sessions),
        dropped=len(dropped(sessions)),
        beside=[one.notes[BESIDE] for one in sessions if BESIDE in one.notes],
    )


def _rows(
    shown: Mapping[str, tuple[str, str]], sessions: Sequence[Session]
) -> list[dict[str, Any]]:
    from nas_attn.latency.estimates import LatencyOrder, estimate

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


def _print_measured(measured: MeasuredHere) -> None:
    first = measured.sessions[0]
    print_json(
        {
            "backbone": measured.backbone,
            "machine": asdict(first.fingerprint),
            "conditions": dict(first.conditions),
            "sessions": len(measured.sessions),
            "dropped": measured.dropped,
            "beside": measured.beside,
            "candidates": measured.rows,
        }
    )


def _show_measured(measured: MeasuredHere, *, wide: bool) -> None:
    from nas_attn.cli.printing import show_prose
    from nas_attn.latency.estimates import not_alone

    cells = []
    for row in measured.rows:
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
    reference_ms = measured.rows[0]["reference_ms"]
    title = f"Latency relative to the bare {measured.backbone} ({reference_ms:.3f} ms)"
    out = console(wide=wide)
    optional = ["faster than next", "ms", "95 % interval"]
    out.print(table(title, columns, cells, right=columns[:-1], optional=optional))
    first = measured.sessions[0]
    conditions = ", ".join(f"{name} {value}" for name, value in first.conditions.items())
    show_prose(out, f"{first.fingerprint.name}; {conditions}")
    sessions = several(len(measured.sessions), "session")
    show_prose(out, f"{sessions}, {measured.dropped} of them dropped by the A/A control")
    if measured.beside:
        show_prose(out, not_alone(measured.beside))
