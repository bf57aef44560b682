"""`nas-attn init`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from nas_attn.errors import RecipeError

TEMPLATE = """\
# A study: which attention module, at which stage of the backbone, with which settings.
# Start it with:  nas-attn search {path}
name = {name}
space = {space}                  # what may go where: plug_and_play, channel, ela, spatial_and_channel, small, or a path
objectives = [{objectives}]        # accuracy, loss, latency, params, macs, memory

[backbone]
name = {backbone}                # resnet8|14|20|32|56, torchvision:NAME, timm:NAME, package.module:function

[data]
name = {data}                    # digits, fashion-mnist, mnist, cifar10, cifar100, folder:PATH
root = "data"                      # where downloaded files lie, or are put

[training]
start = "{start}"                  # backbone: train the bare network once, candidates go on from it; scratch; pretrained
backbone_epochs = {backbone_epochs}
rungs = [{rungs}]                  # epochs at which a candidate is scored, and the weak ones stop
batch_size = {batch_size}

[training.augment]
flip = {flip}                      # mirror images left-right; wrong for digits and text
crop_padding = {crop_padding}      # pad by so many pixels, crop back at a random place; 0: off

[latency]
device = {device}                # what the network will run on: cpu or cuda
batch_size = 1

[search]
trials = {trials}
sampler = "auto"                   # auto, tpe, nsga2, random
confirm_seeds = 2                  # further seeds for the front and the baselines after the search

[limits]
{limit}
"""


def init(
    path: Annotated[str, typer.Argument(help="File to write.")] = "study.toml",
    name: Annotated[str | None, typer.Option("--name", help="Name of the study; default: the file's.")] = None,
    data: Annotated[str | None, typer.Option("--data", help="Data set, or folder:PATH.")] = None,
    backbone: Annotated[str | None, typer.Option("--backbone", help="Backbone.")] = None,
    space: Annotated[str | None, typer.Option("--space", help="Search space.")] = None,
    trials: Annotated[int | None, typer.Option("--trials", min=1, help="Candidates.")] = None,
    max_latency_ratio: Annotated[
        float | None, typer.Option("--max-latency-ratio", help="Largest latency, in times the bare backbone's.")
    ] = None,
    device: Annotated[str | None, typer.Option("--latency-device", help="Where latency counts: cpu or cuda.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing, take the defaults.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Writes a commented recipe and checks it."""
    target = Path(path)
    if target.exists() and not force:
        raise RecipeError(f"'{path}' exists: give another file, or --force to overwrite it")

    def ask(given: str | None, question: str, default: str) -> str:
        if given is not None or yes:
            return given or default
        return str(typer.prompt(question, default=default))

    data = ask(data, "Data set (digits, fashion-mnist, cifar10, folder:PATH, …)", "digits")
    small = data in ("digits", "digits-8x8", "mnist", "fashion-mnist")
    backbone = ask(
        backbone, "Backbone", "resnet8" if small else "resnet20" if "cifar" in data else "torchvision:resnet18"
    )
    space = ask(space, "Search space", "small" if small else "plug_and_play")
    count = _number(int, ask(None if trials is None else str(trials), "Trials", "20" if small else "40"), "trials")
    device = ask(device, "Where does latency count (cpu, cuda)", "cpu")
    limit = ask(
        None if max_latency_ratio is None else str(max_latency_ratio),
        "Largest latency in times the bare backbone's (none: no limit)",
        "none",
    )
    ratio = (
        f"max_latency_ratio = {_number(float, limit, 'the largest latency')}"
        if limit != "none"
        else "# max_latency_ratio = 1.3"
    )
    images = "folder" in data
    text = TEMPLATE.format(
        path=path,
        name=_quoted(name or target.stem),
        space=_quoted(space),
        objectives='"accuracy", "latency"',
        backbone=_quoted(backbone),
        data=_quoted(data),
        start="backbone",
        backbone_epochs=8 if small else 20,
        rungs="1, 2" if small else "1, 3",
        batch_size=64 if images else 128,
        flip="false" if small else "true",
        crop_padding=0 if small else 4,
        device=_quoted(device),
        trials=count,
        limit=ratio,
    )
    _write(target, text)
    typer.echo(f"wrote {path}\nnext: nas-attn search {path} --dry-run")


def _quoted(text: str) -> str:
    """A TOML string; its escapes are those of JSON."""
    return json.dumps(text, ensure_ascii=False)


def _number(kind: type[int] | type[float], text: str, what: str) -> int | float:
    try:
        return kind(text)
    except ValueError:
        raise RecipeError(f"'{text}' is no number, which {what} must be") from None


def _write(target: Path, text: str) -> None:
    """Writes the recipe if it is a right one; leaves nothing behind if not."""
    import tomllib

    from nas_attn.recipe import recipe_from

    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"the answers make no valid recipe: {error}") from None
    recipe_from(table, where=str(target))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8")
    except OSError as error:
        raise RecipeError(f"'{target}' cannot be written: {error}") from None
