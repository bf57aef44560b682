"""`nas-attn init`."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from nas_attn.cli import completing
from nas_attn.errors import RecipeError
from nas_attn.paths import output_path

FOLDER = """\
size = 64                          # side in pixels: the shorter side is scaled to it, the middle square kept; ImageNet's: 224
broken_images = "refuse"           # skip: leave out what cannot be read, and say how many
# validation = 0.2                 # share of the training images to score on; without it: the folder's own val/, else a fifth
# groups = { pattern = "^([^_]+)_" }  # images of one patient or scene stay on one side of each split; or file = "groups.csv"
"""
SMALL = ("digits", "cued-digits", "digits-8x8", "mnist", "fashion-mnist")
"""Data sets of small grey pictures: few epochs, no mirroring."""
TEMPLATE = """\
# A study: which attention module, at which stage of the backbone, with which settings.
# Start it with:  nas-attn search {path}
name = {name}
space = {space}                  # what may go where: plug_and_play, channel, ela, spatial_and_channel, detector, small, or a path
objectives = [{objectives}]        # accuracy, balanced_accuracy, macro_f1, loss, latency, params, macs, memory

[backbone]
name = {backbone}                # resnet8|14|20|32|56, torchvision:NAME, timm:NAME, package.module:function

[data]
name = {data}                    # cued-digits, digits, fashion-mnist, mnist, cifar10, cifar100, folder:PATH
root = "data"                      # where downloaded files lie, or are put
{folder}
[training]
start = "backbone"                 # backbone: train the bare network once, candidates go on from it; scratch; pretrained
# weights = "default"              # with start = "pretrained": the published weights; or a file of yours, "mine.pt"
backbone_epochs = {backbone_epochs}
backbones = {backbones}                      # so many are trained: what helps one need not help the next
rungs = [{rungs}]                  # epochs at which a candidate is scored, and the weak ones stop
batch_size = {batch_size}

[training.augment]
flip = {flip}                      # mirror images left-right; wrong for digits and text
crop_padding = {crop_padding}      # pad by so many pixels, crop back at a random place; 0: off

[target]                           # how the network will be trained in the end: `validate` tests that, `retrain` does it
epochs = {target_epochs}                        # from the same start; learning_rate, augment, … as above unless they stand here
seeds = 8                          # fresh runs of each network in a validation

[latency]
device = {device}                # what the network will run on: cpu or cuda
batch_size = 1

[search]
trials = {trials}
sampler = "auto"                   # auto, placement, tpe, nsga2, gp, random
confirm_seeds = 2                  # further seeds for the front and the baselines after the search

[limits]
{limit}
"""
MANY = 3000
"""Images of a folder from which on it is trained like a published data set."""
STEPS = 600
"""Training steps of a backbone that a smaller folder gets, or 100 epochs."""
TRAINED = 0.64
"""Of a folder's images what is left to train on: a fifth is for the test, a fifth of the rest for validation."""


