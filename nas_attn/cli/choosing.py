"""The options by which a person chooses a candidate: the same for every command that takes one."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer

from nas_attn.analysis.criteria import Criteria
from nas_attn.errors import UserError, shorten

if TYPE_CHECKING:
    from rich.console import Console

    from nas_attn.analysis.choosing import Chosen

Command = TypeVar("Command", bound=Callable[..., None])


def _options() -> list[inspect.Parameter]:
    """An option for each field of the criteria; an accuracy may also be typed as 70%."""
    kinds = get_type_hints(Criteria) | {"min_accuracy": str | None}
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=field.default,
            annotation=Annotated[
                kinds[field.name],
                typer.Option(f"--{field.name.replace('_', '-')}", help=field.metadata["help"]),
            ],
        )
        for field in dataclasses.fields(Criteria)
    ]


def criteria_for(text: str) -> Criteria:
    """A trial's number or a placement."""
    return Criteria(trial=int(text)) if text.isdecimal() else Criteria(placement=text)


def _share(text: str) -> float:
    """`0.7`, `70%` or `70 %` as 0.7."""
    number, percent, rest = text.strip().partition("%")
    try:
        value = float(number)
    except ValueError:
        value = float("nan")
    if rest or value != value:
        raise UserError(f"--min-accuracy '{shorten(text)}' is not an accuracy: give 0.7 or 70%")
    return value / 100 if percent else value


def choosing(command: Command) -> Command:
    """Gives a command the options in place of its parameter `criteria`."""
    own, hints = inspect.signature(command), get_type_hints(command, include_extras=True)
    options, parameters = _options(), list[inspect.Parameter]()
    for name, parameter in own.parameters.items():
        parameters += options if name == "criteria" else [parameter.replace(annotation=hints[name])]

    def with_criteria(**given: Any) -> None:
        asked = {option.name: given.pop(option.name) for option in options}
        if asked["min_accuracy"] is not None:
            asked["min_accuracy"] = _share(asked["min_accuracy"])
        command(criteria=Criteria(**asked), **given)

    made: Any = with_criteria
    made.__name__, made.__doc__ = command.__name__, command.__doc__
    made.__signature__ = own.replace(parameters=parameters, return_annotation=None)
    made.__annotations__ = {p.name: p.annotation for p in parameters}
    return made  # type: ignore[no-any-return]


def show_choice(out: Console, choice: Chosen) -> None:
    """What was chosen, as text."""
    out.print("Chosen", style="bold")
    for sentence in choice.sentences:
        out.print(f"  {sentence}", markup=False)
    out.print(f"  {choice.view.placement}", markup=False, soft_wrap=True)
