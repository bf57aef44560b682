"""What `nas-attn advise` does: reads the options, asks for the advice, shows it."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from nas_attn.answer.advice.advice_text import (
    ADVICE_COLUMNS,
    AdvisedCommands,
    advice_as_json,
    after_table,
    before_table,
    rows,
)
from nas_attn.answer.advice.advising import advise
from nas_attn.answer.advice.costing import INIT_OF_FORM
from nas_attn.answer.advice.facts import Advice, Question, SearchPower
from nas_attn.answer.advice.step_timing import training_image_s
from nas_attn.backbones import build
from nas_attn.cli.common import console, echo, parse_shape, print_json, say_lines, table
from nas_attn.cli.init import count_images
from nas_attn.cli.measuring import latency_section
from nas_attn.cli.usual import CLASSES, task_of, usual_shape, usual_start
from nas_attn.errors import RecipeError, did_you_mean, shorten
from nas_attn.model.published_gains import Situation
from nas_attn.recipe import tasks
from nas_attn.recipe.reading import backbone_section
from nas_attn.recipe.recipe import LatencySection
from nas_attn.recipe.target import refuse_unpublished, target_table, target_words
from nas_attn.recipe.tasks import TASKS, USUAL_TASK
from nas_attn.searching.prepare.planning import (
    ASSUMED_IMAGES,
    TRAINED_SHARE,
    search_power,
    usual_pace,
)

MEASURED_AFTER_S = 45.0
"""The end of measuring, from the program's start: a training step takes the rest of a minute."""
BRIEF_SESSION_S = 1.5
"""Longest time of one session, unless it is given."""
OWN_IMAGES = "folder:"
"""What the data are taken for, in the length of a training, too."""
USUAL_FORM = "identity"
FORM_OF_INIT = {init: form for form, init in INIT_OF_FORM.items()}
COMMAND_ROWS = ("begin", "recipe")


@dataclass(frozen=True, kw_only=True)
class AdviceRequest:
    """What the advice is for, and how latency is measured."""

    backbone: str
    task: str | None
    target: Sequence[str]
    init: str
    images: int | None
    data: str | None
    shape: str | None
    settings: Sequence[str]


def show_advice(request: AdviceRequest, *, wide: bool, as_json: bool) -> None:
    """Prints the advice. Raises UserError: an option is wrong, or the network has no site."""
    backbone = request.backbone
    until = time.monotonic() + MEASURED_AFTER_S - _age_s()
    start = target_words(request.target).start or usual_start(backbone)
    refuse_unpublished(backbone, start)
    pretrained = target_table(start)["start"] == "pretrained"
    task = request.task or task_of(backbone)
    setting = _setting(task, request.init, pretrained=pretrained)
    input_shape = parse_shape(request.shape or usual_shape(backbone))
    question = Question(backbone, input_shape, setting, _section(request.settings))
    section = backbone_section(backbone)
    model = build(
        section, input_shape=input_shape, classes=CLASSES.get(task, CLASSES["classification"])
    )
    advice = advise(model, question, until=until)
    images = _images(request)
    image_s = training_image_s(model, input_shape, _batch_size(task, backbone, images))
    power = search_power(
        setting.task, backbone, image_s=image_s, images=images, pretrained=pretrained
    )
    commands = AdvisedCommands(
        recipe=_recipe_command(setting.task, request.data, backbone, start),
        search=_search_command(advice, power, request, start),
    )
    if as_json:
        print_json(advice_as_json(advice, power, commands))
    else:
        _show(advice, power, commands, wide=wide)


def _age_s() -> float:
    """Seconds since this process began."""
    return time.time() - psutil.Process().create_time()


def _images(request: AdviceRequest) -> int | None:
    """How many there are, where the user says it, or where they are."""
    if request.images is not None or request.data is None:
        return request.images
    return round(count_images(request.data)) or None


def _batch_size(task: str, backbone: str, images: int | None) -> int:
    """Of the recipe that `init` writes for so many images."""
    trained = TRAINED_SHARE * (images or ASSUMED_IMAGES)
    return usual_pace(tasks.find(task, backbone), OWN_IMAGES, trained).batch_size


def _setting(task: str, init: str, *, pretrained: bool) -> Situation:
    if task not in TASKS:
        raise RecipeError(f"--task '{shorten(task)}': {did_you_mean(task, TASKS)}")
    # `random` is a former name of `paper`
    form = init if init == "random" else FORM_OF_INIT.get(init)
    if form is None:
        raise RecipeError(f"--init '{shorten(init)}': {did_you_mean(init, FORM_OF_INIT)}")
    start = "pretrained" if pretrained else "scratch"
    return Situation(task, "backbone", start, form, module="")


def _section(settings: Sequence[str]) -> LatencySection:
    return latency_section(LatencySection(session_seconds=BRIEF_SESSION_S), settings)


def _recipe_command(task: str, data: str | None, backbone: str, start: str) -> str:
    """The command that writes the recipe of a search."""
    of_task = ""
    if task != USUAL_TASK:
        of_task = f" --task {task}"
    return (
        f"nas-attn init study.toml{of_task} --data {shlex.quote(data or 'folder:PATH')}"
        f" --backbone {shlex.quote(backbone)} --target {shlex.quote(start)}"
    )


def _search_command(
    advice: Advice, power: SearchPower, request: AdviceRequest, start: str
) -> str | None:
    """The command of a search in the time of `power`, which also tries what is most likely to help;
    None where the data are no folder of images with classes: such a search needs a recipe.
    """
    data = request.data or f"{OWN_IMAGES}PATH"
    setting = advice.question.setting
    if setting.task != USUAL_TASK or not data.startswith(OWN_IMAGES):
        return None
    minutes = math.ceil((power.enough_s or power.seconds) / 60)
    words = ["nas-attn", "search", data.removeprefix(OWN_IMAGES), "--time", f"{minutes}m"]
    words += ["--backbone", advice.question.backbone, "--target", start]
    _, height, width = advice.question.input_shape
    if request.shape and height == width:
        words += ["--set", f"data.size={height}"]
    if setting.form != USUAL_FORM:
        words += ["--set", f"training.init={INIT_OF_FORM[setting.form]}"]
    likely = advice.most_likely
    if likely is not None:
        words += ["--placement", str(likely.candidate.placement)]
    return shlex.join(words)


def _show(advice: Advice, power: SearchPower, commands: AdvisedCommands, *, wide: bool) -> None:
    say_lines(list(before_table(advice)))
    if advice.measured:
        shape = "x".join(map(str, advice.question.input_shape))
        title = f"Attention in {advice.question.backbone} at {shape}"
        cells = [[*row.cells, row.placement] for row in rows(advice)]
        columns = [*ADVICE_COLUMNS, "placement"]
        shown = table(title, columns, cells, right=ADVICE_COLUMNS)
        console(wide=wide).print(shown)
    for line in after_table(advice, power, commands):
        if line.label in COMMAND_ROWS:
            # to copy, so only the terminal itself breaks it
            echo(str(line))
        else:
            say_lines([line])