def init(
    path: Annotated[str, typer.Argument(help="File to write.")] = "study.toml",
    name: Annotated[str | None, typer.Option("--name", help="Name of the study; default: the file's.")] = None,
    data: Annotated[str | None, typer.Option("--data", help="Data set, or folder:PATH.")] = None,
    backbone: Annotated[str | None, typer.Option("--backbone", help="Backbone.")] = None,
    space: Annotated[
        str | None, typer.Option("--space", help="Search space.", autocompletion=completing.spaces)
    ] = None,
    trials: Annotated[int | None, typer.Option("--trials", min=1, help="Candidates.")] = None,
    max_latency_ratio: Annotated[
        float | None, typer.Option("--max-latency-ratio", help="Largest latency, in times the bare backbone's.")
    ] = None,
    device: Annotated[str | None, typer.Option("--latency-device", help="Where latency counts: cpu or cuda.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing, take the defaults.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Writes a commented recipe and checks it."""
    target = output_path(path, what="recipe file", error=RecipeError)
    if target.exists() and not force:
        raise RecipeError(f"'{path}' exists: give another file, or --force to overwrite it")

    asking, taken = not yes and sys.stdin.isatty(), []

    def ask(given: str | None, option: str, question: str, default: str) -> str:
        if given is not None:
            return given
        if asking:
            return str(typer.prompt(question, default=default))
        if default != "none":
            taken.append(f"--{option} {default}")
        return default

    data = ask(data, "data", "Data set (digits, fashion-mnist, cifar10, folder:PATH, …)", "digits")
    small = data in SMALL
    backbone = ask(
        backbone,
        "backbone",
        "Backbone",
        "resnet8" if small else "resnet20" if "cifar" in data else "torchvision:resnet18",
    )
    space = ask(space, "space", "Search space", "small" if small else "plug_and_play")
    count = _number(
        int, ask(None if trials is None else str(trials), "trials", "Trials", "20" if small else "40"), "trials"
    )
    device = ask(device, "latency-device", "Where does latency count (cpu, cuda)", "cpu")
    limit = ask(
        None if max_latency_ratio is None else str(max_latency_ratio),
        "max-latency-ratio",
        "Largest latency in times the bare backbone's (none: no limit)",
        "none",
    )
    ratio = None if limit == "none" else _number(float, limit, "the largest latency")
    text = _text(path, name or target.stem, space, backbone, data, device, count, ratio)
    _write(target, text)
    if taken and not yes:
        typer.echo(f"there is no terminal to ask on, so the defaults were taken: {' '.join(taken)}")
    typer.echo(f"wrote {path}\nnext: nas-attn search {path} --dry-run")


@dataclass(frozen=True, slots=True)
class _Pace:
    """How long to train."""

    batch_size: int
    epochs: int
    rungs: tuple[int, int]


def _pace(data: str, small: bool) -> _Pace:
    """For a folder by how many images it has: a hundred make too few steps an epoch to learn anything in three epochs."""
    if not data.startswith("folder:"):
        return _Pace(128, 8 if small else 20, (1, 2) if small else (1, 3))
    from nas_attn.data.folder import count_images

    images = count_images(data.removeprefix("folder:"))
    if not images or images >= MANY:
        return _Pace(64, 20, (1, 3))
    batch_size = 16
    epochs = min(100, max(20, round(STEPS * batch_size / (TRAINED * images))))
    return _Pace(batch_size, epochs, (max(1, epochs // 20), max(3, epochs // 7)))


def _text(
    path: str, name: str, space: str, backbone: str, data: str, device: str, trials: int | float, ratio: float | None
) -> str:
    """The recipe: what was answered, and for the rest what suits the size of the images."""
    small, folder = data in SMALL, data.startswith("folder:")
    pace = _pace(data, small)
    text = TEMPLATE.format(
        path=path,
        name=_quoted(name),
        space=_quoted(space),
        objectives='"accuracy", "latency"',
        backbone=_quoted(backbone),
        data=_quoted(data),
        folder=FOLDER if folder else "",
        backbone_epochs=pace.epochs,
        backbones=2 if small else 3,
        rungs=", ".join(map(str, pace.rungs)),
        target_epochs=pace.epochs,
        batch_size=pace.batch_size,
        flip="false" if small else "true",
        crop_padding=0 if small else 4,
        device=_quoted(device),
        trials=trials,
        limit="# max_latency_ratio = 1.3" if ratio is None else f"max_latency_ratio = {ratio}",
    )
    return re.sub(r"(?m)^(\S.*?) {2,}# ", lambda line: f"{line[1]:<34} # ", text)  # the answers' lengths differ


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
    from nas_attn.recipe_reading import recipe_from
    from nas_attn.toml_text import read_toml

    recipe_from(read_toml(text, str(target)), where=str(target))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8")
    except OSError as error:
        raise RecipeError(f"'{target}' cannot be written: {error}") from None
