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
from nas_attn.errors import RecipeError, did_you_mean, shorten
from nas_attn.paths import output_path
from nas_attn.tasks import TASKS

FOLDER = """\
size = 64                          # side in pixels: the shorter side is scaled to it, the middle square kept; ImageNet's: 224
broken_images = "refuse"           # skip: leave out what cannot be read, and say how many
# validation = 0.2                 # share of the training images to score on; without it: the folder's own val/, else a fifth
# groups = { pattern = "^([^_]+)_" }  # images of one patient or scene stay on one side of each split; or file = "groups.csv"
"""
SMALL = ("digits", "cued-digits", "digits-8x8", "mnist", "fashion-mnist")
"""Data sets of small grey pictures: few epochs, no mirroring."""
DETECTORS = """\
learning_rate = 0.01               # of candidates a fifth of it, or finetune_learning_rate
clip_norm = 5.0                    # the first steps of a detector are large
"""
COCO = """\
size = {size}                         # side of what the detector is fed; the longer side of an image is scaled to it
# validation = 0.2                 # share of the training images to score on, where no annotations of others are found
# coco = {{ train = "annotations/train.json", images = "images", validation = "annotations/val.json" }}  # where not found
"""
TEMPLATE = """\
# A study: which attention module, at which stage of the backbone, with which settings.
# Start it with:  nas-attn search {path}
name = {name}
space = {space}                  # what may go where: plug_and_play, channel, ela, spatial_and_channel, detector, small, or a path
objectives = [{objectives}]        # {metrics}, latency, params, macs, memory
{task}
[backbone]
name = {backbone}                # {backbones_known}
{options}
[data]
name = {data}                    # {data_known}
root = "data"                      # where downloaded files lie, or are put
{folder}
[training]
start = "{start}"                  # {starts}
{start_lines}rungs = [{rungs}]                  # epochs at which a candidate is scored, and the weak ones stop
batch_size = {batch_size}
{augment}
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
AUGMENT = """
[training.augment]
flip = {flip}                      # mirror images left-right; wrong for digits and text
crop_padding = {crop_padding}      # pad by so many pixels, crop back at a random place; 0: off
"""
OWN_BACKBONES = """\
# weights = "default"              # with start = "pretrained": the published weights; or a file of yours, "mine.pt"
backbone_epochs = {backbone_epochs}
backbones = {backbones}                      # so many are trained: what helps one need not help the next
"""
BACKBONES_KNOWN = {
    "classification": "resnet8|14|20|32|56, torchvision:NAME, timm:NAME, package.module:function",
    "detection": "ultralytics:NAME.yaml or NAME.pt, torchvision:NAME (fasterrcnn_…, retinanet_…, fcos_…, ssd…), "
    "package.module:function",
    "segmentation": "smp:ARCHITECTURE/ENCODER, torchvision:NAME (lraspp_…, deeplabv3_…, fcn_…), package.module:function",
}
USUAL = {"segmentation": "torchvision:lraspp_mobilenet_v3_large", "detection": "ultralytics:yolo11n.yaml"}
"""Backbones, but for classification."""
DATA_ASKED = {
    "classification": "digits, fashion-mnist, cifar10, folder:PATH, …",
    "segmentation": "digits, folder:PATH",
    "detection": "digits, yolo:PATH.yaml, coco:FOLDER",
}
DATA_KNOWN = {
    "classification": ("cued-digits", "digits", "fashion-mnist", "mnist", "cifar10", "cifar100", "folder:PATH"),
    "segmentation": ("digits", "folder:PATH with images/, masks/ and classes.txt"),
    "detection": ("digits", "yolo:PATH.yaml (for ultralytics)", "coco:FOLDER (for others)"),
}
MANY = 3000
"""Images of a folder from which on it is trained like a published data set."""
STEPS = 600
"""Training steps of a backbone that a smaller folder gets, or 100 epochs."""
TRAINED = 0.64
"""Of a folder's images what is left to train on: a fifth is for the test, a fifth of the rest for validation."""


