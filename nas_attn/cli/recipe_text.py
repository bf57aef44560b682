"""The text of a recipe that `nas-attn init` writes."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from nas_attn.recipe import tables
from nas_attn.recipe.target import AUTO, TargetWords, target_table
from nas_attn.recipe.task import InputProposal
from nas_attn.recipe.tasks import USUAL_TASK, Pace, Task, find, usual_pace, variants

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
{training}
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
augment = [{augment}]   # flip is wrong for {wrong}; or transforms of torchvision, by name
"""
FINE_TUNING = """\
# From trained weights: as preset = "fine-tune" says, unless a key stands here. An optimizer or a
# learning_rate ends the preset; finetune_learning_rate, batch_size, augment change a part of it.
{augment}# for {wrong}, which must not be mirrored
"""
# Labels that a table has of images
OF_A_TABLE = ("tags", "numbers")


class ProposedTask(NamedTuple):
    """What data are for, as far as it can be seen."""

    task: str
    # by what that is seen; empty where nobody doubts it
    why: str = ""
    # of a table, to learn; none: all
    columns: Sequence[str] = ()
    # that other columns may be meant; empty: no
    choice: str = ""
    # the table's column that says which images belong together; empty: none
    group: str = ""
    # its cells that say that nobody knows
    unknown: Sequence[str] = ()
    # where an image's mask lies, as a pattern; None: where it usually does
    masks: str | None = None


@dataclass(frozen=True)
class RecipeAnswers:
    """What a recipe is written from."""

    path: str
    name: str
    purpose: ProposedTask
    """What the data are for."""
    space: str
    backbone: str
    data: str
    proposed: InputProposal | None
    """How the images become the network's input; None: nobody has seen them."""
    target: TargetWords
    trials: int
    ratio: float | None
    images: float
    """Approximate number of the user's training images; 0 if it is not known."""
    preset: str | None
    """Of the training, which the backbone needs."""


def is_small(data: str) -> bool:
    """Whether a data set is of small grey pictures: few epochs, no mirroring."""
    row = tables.find_data_set(data)
    return row is not None and row.small


def data_known(task: str) -> list[str]:
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


def recipe_text(answers: RecipeAnswers) -> str:
    """The recipe's text: the answers, and defaults for the task and the size of the images."""
    task_name = answers.purpose.task
    facts = find(task_name, answers.backbone)
    pace = usual_pace(facts, answers.data, answers.images)
    # TOML's escapes are those of JSON
    quoted = partial(json.dumps, ensure_ascii=False)
    start = target_table(answers.target.start or "scratch")
    weights = ""
    if start["weights"]:
        weights = f"weights = {quoted(start['weights'])}\n"
    limit = "# max_latency_ratio = 1.3"
    if answers.ratio is not None:
        limit = f"max_latency_ratio = {answers.ratio}"
    task = ""
    if task_name != USUAL_TASK:
        task = f'\n[task]\nname = "{task_name}"\n'
    backbones_known = [variant.hints.backbones for variant in variants(task_name)]
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
        data_known=", ".join(data_known(task_name)),
        folder=facts.data_lines(answers.data, answers.backbone, answers.proposed)
        + _table_lines(answers, facts),
        start=start["start"],
        weights=weights,
        epochs=_epochs(answers.target, facts, answers.data, pace.tuned if weights else pace.epochs),
        training=_training_lines(answers, facts, pace, tuned=bool(weights)),
        trials=answers.trials,
        samplers=", ".join(tables.SAMPLERS),
        limit=limit,
    )
    # the answers' lengths differ
    return re.sub(r"(?m)^(\S.*?) {2,}# ", lambda line: f"{line[1]:<34} # ", text)


def _training_lines(answers: RecipeAnswers, task: Task, pace: Pace, *, tuned: bool) -> str:
    """Lines of `[training]`. `tuned`: from trained weights."""
    has_numbers = task.labels == "numbers"
    wrong = "positions and angles" if has_numbers else "digits and text"
    if tuned and task.own_trainer and not task.training_lines:
        none = "augment = []                       "
        return FINE_TUNING.format(augment=none if has_numbers else f"# {none}", wrong=wrong)
    lines = task.training_lines
    if answers.preset is not None and not lines:
        comment = "# AdamW: with SGD, networks with layer norms often learn nothing"
        lines = f'preset = "{answers.preset}"              {comment}\n'
    if task.own_trainer:
        flip_and_crop = '{ name = "flip" }, { name = "crop", padding = 4 }'
        kept = is_small(answers.data) or has_numbers
        lines += AUGMENT.format(augment="" if kept else flip_and_crop, wrong=wrong)
    return f"batch_size = {pace.batch_size}\n{lines}"


def _table_lines(answers: RecipeAnswers, task: Task) -> str:
    """Lines of `[data]` about the table of a folder's images."""
    if not answers.data.startswith("folder:"):
        return ""
    purpose = answers.purpose
    if purpose.masks is not None:
        return f"masks = {json.dumps(purpose.masks)}\n"
    if task.labels not in OF_A_TABLE and not purpose.columns:
        return ""
    comment = "" if purpose.columns else "# "
    groups = ""
    if purpose.group:
        column = json.dumps(purpose.group, ensure_ascii=False)
        groups = (
            "# Images with the same value stay on one side of a split.\n"
            f"groups = {{ column = {column} }}\n"
        )
    unknown = ""
    if purpose.unknown:
        cells = json.dumps(purpose.unknown)
        unknown = f"# Cells that say that nobody knows: left out.\nunknown = {cells}\n"
    columns = json.dumps(purpose.columns or ("one", "other"), ensure_ascii=False)
    return (
        '# The columns to learn of the images\' table; file = "labels.csv" names another table.\n'
        f"{comment}table = {{ columns = {columns} }}\n"
        f"{groups}{unknown}"
    )


def _epochs(target: TargetWords, task: Task, data: str, usual: int) -> str:
    """How long the target trains, in TOML: as the answers say; for a folder of images as long as
    the bare backbone needs, since nobody knows that beforehand.
    """
    if target.epochs is None and task.own_trainer and data.startswith("folder:"):
        return (
            f'"{AUTO}"   # as long as the bare backbone needs, which the study finds; or a number'
        )
    return str(target.epochs or usual)
