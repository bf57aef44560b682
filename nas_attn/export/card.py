"""The card beside an exported network, for people who have only these files."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas_attn._version import __version__
from nas_attn.answer.answer import Answer
from nas_attn.answer.answer_text import drawing_line, rows, splits_text
from nas_attn.answer.as_json import lines_as_json
from nas_attn.answer.headline import headline
from nas_attn.answer.snapshot import CandidateView, Snapshot
from nas_attn.attention import catalogue
from nas_attn.attention.choice import Choice
from nas_attn.data.decoding import PADDING_GREY
from nas_attn.data.inventory import NAMED
from nas_attn.errors import OperationError, UserError, shorten
from nas_attn.export.formats import BOX_VALUES, Interface, answers_of
from nas_attn.recipe import tasks, units
from nas_attn.recipe.reading import frozen_recipe
from nas_attn.recipe.recipe import BackboneSection, DataSection
from nas_attn.recipe.tables import BACKBONE_SOURCES
from nas_attn.recipe.task import Task
from nas_attn.space.notation import parse
from nas_attn.space.placement import Point, ResolvedPlacement
from nas_attn.space.search_space import other_of
from nas_attn.system.paths import write_whole

# of the card's format
VERSION = 2
PLACED = ("folder", "coco", "yolo")
"""Kinds of data sets whose names say where they lie: `folder:PATH`."""


@dataclass(frozen=True, slots=True)
class Described:
    """How an exported network was built, and what it takes and gives."""

    backbone: BackboneSection
    resolved: ResolvedPlacement
    input_shape: tuple[int, int, int]
    """(channels, height, width)"""
    interface: Interface
    task: Task


def card(
    answer: Answer, view: CandidateView, described: Described, made: Mapping[str, Any]
) -> dict[str, Any]:
    """The card's facts in JSON's types.

    Args:
        answer: of the study.
        view: the network's candidate.
        described: the network.
        made: what is known of the file: its name, format and hash, its training, images, cost and
            checks; of its `input` the name and whether it is normalised inside.

    Returns:
        The facts, of which nothing names a folder of this machine.
    """
    now = answer.now
    interface = described.interface
    channels, height, width = described.input_shape
    inside = made["input"]["normalised_inside"]
    facts = {
        "card": VERSION,
        "written_by": f"nas_attn {__version__}",
        "study": now.study,
        "trial": view.trial,
        "key": view.key,
        "placement": str(view.placement),
        "init": described.resolved.init,
        "backbone": described.backbone.model_dump(mode="json"),
        **made,
        "input": {
            **made["input"],
            "shape": ["N", channels, height, width],
            "dtype": "uint8" if inside else "float32",
            "channels": {1: "grey", 3: "RGB"}.get(channels, f"{channels} channels"),
            "mean": list(interface.mean),
            "std": list(interface.std),
            "reading": _reading(DataSection.stored(made["data"]["section"])),
        },
        "output": {
            "shape": ["N", *interface.output],
            "what": described.task.answer,
            "classes": list(interface.classes),
        },
        "modules": [_placed(point, choices) for point, choices in described.resolved.modules],
        "estimate": {
            name: {"mean": e.mean, "low": e.low, "high": e.high, "runs": e.seeds}
            for name, e in view.estimates.items()
        },
        "study_answer": _answer(answer, view),
        "latency": _latency(now, view),
        "sources": _sources(described),
        "versions": dict(now.versions),
        "recipe": now.recipe.model_dump(mode="json"),
    }
    if interface.scale:
        # how a network's numbers become those of the data
        facts["output"] |= {"scale": list(interface.scale), "shift": list(interface.shift)}
    shown: dict[str, Any] = without_folders(facts)
    return shown


def without_folders(value: Any) -> Any:
    """Facts without the folders of the machine that searched: of paths from its root, its home or
    a folder above, only the last part.
    """
    if isinstance(value, Mapping):
        # a pattern of groups is no path
        own = {name: inner for name, inner in value.items() if name == "pattern"}
        return {name: without_folders(inner) for name, inner in value.items()} | own
    if isinstance(value, list | tuple):
        return [without_folders(inner) for inner in value]
    if not isinstance(value, str):
        return value
    # as in `ultralytics:/home/mara/best.pt`; no address of a page
    source = re.match(r"\w{2,}:(?!//)", value)
    head = "" if source is None else source[0]
    path = value.removeprefix(head)
    is_elsewhere = Path(path).is_absolute() or path.startswith(("~", "../"))
    return f"{head}{Path(path).name}" if is_elsewhere else value


def in_folder(section: DataSection, folder: str) -> DataSection:
    """A card's section `[data]` with the folder in which its images lie here."""
    source = section.name.partition(":")[0]
    if source in PLACED:
        return section.model_copy(update={"name": f"{source}:{folder}"})
    return section.model_copy(update={"root": folder})


def _reading(section: DataSection) -> dict[str, Any] | None:
    """How the study made photographs alike; None: they are, or have bands."""
    has_photographs = section.name.partition(":")[0] in PLACED or section.size is not None
    if not has_photographs or section.channels is not None:
        return None
    return {"fit": section.fit, "resize": None, "interpolation": "bilinear", **section.options}


def _answer(answer: Answer, view: CandidateView) -> dict[str, Any] | None:
    """The card of the study: headline, drawing, rows; None if the file has another network than the
    card takes.
    """
    if view.key != answer.taken_key:
        return None
    drawing = drawing_line(answer.drawing) if answer.drawing else ""
    return {"headline": headline(answer), "drawing": drawing, "rows": lines_as_json(rows(answer))}