def init(
    path: Annotated[str, typer.Argument(help="File to write.")] = "study.toml",
    name: Annotated[str | None, typer.Option("--name", help="Name of the study; default: the file's.")] = None,
    task: Annotated[str, typer.Option("--task", help="classification, segmentation or detection.")] = "classification",
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

    if task not in TASKS:
        raise RecipeError(f"--task '{shorten(task)}': {did_you_mean(task, TASKS)}")
    asking, taken = not yes and sys.stdin.isatty(), []

    def ask(given: str | None, option: str, question: str, default: str) -> str:
        if given is not None:
            return given
        if asking:
            return str(typer.prompt(question, default=default))
        if default != "none":
            taken.append(f"--{option} {default}")
        return default

    data = ask(data, "data", f"Data set ({DATA_ASKED[task]})", "digits")
    small = data in SMALL
    usual = "resnet8" if small else "resnet20" if "cifar" in data else "torchvision:resnet18"
    backbone = ask(backbone, "backbone", "Backbone", USUAL.get(task, usual))
    usual = "detector" if task == "detection" else "small" if small else "plug_and_play"
    space = ask(space, "space", "Search space", usual)
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
    text = _text(path, name or target.stem, task, space, backbone, data, device, count, ratio)
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


def _pace(task: str, data: str, small: bool) -> _Pace:
    """For a folder by how many images it has: a hundred make too few steps an epoch to learn anything in three epochs."""
    from nas_attn.data.folder import count_images

    kind, _, folder = data.partition(":")
    images = count_images(folder) if kind in ("folder", "coco") and task != "segmentation" else 0
    if 0 < images < MANY:
        epochs = min(100, max(20, round(STEPS * 16 / (TRAINED * images))))
        return _Pace(16, epochs, (max(1, epochs // 20), max(3, epochs // 7)))
    if task == "detection":
        return _Pace(16, 20, (3, 10))
    if task == "segmentation":
        return _Pace(16, 8 if small else 20, (1, 2) if small else (1, 3))
    if kind == "folder":
        return _Pace(64, 20, (1, 3))
    return _Pace(128, 8 if small else 20, (1, 2) if small else (1, 3))


def _options(backbone: str) -> str:
    """Where a segmentation network takes its trained encoder from."""
    source, _, name = backbone.partition(":")
    if source == "torchvision" and name.startswith(("lraspp", "deeplabv3", "fcn")):
        said = 'weights_backbone = "DEFAULT"'
    elif source == "smp":
        said = 'encoder_weights = "imagenet"'
    else:
        return ""
    return f"# options = {{ {said} }}   # a trained encoder; from the network, once\n"


def _by_ultralytics(task: str, backbone: str) -> bool:
    from nas_attn.recipe import ULTRALYTICS  # here: it takes a while, and asking for help comes past this file

    return task == "detection" and backbone.startswith(ULTRALYTICS)


def _training(task: str, backbone: str, *, small: bool, epochs: int) -> dict[str, str]:
    """The lines that differ by what is trained, and by whom."""
    if not _by_ultralytics(task, backbone):
        own = OWN_BACKBONES.format(backbone_epochs=epochs, backbones=2 if small else 3)
        own += DETECTORS if task == "detection" else ""
        augment = AUGMENT.format(flip="false" if small else "true", crop_padding=0 if small else 4)
        starts = "backbone: train the bare network once, candidates go on from it; scratch; pretrained"
        return {"start": "backbone", "starts": starts, "start_lines": own, "augment": augment}
    trained = backbone.endswith(".pt")
    lines = 'weights = "default"                # those of the .pt\n' if trained else ""
    return {
        "start": "pretrained" if trained else "scratch",
        "starts": 'scratch; pretrained with weights = "default": those of a .pt',
        "start_lines": f"{lines}learning_rate = 0.01               # a fifth of it from a .pt, or finetune_learning_rate\n",
        "augment": "",
    }


def _folder(data: str, task: str, backbone: str) -> str:
    """Lines about the images' size, and how many are made."""
    from nas_attn.backbones.detectors import usual_side

    if data.startswith("coco:"):
        return COCO.format(size=usual_side(backbone))
    if task == "detection":
        return _boxes(data, backbone)
    if data.startswith("folder:"):
        return FOLDER.replace("size = 64 ", "size = 128 ") if task == "segmentation" else FOLDER
    return "options = { size = 32, train = 2000, validation = 1000, test = 1000 }\n" if task == "segmentation" else ""


def _boxes(data: str, backbone: str) -> str:
    """The same of a detector that is not fed COCO's annotations. A made digit is 8 pixels wide; torchvision's smallest anchors are 32."""
    from nas_attn.backbones.detectors import FIXED_SIDES

    by_ultralytics = _by_ultralytics("detection", backbone)
    said = "side of what the detector is fed" + (", a multiple of 32" if by_ultralytics else "")
    if data != "digits":
        return f"size = 640                         # {said}\n"
    made = 64 if by_ultralytics else 32
    side = made if by_ultralytics else FIXED_SIDES.get(backbone.removeprefix("torchvision:"), 4 * made)
    return f"options = {{ size = {made}, train = 1000, validation = 500, test = 500 }}\nsize = {side}                         # {said}\n"


def _text(
    path: str,
    name: str,
    task: str,
    space: str,
    backbone: str,
    data: str,
    device: str,
    trials: int | float,
    ratio: float | None,
) -> str:
    """The recipe: what was answered, and for the rest what suits the task and the size of the images."""
    small, facts = data in SMALL, TASKS[task]
    pace = _pace(task, data, small)
    text = TEMPLATE.format(
        path=path,
        name=_quoted(name),
        space=_quoted(space),
        objectives=f'"{facts.metric}", "latency"',
        metrics=", ".join((*facts.shares, *facts.losses)),
        task="" if task == "classification" else f'\n[task]\nname = "{task}"\n',
        backbone=_quoted(backbone),
        backbones_known=BACKBONES_KNOWN[task],
        options=_options(backbone),
        data=_quoted(data),
        data_known=", ".join(DATA_KNOWN[task]),
        folder=_folder(data, task, backbone),
        **_training(task, backbone, small=small, epochs=pace.epochs),
        rungs=", ".join(map(str, pace.rungs)),
        target_epochs=max(30, pace.epochs) if task == "detection" else pace.epochs,
        batch_size=pace.batch_size,
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
