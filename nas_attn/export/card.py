"""What lies beside an exported network: everything that somebody needs who was given the file and nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas_attn import tasks
from nas_attn._version import __version__
from nas_attn.analysis import units
from nas_attn.analysis.snapshot import CandidateView, Snapshot
from nas_attn.attention import catalogue
from nas_attn.backbones.building import SOURCES
from nas_attn.errors import OperationError
from nas_attn.export.formats import BOX
from nas_attn.export.python_file import Described
from nas_attn.paths import write_whole
from nas_attn.recipe import Recipe
from nas_attn.records import Choice, Point, ResolvedPlacement

VERSION = 1  # of the card's form


def card(
    now: Snapshot,
    view: CandidateView,
    described: Described,
    path: Path,
    format_: str,
    *,
    normalised_inside: bool,
    training: Mapping[str, Any],
    here: Mapping[str, Any] | None,
    check: Mapping[str, Any] | None,
    data: Mapping[str, Any],
    cost: Mapping[str, float],
) -> dict[str, Any]:
    """The facts, as JSON knows them.

    Args:
        training: of the run whose weights these are.
        here: the exported network's own score on the same images in float32; None where that was not asked.
        check: how the file compares with the network; None where it was not asked, or cannot be.
    """
    channels, height, width = described.input_shape
    modules = [  # whatever a later version calls the places
        {
            "point": [point.path, point.channels, point.height, point.width, point.replaces],
            "choices": [{"type": choice.type, "knobs": dict(choice.knobs)} for choice in choices],
        }
        for point, choices in described.resolved.modules
    ]
    estimates = {
        name: {"mean": e.mean, "low": e.low, "high": e.high, "runs": e.seeds} for name, e in view.estimates.items()
    }
    return {
        "card": VERSION,
        "file": path.name,
        "format": format_,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "written_by": f"nas_attn {__version__}",
        "study": now.study,
        "trial": view.trial,
        "key": view.key,
        "placement": view.placement,
        "init": described.resolved.init,
        "backbone": described.backbone.model_dump(mode="json"),
        "cost": dict(cost),
        "input": {
            "shape": ["N", channels, height, width],
            "dtype": "uint8" if normalised_inside else "float32",
            "channels": {1: "grey", 3: "RGB"}.get(channels, f"{channels} channels"),
            "normalised_inside": normalised_inside,
            "mean": list(described.interface.mean),
            "std": list(described.interface.std),
        },
        "output": {
            "shape": ["N", *described.interface.output],
            "what": described.task.answer,
            "classes": list(described.interface.classes),
        },
        "modules": modules,
        "training": dict(training),
        "here": None if here is None else dict(here),
        "check": None if check is None else dict(check),
        "estimate": estimates,
        "latency": _latency(now, view),
        "data": dict(data),
        "sources": _sources(described),
        "versions": dict(now.versions),
        "recipe": now.recipe.model_dump(mode="json"),
    }


def resolved_of(facts: Mapping[str, Any]) -> ResolvedPlacement:
    """The placement of a card, point by point."""
    modules = tuple(
        (Point(*entry["point"]), tuple(Choice(c["type"], tuple(c["knobs"].items())) for c in entry["choices"]))
        for entry in facts["modules"]
    )
    return ResolvedPlacement(modules, facts["placement"], facts["init"], facts["key"])


def _latency(now: Snapshot, view: CandidateView) -> dict[str, Any] | None:
    if view.latency is None or now.latency is None:
        return None
    measured = {name: getattr(view.latency, name) for name in ("ratio", "low", "high", "ms", "measured")}
    conditions = {name: str(value) for name, value in now.latency.conditions.items()}
    return {**measured, "machine": now.latency.machine, "conditions": conditions}


def _sources(described: Described) -> list[dict[str, str]]:
    """The attention modules' papers; their code is this project's, written from the papers, or a third party's."""
    found = []
    for name in dict.fromkeys(choice.type for _, choices in described.resolved.modules for choice in choices):
        row = catalogue.find(name)
        ours = row.target.startswith("nas_attn.")
        licence = "MIT (nas_attn)" if ours else f"that of {row.target.partition('.')[0].partition(':')[0]}"
        found.append({"type": name, "title": row.title, "paper": row.paper, "licence": licence})
    source = described.backbone.name.partition(":")[0]
    known = SOURCES.get(source)
    licence = known.licence if known else f"that of {source}" if ":" in described.backbone.name else "MIT (nas_attn)"
    return [{"type": "backbone", "title": described.backbone.name, "paper": "", "licence": licence}, *found]


def card_paths(path: Path) -> tuple[Path, Path]:
    """Markdown and JSON: `net.onnx.md`, `net.onnx.json`."""
    return path.with_name(f"{path.name}.md"), path.with_name(f"{path.name}.json")


def write_card(facts: Mapping[str, Any], path: Path) -> tuple[Path, Path]:
    """Writes both forms of a card beside an exported file; OperationError where they cannot be written."""
    paths = card_paths(path)
    for target, text in zip(paths, (markdown(facts), json.dumps(facts, indent=2, allow_nan=False)), strict=True):
        try:
            write_whole(target, text + "\n")
        except OSError as error:
            raise OperationError(f"'{target}' cannot be written: {error}") from None
    return paths


def markdown(facts: Mapping[str, Any]) -> str:
    """A card for people."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    task = tasks.of(Recipe.model_validate(facts["recipe"]))
    loader = PackageLoader("nas_attn", "export/templates")
    environment = Environment(loader=loader, undefined=StrictUndefined, autoescape=False, trim_blocks=True)
    environment.filters |= {
        "value": lambda number, name: units.value(name, number),
        "numbers": lambda values: ", ".join(f"{value:.6g}" for value in values),
        "counted": units.counted,
    }
    return environment.get_template("card.md").render(
        **facts,
        answer=task.answers.said(tuple(facts["output"]["shape"][1:]), facts["format"]),
        compared=against_torch(facts) if facts["check"] else "",
    )


def against_torch(facts: Mapping[str, Any]) -> str:
    """How the file compares with the network, where that was asked."""
    difference = facts["check"]["difference"]
    if difference is None:
        return "the network finds no boxes in these images, so nothing was compared"
    if facts["output"]["what"] != "boxes":
        return f"outputs differ by at most {100 * difference:.1g} % of the largest"
    if facts["output"]["shape"][-1] == BOX:
        return f"half of the boxes differ by at most {100 * difference:.1g} % of the image's side, as do their scores"
    return f"boxes differ by at most {100 * difference:.1g} % of the image's side, scores relative to the highest"
