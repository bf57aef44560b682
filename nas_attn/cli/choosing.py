"""The options by which a person chooses a candidate: the same for every command that takes one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer

from nas_attn.errors import UserError, shorten

if TYPE_CHECKING:
    from rich.console import Console

    from nas_attn.analysis.choosing import Choice, Wish

Command = TypeVar("Command", bound=Callable[..., None])


def _options(
    max_latency_ratio: Annotated[
        float | None, typer.Option("--max-latency-ratio", help="The best within so many times the backbone's latency.")
    ] = None,
    max_latency_ms: Annotated[
        float | None, typer.Option("--max-latency-ms", help="The best within so many ms, where the study measured.")
    ] = None,
    min_accuracy: Annotated[
        str | None, typer.Option("--min-accuracy", help="The fastest that reaches it: 0.7 or 70%.")
    ] = None,
    knee: Annotated[bool, typer.Option("--knee", help="The knee of the front.")] = False,
    trial: Annotated[int | None, typer.Option("--trial", help="The candidate of this trial.")] = None,
    placement: Annotated[str | None, typer.Option("--placement", help="The candidate with this placement.")] = None,
    recommended: Annotated[bool, typer.Option("--recommended", help="The recommended one: the default.")] = False,
    candidate: Annotated[str | None, typer.Option("--candidate", hidden=True)] = None,
) -> Wish:
    """A wish as typed; `--candidate` is the former word for `--trial` and `--placement`.

    Raises:
        UserError: it cannot be one.
    """
    from nas_attn.analysis.choosing import Wish

    if candidate is not None:
        if trial is not None or placement is not None:
            raise UserError("--candidate names a candidate as --trial and --placement do: give one of them")
        named = wish_for(candidate)
        trial, placement = named.trial, named.placement
    return Wish(
        trial=trial,
        placement=placement,
        knee=knee,
        recommended=recommended,
        max_latency_ratio=max_latency_ratio,
        max_latency_ms=max_latency_ms,
        min_accuracy=None if min_accuracy is None else _share(min_accuracy),
    )


def wish_for(text: str) -> Wish:
    """A trial's number or a placement."""
    from nas_attn.analysis.choosing import Wish

    return Wish(trial=int(text)) if text.isdecimal() else Wish(placement=text)


def _share(text: str) -> float:
    """`0.7`, `70%` or `70 %` as 0.7."""
    number, percent, rest = text.strip().partition("%")
    try:
        value = float(number)
    except ValueError:
        value = float("nan")
    if rest or value != value:
        raise UserError(f"--min-accuracy '{shorten(text)}' is no accuracy: give 0.7 or 70%")
    return value / 100 if percent else value


def choosing(command: Command) -> Command:
    """Gives a command the options in place of its parameter `wish`."""
    own, hints = inspect.signature(command), _hints(command)
    options, option_hints = inspect.signature(_options), _hints(_options)
    parameters: list[inspect.Parameter] = []
    for name, parameter in own.parameters.items():
        if name == "wish":
            parameters += [p.replace(annotation=option_hints[p.name]) for p in options.parameters.values()]
        else:
            parameters.append(parameter.replace(annotation=hints[name]))

    def with_wish(**given: Any) -> None:
        wish = _options(**{name: given.pop(name) for name in options.parameters})
        command(wish=wish, **given)

    made: Any = with_wish
    made.__name__, made.__doc__ = command.__name__, command.__doc__
    made.__signature__ = own.replace(parameters=parameters, return_annotation=None)
    made.__annotations__ = {p.name: p.annotation for p in parameters}
    return made  # type: ignore[no-any-return]


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a function's parameters; `Wish` is imported for types only."""
    known = {"Wish": object} | getattr(function, "__globals__", {})
    return get_type_hints(function, known, include_extras=True)


def show_choice(out: Console, choice: Choice) -> None:
    """What was chosen, as text."""
    out.print("Chosen", style="bold")
    for sentence in choice.sentences:
        out.print(f"  {sentence}", markup=False)
    out.print(f"  {choice.view.placement}", markup=False, soft_wrap=True)
