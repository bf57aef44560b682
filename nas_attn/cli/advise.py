"""`nas-attn advise`: what is known of attention in a network, and what it costs here, without
training.
"""

from __future__ import annotations

import shlex
import time
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from nas_attn.cli.commands import Context
from nas_attn.cli.common import (
    TASK,
    Data,
    LatencySettings,
    Shape,
    Target,
    console,
    echo,
    parse_shape,
    print_json,
    say_lines,
    table,
)
from nas_attn.cli.trust import check_typed
from nas_attn.errors import RecipeError, did_you_mean, shorten
from nas_attn.recipe.target import refuse_unpublished, target_table, target_words
from nas_attn.recipe.tasks import TASKS, USUAL_TASK

if TYPE_CHECKING:
    from nas_attn.answer.advising import Advice

# the end of measuring, from the command's beginning
MEASURED_FOR_S = 45.0
# longest time of one session, unless it is given
BRIEF_SESSION_S = 1.5
OWN_IMAGES = "folder:"


def advise(
    context: Context,
    backbone: Annotated[
        str, Argument(help="resnet20, torchvision:resnet50, timm:…, package.module:function.")
    ],
    task: Annotated[
        str | None,
        Option(metavar=TASK, help="What the network is for.", show_default="by the backbone"),
    ] = None,
    target: Target = None,
    init: Annotated[
        str,
        Option(
            metavar="[identity|paper]", help="How modules begin: as the identity, or as published."
        ),
    ] = "identity",
    data: Data = None,
    shape: Shape = None,
    settings: LatencySettings = None,
) -> None:
    """Say what attention brings and costs, without a search. It trains nothing.

    Examples:
      nas-attn advise resnet20
      nas-attn advise torchvision:resnet50 --target weights

    What the advice rests on: docs/expect/where-attention-helps.md
    """
    check_typed(backbone, data or "", trust=context.trust)
    until = time.monotonic() + MEASURED_FOR_S
    # they load torch, which no help needs
    from nas_attn.answer import advising
    from nas_attn.cli.measuring import latency_section
    from nas_attn.cli.usual import bare_network, task_of, usual_shape, usual_start
    from nas_attn.recipe.recipe import LatencySection

    start = target_words(target or []).start or usual_start(backbone)
    refuse_unpublished(backbone, start)
    task = task or task_of(backbone)
    if task not in TASKS:
        raise RecipeError(f"--task '{shorten(task)}': {did_you_mean(task, TASKS)}")
    if init not in advising.FORM_OF_INIT:
        raise RecipeError(f"--init '{shorten(init)}': {did_you_mean(init, advising.FORM_OF_INIT)}")
    trained = "pretrained" if target_table(start)["start"] == "pretrained" else "scratch"
    input_shape = parse_shape(shape or usual_shape(backbone))
    section = latency_section(LatencySection(session_seconds=BRIEF_SESSION_S), settings or [])
    question = advising.Question(backbone, input_shape, task, trained, init, section)
    network = bare_network(backbone, input_shape, task)
    advice = advising.advise(network, question, until=until)
    recipe = _recipe_command(task, data, backbone, start)
    size = input_shape[1:] if shape else None
    begin = _search_command(advice, data or f"{OWN_IMAGES}PATH", start, size=size)
    if context.as_json:
        print_json({**advising.advice_as_json(advice), "begin": begin, "recipe": recipe})
        return
    _show(context, advice)
    # to copy, so only the terminal itself breaks it
    echo(f"next: {begin or recipe}")


def _show(context: Context, advice: Advice) -> None:
    """Prints what is known, and what was measured."""
    from nas_attn.answer import advising

    say_lines(list(advising.before_table(advice)))
    if advice.measured:
        question = advice.question
        title = f"Attention in {question.backbone} at {'x'.join(map(str, question.input_shape))}"
        columns = [*advising.ADVICE_COLUMNS, "placement"]
        cells = advising.rows(advice)
        console(wide=context.wide).print(
            table(title, columns, cells, right=advising.ADVICE_COLUMNS)
        )
    say_lines(list(advising.after_table(advice)))


def _recipe_command(task: str, data: str | None, backbone: str, start: str) -> str:
    """The command that writes the recipe of a search."""
    words = ["nas-attn", "init", "study.toml", "--data", data or f"{OWN_IMAGES}PATH"]
    words += ["--backbone", backbone, "--target", start]
    if task != USUAL_TASK:
        words += ["--task", task]
    return shlex.join(words)


def _search_command(
    advice: Advice, data: str, start: str, *, size: tuple[int, int] | None
) -> str | None:
    """The command of a search, which also tries what is most likely to help; None where the data
    are no folder of images with classes: such a search needs a recipe.

    Args:
        advice: On the network.
        data: The images.
        start: How the target starts.
        size: Height and width of the images, if they were asked for.
    """
    if advice.question.task != USUAL_TASK or not data.startswith(OWN_IMAGES):
        return None
    words = ["nas-attn", "search", data.removeprefix(OWN_IMAGES)]
    words += ["--backbone", advice.question.backbone, "--target", start]
    if size is not None:
        height, width = size
        words += ["--set", f"data.size={height if height == width else list(size)}"]
    if advice.question.init != "identity":
        words += ["--set", f"training.init={advice.question.init}"]
    likely = advice.most_likely
    if likely is not None:
        words += ["--placement", likely.placement]
    return shlex.join(words)
