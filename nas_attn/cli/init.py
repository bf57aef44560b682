"""`nas-attn init`."""

from __future__ import annotations

import json
import re
import shlex
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from nas_attn.cli.commands import Context
from nas_attn.cli.common import TASK, Data, Target, check_typed, echo, print_json
from nas_attn.errors import DataError, RecipeError, did_you_mean, shorten
from nas_attn.recipe import tables
from nas_attn.recipe.target import AUTO, TargetWords, refuse_unpublished, target_table, target_words
from nas_attn.recipe.task import InputProposal
from nas_attn.recipe.tasks import TASKS, Task, find, variants
from nas_attn.system.paths import output_path

if TYPE_CHECKING:
    from nas_attn.recipe.recipe import DataSection, SplitsSection

# source of a backbone -> package that it needs
PACKAGE_OF_SOURCE = {
    "timm": "timm",
    "smp": "segmentation_models_pytorch",
}
TEMPLATE = """\
# A study: which attention module helps, at which stage of the backbone, with which settings?
# Start it with:  nas-attn search {path}
name = {name}
# The search space: plug_and_play, channel, ela, spatial_and_channel, detector, small, or a path.
space = {space}
objectives = [{objectives}]        # {metrics}, {costs}
{task}
[backbone]
name = {backbone}                # {backbones_known}
{options}
[data]
name = {data}                    # {data_known}
root = "data"                      # folder for downloaded files
{folder}
[target]                           # how you will train the network in the end
# scratch, or pretrained with weights = "default" (published ones) or your file
start = "{start}"
{weights}epochs = {epochs}
seeds = 8                          # runs of each network in `nas-attn test`

# The search trains as the target does, unless `start` and `rungs` stand here.
[training]
batch_size = {batch_size}
{lines}{augment}
[latency]
device = "cpu"                     # where the network will run: cpu or cuda
batch_size = 1

[search]
trials = {trials}
sampler = "auto"                   # {samplers}
confirm_seeds = 3                  # more seeds for the networks that matter after the search

[limits]
{limit}

[answer]
# The smallest gain worth its latency; default: a tenth of the best gain or of the noise.
# worth = 0.01
"""
AUGMENT = """\
augment = [{augment}]   # flip is wrong for digits and text; or transforms of torchvision, by name
"""
# With this many training images, a user's data set is treated like a published one
MANY = 2000


@dataclass(frozen=True, kw_only=True)
class Given:
    """The answers that are given as options."""

    name: str | None
    task: str | None
    data: str | None
    validation_fold: str | None
    test_fold: str | None
    backbone: str | None
    space: str | None
    trials: int | None
    max_latency_ratio: float | None


@dataclass(frozen=True)
class RecipeAnswers:
    """What a recipe is written from."""

    path: str
    name: str
    task: str
    space: str
    backbone: str
    data: str
    splits: SplitsSection | None
    """Which folders of the data train, validate and test; None: their names say it."""
    proposed: InputProposal | None
    """How the images become the network's input; None: nobody has seen them."""
    target: TargetWords
    trials: float
    ratio: float | None
    images: float
    """Approximate number of the user's training images; 0 if it is not known."""
    preset: str | None
    """Of the training, which the backbone needs."""


class Dialogue:
    """Asks on a terminal, else takes the defaults."""

    def __init__(self, *, asking: bool, trust: bool) -> None:
        self.asking = asking
        self.trust = trust
        """Whether code of other folders may be run."""
        self.taken: list[str] = []
        """The options whose defaults were taken."""

    def ask(self, given: object, option: str, question: str, default: str) -> str:
        """Returns what was given, or the answer to a question.

        Args:
            given: The value of the option; None: ask.
            option: Its name, without dashes.
            question: What a person is asked.
            default: The answer where nobody is asked.
        """
        if given is not None:
            return str(given)
        if self.asking:
            return str(typer.prompt(question, default=default))
        if default != "none":
            self.taken.append(f"--{option} {default}")
        return default


