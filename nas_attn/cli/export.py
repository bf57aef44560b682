"""`nas-attn export`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas_attn.analysis.criteria import Criteria
from nas_attn.cli.choosing import choosing
from nas_attn.cli.common import AsJson, Device, Storage, StudyName, Threads, echo, print_json, study_named
from nas_attn.errors import UserError
from nas_attn.paths import DEFAULT_URL, output_path

if TYPE_CHECKING:
    from nas_attn.analysis.snapshot import CandidateView
    from nas_attn.study.opening import OpenStudy


@choosing
def export(
    criteria: Criteria,
    study: StudyName = None,
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            help="weights, torch (torch.export), onnx, python (one readable file), or one of the trainer's own.",
        ),
    ] = "weights",
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="File; default: STUDY.pt, .pt2, .onnx or .py.")
    ] = None,
    normalize: Annotated[
        bool, typer.Option("--normalize", help="onnx, torch: the file takes uint8 images and normalises them itself.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Score it on the validation images; compare ONNX with torch.")
    ] = True,
    as_searched: Annotated[
        bool,
        typer.Option(
            "--as-searched", help="The weights of the search's brief training, even if the network was retrained."
        ),
    ] = False,
    again: Annotated[
        bool,
        typer.Option("--again", help="Like --as-searched; if these weights are lost, train again as the search did."),
    ] = False,
    threads: Threads = None,
    device: Device = "auto",
    storage: Storage = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Writes a trained candidate and its card: retrained as the target says where it was, else as the search left it."""
    from nas_attn import tasks
    from nas_attn.export.formats import FORMATS, find_format
    from nas_attn.study.exporting import export_candidate
    from nas_attn.study.reading import snapshot
    from nas_attn.study.trained import chosen

    opened = study_named(study, storage)
    kind = find_format(format_, tasks.of(opened.recipe))
    now = snapshot(opened.store)
    view = chosen(opened, now, criteria).view
    name = output or f"{opened.store.name}{kind.suffix}"
    path = output_path(name, what="--output", error=UserError, replaces=kind.begins)
    if format_ == "python":
        output_path(
            path.with_suffix(FORMATS["weights"].suffix), what="beside --output", error=UserError, replaces=(b"pk",)
        )
    if again:
        _train_again(opened, view, threads, device)
    done = export_candidate(
        opened,
        now,
        view,
        path,
        format_,
        as_searched=as_searched or again,
        normalize=normalize,
        check=check,
    )
    facts = done.facts
    if as_json:
        told = {name: facts[name] for name in ("study", "placement", "init", "key")}
        print_json(
            {**told, "file": str(done.path), "format": format_, "trained": facts["training"]["what"], "card": facts}
        )
        return
    echo(f"{done.path}: {view.placement} ({view.label}; {facts['training']['what']})")
    for line in _found(facts):
        echo(f"  {line}")
    echo(f"  described in: {done.cards[0]}")
    if done.run is None:
        echo(f"to train it as the target says first: nas-attn retrain {opened.store.name}", err=True)


def _found(facts: dict[str, Any]) -> Iterator[str]:
    """What the checks have shown, a line each."""
    from nas_attn.analysis import units
    from nas_attn.export.card import against_torch

    here, compared, training = facts["here"], facts["check"], facts["training"]
    if here is not None:
        if "right" in here:
            before = "" if training["right"] is None else f"; {training['right']} when it was trained"
            yield f"in float32: {here['right']} of {here['images']} validation images right{before}"
        else:
            before, metric = training["metrics"].get(here["metric"]), here["metric"]
            said = "" if before is None else f"; {units.value(metric, before)} when it was trained"
            yield f"in float32: {units.title(metric)} {units.value(metric, here['value'])} on {here['images']} validation images{said}"
    if compared is not None:
        yield f"against torch: {against_torch(facts)}"


def _train_again(opened: OpenStudy, view: CandidateView, threads: int | None, device: str) -> None:
    """Trains a candidate for its weights, and says what it scores now.

    Raises:
        typer.Exit: with 130 where it was interrupted.
    """
    import threading

    from nas_attn.analysis import units
    from nas_attn.cli.running import INTERRUPTED
    from nas_attn.study.searching import Options, check_here
    from nas_attn.study.stopping import interruptible
    from nas_attn.study.trained import train_again

    def say(line: str) -> None:
        echo(line, err=True)

    check_here(opened.recipe, device=device)
    stop = threading.Event()
    say(f"training {view.label} again: {view.placement}")
    with interruptible(stop, say):
        score = train_again(opened, view, Options(device=device, threads=threads, say=say, stop=stop))
    if score is None:
        say("stopped; run the same command again to continue")
        raise typer.Exit(INTERRUPTED)
    found = ", ".join(units.named(name, value) for name, value in score.metrics.items())
    say(f"trained again, after {score.epochs} epochs: {found}")