def _placed(point: Point, choices: tuple[Choice, ...]) -> dict[str, Any]:
    """The modules at a point, independent of a later version's names of sites."""
    return {
        "point": list(dataclasses.astuple(point)),
        "choices": [{"type": choice.type, "knobs": dict(choice.knobs)} for choice in choices],
    }


def resolved_of(facts: Mapping[str, Any]) -> ResolvedPlacement:
    """The placement of a card, point by point."""
    modules = []
    for entry in facts["modules"]:
        choices = tuple(Choice(c["type"], tuple(c["knobs"].items())) for c in entry["choices"])
        modules.append((Point(*entry["point"]), choices))
    placement = parse(facts["placement"])
    other = None if modules else other_of(placement)
    return ResolvedPlacement(tuple(modules), placement, facts["init"], facts["key"], other)


def _latency(now: Snapshot, view: CandidateView) -> dict[str, Any] | None:
    if view.latency is None or now.latency is None:
        return None
    measured = {
        name: getattr(view.latency, name) for name in ("ratio", "low", "high", "ms", "measured")
    }
    conditions = {name: str(value) for name, value in now.latency.conditions.items()}
    return {**measured, "machine": now.latency.machine, "conditions": conditions}


def _sources(described: Described) -> list[dict[str, str]]:
    """The attention modules' papers; their code is this project's, written from the papers, or a
    third party's.
    """
    name = described.backbone.name
    source, colon, _ = name.partition(":")
    known = BACKBONE_SOURCES.get(source)
    licence = known.licence if known else _licence(source if colon else "nas_attn")
    sources = [{"type": "backbone", "title": name, "paper": "", "licence": licence}]
    types = [choice.type for _, choices in described.resolved.modules for choice in choices]
    for kind in dict.fromkeys(types):
        row = catalogue.find(kind)
        licence = _licence(row.load().__module__.partition(".")[0])
        sources.append({"type": kind, "title": row.title, "paper": row.paper, "licence": licence})
    return sources


def _licence(package: str) -> str:
    return "MIT (nas_attn)" if package == "nas_attn" else f"that of {package}"


def card_paths(path: Path) -> tuple[Path, Path]:
    """Markdown and JSON: `net.onnx.md`, `net.onnx.json`."""
    return path.with_name(f"{path.name}.md"), path.with_name(f"{path.name}.json")


def write_card(facts: Mapping[str, Any], path: Path) -> tuple[Path, Path]:
    """Writes both forms of a card beside an exported file; OperationError if they cannot be
    written.
    """
    paths = card_paths(path)
    texts = (markdown(facts), json.dumps(facts, indent=2, allow_nan=False))
    for target, text in zip(paths, texts, strict=True):
        try:
            write_whole(target, f"{text}\n")
        except OSError as error:
            raise OperationError(f"'{target}' cannot be written: {error}") from None
    return paths


def markdown(facts: Mapping[str, Any]) -> str:
    """A card for people."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    task = tasks.of(frozen_recipe(json.dumps(facts["recipe"]), where="the card"))
    loader = PackageLoader("nas_attn", "export/templates")
    environment = Environment(
        loader=loader, undefined=StrictUndefined, autoescape=False, trim_blocks=True
    )
    environment.filters |= {
        "value": lambda number, name: units.value(name, number),
        "numbers": lambda values: ", ".join(f"{value:.6g}" for value in values),
        "counted": units.counted,
        "estimated": _estimated,
        "divided": splits_text,
    }
    return environment.get_template("card.md").render(
        **facts,
        labels=task.labels,
        padding=PADDING_GREY,
        outputs=NAMED[task.labels][1].capitalize(),
        answer=answers_of(task).said(tuple(facts["output"]["shape"][1:]), facts["format"]),
        compared=against_torch(facts) if facts["check"] else "",
    )


def _estimated(estimate: Mapping[str, float], name: str) -> str:
    """`accuracy 72.6 % (72.0 to 73.2 %)`."""
    low = estimate["low"]
    high = estimate["high"]
    half = (high - low) / 2
    value = units.values(name, [estimate["mean"]], half)
    return f"{name} {value} ({units.values(name, [low, high], half, ' to ')})"


def against_torch(facts: Mapping[str, Any]) -> str:
    """The comparison of the file with the network, in words."""
    difference = facts["check"]["difference"]
    if difference is None:
        return "the network finds no boxes in these images, so nothing was compared"
    if facts["output"]["what"] != "boxes":
        return f"outputs differ by at most {100 * difference:.1g} % of the largest"
    if facts["output"]["shape"][-1] == BOX_VALUES:
        return (
            f"half of the boxes differ by at most {100 * difference:.1g} % of the image's side, as"
            " do their scores"
        )
    return (
        f"boxes differ by at most {100 * difference:.1g} % of the image's side, scores relative to"
        " the highest"
    )


def read_card(path: Path) -> dict[str, Any]:
    """The card of an exported file; UserError if it is missing or damaged."""
    at = card_paths(path)[1]
    if not path.is_file():
        raise UserError(f"there is no file '{shorten(str(path))}': write one with nas-attn export")
    try:
        facts = json.loads(at.read_text("utf-8"))
        readable = facts["card"] == VERSION
    except OSError:
        raise UserError(
            f"there is no card '{at.name}' next to '{path.name}': nas-attn export writes it"
        ) from None
    except (ValueError, KeyError, TypeError, RecursionError):
        readable = False
    if not readable:
        raise UserError(
            f"'{at}' is not a card of this version of nas-attn: export the network again"
        )
    return facts  # type: ignore[no-any-return]