def init(
    context: Context,
    path: Annotated[
        str, Argument(help="File to write, or a folder of images to write one for.")
    ] = "study.toml",
    name: Annotated[str | None, Option(help="Name of the study; default: the file's.")] = None,
    task: Annotated[
        str | None,
        Option(metavar=TASK, help="What the network is for.", show_default="by the data"),
    ] = None,
    data: Data = None,
    validation_fold: Annotated[
        str | None, Option(help="For a folder of folds (fold_0, …): the one that validates.")
    ] = None,
    test_fold: Annotated[str | None, Option(help="The one that tests; default: none.")] = None,
    backbone: Annotated[str | None, Option(help="Backbone.")] = None,
    target: Target = None,
    space: Annotated[str | None, Option(help="Search space.")] = None,
    trials: Annotated[int | None, Option(min=1, help="Candidates.")] = None,
    max_latency_ratio: Annotated[
        float | None, Option(help="Largest latency, relative to the bare backbone's.")
    ] = None,
    yes: Annotated[
        bool, Option("--yes", "-y", help="Ask no questions: use defaults, or go on.")
    ] = False,
    force: Annotated[bool, Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Write a recipe. It asks a few questions, or takes the answers as options.

    Examples:
      nas-attn init study.toml
      nas-attn init photos --target weights

    What a recipe says: docs/reference/recipe.md
    """
    asked = target_words(target or [])
    if Path(path).is_dir():
        data = data or f"folder:{path}"
        path = f"{Path(path).resolve().name}.toml"
    file = _new_file(path, force=force)
    if task is not None and task not in TASKS:
        raise RecipeError(f"--task '{shorten(task)}': {did_you_mean(task, TASKS)}")
    asking = sys.stdin.isatty() and not (yes or context.as_json)
    dialogue = Dialogue(asking=asking, trust=context.trust)
    given = Given(
        name=name,
        task=task,
        data=data,
        validation_fold=validation_fold,
        test_fold=test_fold,
        backbone=backbone,
        space=space,
        trials=trials,
        max_latency_ratio=max_latency_ratio,
    )
    answers, notes = _answers(path, given, asked, dialogue)
    _write(file, _text(answers))
    if context.as_json:
        print_json({"recipe": path, "defaults": dialogue.taken, "notes": notes})
        return
    if dialogue.taken and not yes:
        echo(f"there is no terminal, so defaults were used: {' '.join(dialogue.taken)}")
    for line in notes:
        echo(line)
    echo(f"wrote {path}\nnext: nas-attn search {shlex.quote(path)} --dry-run")


def _answers(
    path: str, given: Given, target: TargetWords, dialogue: Dialogue
) -> tuple[RecipeAnswers, list[str]]:
    """The answers to all questions, and what there is to say of data and weights. `said`: of the
    target.
    """
    from nas_attn.cli.folds import chosen_splits
    from nas_attn.recipe.reading import study_name
    from nas_attn.recipe.recipe import DataSection

    question = f"Data set ({', '.join(_data_known(given.task or next(iter(TASKS))))})"
    data = dialogue.ask(given.data, "data", question, "digits")
    task, why = (given.task, "") if given.task else proposed_task(data)
    hints = variants(task)[0].hints
    usual = variants(task)[0].usual_backbone
    small = _small(data)
    backbone = dialogue.ask(given.backbone, "backbone", "Backbone", usual(data, small=small))
    check_typed(backbone, data, trust=dialogue.trust)
    splits = chosen_splits(data, given.validation_fold, given.test_fold, asking=dialogue.asking)
    images = count_images(data, splits)
    seen, proposed, preset = _look(task, DataSection(name=data, splits=splits), backbone, images)
    notes = [f"task: {task}, since {why} (--task says another one)"] if why else []
    notes += [f"{data}: {seen}"] if seen else []
    start, note = _start(task, backbone, target, dialogue)
    if note:
        notes.append(note)
    if start == "weights" and proposed is not None and proposed.channels not in (None, 3):
        from nas_attn.backbones.weight_files import said_channels

        notes.append(f"published weights: {said_channels(3, proposed.channels)}")
    usual_space = hints.space or ("small" if small else "plug_and_play")
    space = dialogue.ask(given.space, "space", "Search space", usual_space)
    few = small or 0 < images < MANY
    trials = dialogue.ask(given.trials, "trials", "Candidates", "20" if few else "40")
    count = _number(int, trials, "trials")
    question = "Largest latency relative to the bare backbone's (none: no limit)"
    limit = dialogue.ask(given.max_latency_ratio, "max-latency-ratio", question, "none")
    answers = RecipeAnswers(
        path=path,
        name=given.name or study_name(Path(path).stem),
        task=task,
        space=space,
        backbone=backbone,
        data=data,
        splits=splits,
        proposed=proposed,
        target=TargetWords(start, target.epochs),
        trials=count,
        ratio=None if limit == "none" else _number(float, limit, "the largest latency"),
        images=images,
        preset=preset,
    )
    return answers, notes


def proposed_task(data: str) -> tuple[str, str]:
    """The task that these data are for, and by what that is seen; empty where nobody doubts it."""
    from nas_attn.data import coco, table
    from nas_attn.data.walking import class_names, layout, subfolders
    from nas_attn.recipe.recipe import DataSection

    usual = next(iter(TASKS))
    source, _, place = data.partition(":")
    root = Path(place).expanduser()
    if source == "yolo":
        return "detection", "yolo: has boxes"
    if source == "coco":
        with suppress(DataError):
            coco.find(DataSection(name=data))
            return "detection", "the annotations have boxes"
        with suppress(DataError):
            coco.find_tagged(DataSection(name=data))
            return "multi-label", "the annotations have categories, and not all have boxes"
        return "detection", "coco: is for boxes"
    if source != "folder" or not root.is_dir():
        return usual, ""
    with suppress(DataError):
        train = layout(root).train
        names = (*subfolders(root), *subfolders(train[0]))
        if {"images", "masks"} <= {name.lower() for name in names}:
            return "segmentation", "there are images and masks"
        class_names(train)
        return usual, ""
    kind, why = table.kind_of(root)
    return {"tags": "multi-label", "numbers": "regression"}.get(kind or "", usual), why


def _start(task: str, backbone: str, target: TargetWords, dialogue: Dialogue) -> tuple[str, str]:
    """How the target starts, and what there is to say of it. RecipeError: there are no such
    weights.
    """
    from nas_attn.training.starts import no_weights

    refuse_unpublished(backbone, target.start)
    why = ""
    if target.start in (None, "weights"):
        lacking = no_weights(backbone, side=find(task, backbone).trial_side(backbone))
        why = "" if lacking is None else lacking.sentence
    note = ""
    if backbone.startswith("torchvision:"):
        note = why
    if target.start is not None:
        return target.start, note
    usual = "scratch" if why else "weights"
    question = (
        "How will you train the network in the end: scratch, weights (published ones), or a file"
        " of weights?"
    )
    start = dialogue.ask(None, "target", question, usual)
    return start, f"target: scratch, since {note}" if note else ""


def _look(
    task: str, data_section: DataSection, backbone: str, images: float
) -> tuple[str, InputProposal | None, str | None]:
    """Checks that data and backbone exist; returns a description of the data, how they become the
    network's input, and the preset that the backbone needs.
    """
    data = data_section.name
    from nas_attn import backbones
    from nas_attn.backbones.building import usual_preset
    from nas_attn.recipe.reading import backbone_section
    from nas_attn.training.tasks.data import data_of

    source, colon, place = data.partition(":")
    if colon and source in ("folder", "coco") and not Path(place).expanduser().exists():
        raise DataError(f"'{place}' does not exist (looked in {Path.cwd()})")
    section = backbone_section(backbone)
    facts = find(task, backbone)
    preset = None
    maker = backbone.partition(":")[0]
    if facts.own_trainer and (
        maker not in PACKAGE_OF_SOURCE or find_spec(PACKAGE_OF_SOURCE[maker]) is not None
    ):
        side = facts.trial_side(backbone)
        model = backbones.build(section, input_shape=(3, side, side), classes=10)
        preset = usual_preset(model)
    return *data_of(facts).first_look(data_section, images, backbone), preset


def _small(data: str) -> bool:
    """Whether a data set is of small grey pictures: few epochs, no mirroring."""
    row = tables.find_data_set(data)
    return row is not None and row.small


def _data_known(task: str) -> list[str]:
    """The data sets of a task."""
    names: list[str] = []
    for variant in variants(task):
        names += (*tables.data_sets_with(variant.labels), *variant.hints.more_data)
    return list(dict.fromkeys(names))


def _options(backbone: str) -> str:
    """A comment that names a segmentation network's trained encoder."""
    source, _, name = backbone.partition(":")
    if source == "torchvision" and name.startswith(("lraspp", "deeplabv3", "fcn")):
        weights_line = 'weights_backbone = "DEFAULT"'
    elif source == "smp":
        weights_line = 'encoder_weights = "imagenet"'
    else:
        return ""
    return f"# options = {{ {weights_line} }}   # a trained encoder; downloaded once\n"


def _new_file(path: str, *, force: bool) -> Path:
    """Where the recipe goes. Raises RecipeError: a file is there, and it may not be overwritten."""
    file = output_path(path, what="recipe file", error=RecipeError)
    if file.exists() and not force:
        raise RecipeError(f"'{path}' already exists: give another file, or --force to overwrite it")
    return file


def _text(answers: RecipeAnswers) -> str:
    """The recipe's text: the answers, and defaults for the task and the size of the images."""
    small = _small(answers.data)
    facts = find(answers.task, answers.backbone)
    # few images make few steps per epoch
    few = facts.paced_by_images and 0 < answers.images < MANY
    pace = facts.pace_of_few(answers.images) if few else facts.pace(answers.data, small=small)
    # TOML's escapes are those of JSON
    quoted = partial(json.dumps, ensure_ascii=False)
    start = target_table(answers.target.start or "scratch")
    weights = ""
    if start["weights"]:
        weights = f"weights = {quoted(start['weights'])}\n"
    flip_and_crop = '{ name = "flip" }, { name = "crop", padding = 4 }'
    augment = AUGMENT.format(augment="" if small else flip_and_crop)
    limit = "# max_latency_ratio = 1.3"
    if answers.ratio is not None:
        limit = f"max_latency_ratio = {answers.ratio}"
    task = ""
    if answers.task != next(iter(TASKS)):
        task = f'\n[task]\nname = "{answers.task}"\n'
    preset = ""
    if answers.preset is not None:
        comment = "# AdamW: with SGD, networks with layer norms often learn nothing"
        preset = f'preset = "{answers.preset}"              {comment}\n'
    backbones_known = [variant.hints.backbones for variant in variants(answers.task)]
    text = TEMPLATE.format(
        path=shlex.quote(answers.path),
        name=quoted(answers.name),
        space=quoted(answers.space),
        objectives=f'"{facts.metric}", "latency"',
        metrics=", ".join(facts.metrics),
        costs=", ".join(tables.COSTS),
        task=task,
        backbone=quoted(answers.backbone),
        backbones_known=", ".join(dict.fromkeys(backbones_known)),
        options=_options(answers.backbone),
        data=quoted(answers.data),
        data_known=", ".join(_data_known(answers.task)),
        folder=_splits_line(answers.splits)
        + facts.data_lines(answers.data, answers.backbone, answers.proposed),
        start=start["start"],
        weights=weights,
        epochs=_epochs(
            answers.target, facts, answers.data, pace.tuned() if weights else pace.epochs
        ),
        batch_size=pace.batch_size,
        lines=facts.training_lines or preset,
        augment=augment if facts.own_trainer else "",
        trials=answers.trials,
        samplers=", ".join(tables.SAMPLERS),
        limit=limit,
    )
    # the answers' lengths differ
    return re.sub(r"(?m)^(\S.*?) {2,}# ", lambda line: f"{line[1]:<34} # ", text)


def _splits_line(splits: SplitsSection | None) -> str:
    from nas_attn.data.walking import as_toml

    return "" if splits is None else f"splits = {as_toml(splits)}\n"


def _epochs(target: TargetWords, task: Task, data: str, usual: int) -> str:
    """How long the target trains, in TOML: as the answers say; for a folder of images as long as
    the bare backbone needs, since nobody knows that beforehand.
    """
    if target.epochs is None and task.own_trainer and data.startswith("folder:"):
        return (
            f'"{AUTO}"   # as long as the bare backbone needs, which the study finds; or a number'
        )
    return str(target.epochs or usual)


def count_images(data: str, splits: SplitsSection | None = None) -> float:
    """Approximate number of the user's training images; 0 if it is not known."""
    from nas_attn.data.folder import count_trained
    from nas_attn.recipe.recipe import DataSection

    source, _, folder = data.partition(":")
    with suppress(DataError, ImportError):
        from nas_attn.data import coco, yolo_files

        if source == "coco":
            return coco.count_trained(DataSection(name=data))
        if folder.endswith((".yaml", ".yml")):
            return yolo_files.count_trained(DataSection(name=data))
    if folder:
        return count_trained(folder, splits)
    return 0


def _number(kind: type[int] | type[float], text: str, what: str) -> float:
    try:
        return kind(text)
    except ValueError:
        raise RecipeError(f"{what} must be a number, not '{shorten(text)}'") from None


def _write(target: Path, text: str) -> None:
    """Writes the recipe if it is valid, else nothing."""
    from nas_attn.recipe.reading import read_toml, recipe_from

    recipe_from(read_toml(text, str(target)), where=str(target))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8")
    except OSError as error:
        raise RecipeError(f"'{target}' cannot be written: {error}") from None
