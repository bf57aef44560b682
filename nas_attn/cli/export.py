"""`nas-attn export` and `validate-export`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from nas_attn.cli.commands import Context
from nas_attn.cli.common import (
    ChosenPlacement,
    MaxLatencyMs,
    MaxLatencyRatio,
    MinAccuracy,
    StudyName,
    at_storage,
    check_output,
    console,
    criteria,
    echo,
    print_json,
    study_named,
)
from nas_attn.cli.trust import check_export
from nas_attn.errors import OperationError, UserError
from nas_attn.system.paths import output_path, user_path

if TYPE_CHECKING:
    from nas_attn.answer.snapshot import CandidateView
    from nas_attn.export.exporting import Exported
    from nas_attn.recipe.recipe import Recipe

FormatName = Annotated[
    str,
    Option(
        "--format",
        metavar="[weights|torch|onnx|onnx-int8|TEXT]",
        help=(
            "Trained weights, torch.export, ONNX, or a trainer's own format; default: by --output,"
            " else weights."
        ),
    ),
]
Output = Annotated[
    str | None,
    Option("--output", "-o", metavar="PATH", help="File; default: STUDY with the format's ending."),
]
Normalize = Annotated[
    bool,
    Option(
        "--normalize", help="The file takes uint8 images and normalises them itself; not weights."
    ),
]
Check = Annotated[
    bool,
    Option(
        "--check/--no-check", help="Score it on the validation images; compare ONNX with torch."
    ),
]
AsSearched = Annotated[
    bool,
    Option("--as-searched", help="Take the search's weights, even if the network was retrained."),
]


def export(
    context: Context,
    study: StudyName = None,
    max_latency_ratio: MaxLatencyRatio = None,
    max_latency_ms: MaxLatencyMs = None,
    min_accuracy: MinAccuracy = None,
    placement: ChosenPlacement = None,
    format_: FormatName = "",
    output: Output = None,
    normalize: Normalize = False,
    check: Check = True,
    as_searched: AsSearched = False,
) -> None:
    """Write a trained network and its card.

    Examples:
      nas-attn export
      nas-attn export digits --format onnx --output digits.onnx

    Formats, and what to do with the files: docs/how-to/test-and-export.md
    """
    wanted = criteria(max_latency_ratio, max_latency_ms, min_accuracy, placement)
    check_output()

    from nas_attn.answer.choosing import chosen
    from nas_attn.answer.reading import answer
    from nas_attn.export.exporting import ExportWish, export_candidate
    from nas_attn.export.formats import find_format
    from nas_attn.recipe import tasks

    opened = study_named(context, study, runs_code=True)
    kind = find_format(format_, tasks.of(opened.recipe), output or "")
    found = answer(opened.store)
    view = chosen(opened, found, wanted).view
    file = output or f"{opened.store.name}{kind.suffix}"
    path = output_path(file, what="--output", error=UserError, replaces=kind.begins)
    wish = ExportWish(kind.name, as_searched=as_searched, normalize=normalize, check=check)
    done = export_candidate(opened, found, view, path, wish)
    facts = done.facts
    if context.as_json:
        told = {name: facts[name] for name in ("study", "placement", "init", "key")}
        told |= {"file": str(done.path), "format": kind.name, "trained": facts["training"]["what"]}
        print_json({**told, "card": facts})
        return
    _say_exported(done, view)
    if done.run is None:
        which = "" if wanted.default else f" --placement '{view.placement}'"
        retrain = f"nas-attn retrain {opened.store.name}{which}{at_storage(opened.url)}"
        echo(_hint(opened.recipe, facts["training"]["epochs"], retrain), err=True)


def _say_exported(done: Exported, view: CandidateView) -> None:
    """What was written, and what its checks found."""
    from nas_attn.cli.terminal import INDENT, show_prose

    trained = done.facts["training"]["what"]
    network = f"{view.placement} ({view.label}; {trained})"
    if view.is_bare:
        network = f"the bare backbone ({trained})"
    out = console()
    show_prose(out, f"{done.path}: {network}")
    for line in (*_found(done.facts), f"described in: {done.cards[0]}"):
        show_prose(out, line, indent=INDENT)


def _hint(recipe: Recipe, epochs: int, retrain: str) -> str:
    """How weights of the search become those of a training as the target says, if they are not.

    Args:
        recipe: The study's.
        epochs: Of the search's training that gave them.
        retrain: The command that trains the network so.
    """
    from nas_attn.answer.modelling import searched_as_target

    if searched_as_target(recipe) and epochs == recipe.target_training.rungs[-1]:
        return "trained as the target says, in the search"
    if recipe.needs_program:
        return "to train it as the target says, use your own code: nas-attn retrain cannot call it"
    return f"to train it as the target says first: {retrain}"


def _found(facts: dict[str, Any]) -> Iterator[str]:
    """The results of the checks, one line each."""
    from nas_attn.export.card import against_torch
    from nas_attn.recipe import units

    if facts["here"] is not None:
        here = facts["here"]
        images = f"{here['images']} validation images"
        if "right" in here:
            before = facts["training"]["right"]
            scored = f"{here['right']} of {images} right"
        else:
            metric = here["metric"]
            before = facts["training"]["metrics"].get(metric)
            if before is not None:
                before = units.value(metric, before)
            scored = f"{units.title(metric)} {units.value(metric, here['value'])} on {images}"
        then = "" if before is None else f"; {before} when it was trained"
        yield f"in float32: {scored}{then}"
    if facts["check"] is not None:
        yield f"against torch: {against_torch(facts)}"


def validate_export(
    context: Context,
    file: Annotated[
        str, Argument(help="A file written by nas-attn export, with its card next to it.")
    ],
    root: Annotated[
        str | None, Option(metavar="PATH", help="Folder of the data, if it has moved.")
    ] = None,
) -> None:
    """Run an exported file on the validation images, and compare the score with its card.

    Examples:
      nas-attn validate-export digits.onnx
      nas-attn validate-export digits.onnx --root /data/digits

    What it compares: docs/how-to/test-and-export.md
    """
    check_output()

    from nas_attn.cli.terminal import show_prose
    from nas_attn.export.checking import verify
    from nas_attn.recipe import units

    path = user_path(file, what="FILE", error=UserError)
    check_export(path, trust=context.trust)
    result = verify(path, root=root)
    shown = units.value(result.metric, result.value)
    images = f"{result.images} validation images"
    if result.right is None:
        scored = f"{units.title(result.metric)} {shown} on {images}"
        expected = units.value(result.metric, result.expected)
    else:
        scored = f"{result.right} of {images} right ({shown})"
        expected = f"{result.expected:g}"
    if context.as_json:
        print_json({**asdict(result), result.metric: result.value, "agrees": result.agrees})
    else:
        since = ", rewritten since its export" if result.rewritten else ""
        line = f"{result.file} ({result.format}{since}): {scored}"
        show_prose(console(), f"{line}; {expected} {result.expected_where}")
    if not result.agrees:
        raise OperationError(
            f"'{result.file}' scores differently from its card: {scored} instead of {expected}"
        )
