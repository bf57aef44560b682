"""Options that several commands share, and what the shell offers for their values."""

from __future__ import annotations

import dataclasses
import inspect
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

import typer

from nas_attn.analysis.criteria import Criteria
from nas_attn.errors import NasAttnError, UserError, shorten
from nas_attn.paths import DEFAULT_URL

Command = TypeVar("Command", bound=Callable[..., None])

# ------------------------------------------------------------------------------------------- completion


def complete_recipe(incomplete: str) -> list[str]:
    """Shipped recipes, and TOML files."""
    return _shipped("studies", incomplete)


def complete_space(incomplete: str) -> list[str]:
    """Shipped search spaces, and TOML files."""
    return _shipped("search_spaces", incomplete)


def complete_module(incomplete: str) -> list[str]:
    """Attention modules of the catalogue."""
    from nas_attn.attention import catalogue

    return _beginning(catalogue.ROWS, incomplete)


def complete_study(context: typer.Context, incomplete: str) -> list[str]:
    """Studies of the database that is named, or usual."""
    from nas_attn.storage import Database

    try:
        with Database(context.params.get("storage") or DEFAULT_URL, must_exist=True) as database:
            return _beginning((study.name for study in database.studies()), incomplete)
    except NasAttnError:  # who completes a word is not told of errors
        return []


def _shipped(kind: Literal["search_spaces", "studies"], incomplete: str) -> list[str]:
    from nas_attn.recipe_reading import shipped

    return _beginning([*shipped(kind), *map(str, Path().glob("*.toml"))], incomplete)


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


# ------------------------------------------------------------------------------------------- options


def _time_limit(seconds: float | None) -> float | None:
    if seconds is not None and not seconds >= 0:  # NaN is not either
        raise UserError(f"--time-limit {seconds:g} is not a time: give seconds, or 0 to start no new candidate")
    return seconds


def _storage_wait(seconds: float | None) -> None:
    """For this process and the workers that it starts, which all read the environment."""
    if seconds is not None:
        os.environ["NAS_ATTN_STORAGE_WAIT"] = str(seconds)


Storage = Annotated[
    str, typer.Option("--storage", envvar="NAS_ATTN_STORAGE", help="Database: sqlite:///FILE or postgresql://…")
]
StudyName = Annotated[
    str | None,
    typer.Argument(help="Study; may be omitted if the database has only one.", autocompletion=complete_study),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, max=256, help="Worker processes here; default: one per core, at most 4."),
]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, max=1024, help="CPU threads per worker; default: the fastest number.")
]
Device = Annotated[str, typer.Option("--device", help="Where to train: auto, cpu, cuda, cuda:1.")]
TimeLimit = Annotated[
    float | None,
    typer.Option(
        "--time-limit", callback=_time_limit, help="Start no new candidate after this many seconds; 0: start none."
    ),
]
StorageWait = Annotated[
    float | None,
    typer.Option(
        "--storage-wait",
        callback=_storage_wait,
        expose_value=False,
        envvar="NAS_ATTN_STORAGE_WAIT",
        help="Seconds to wait for a database that does not answer; default: 1800.",
    ),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose", envvar="NAS_ATTN_VERBOSE", help="Show an evaluator's output instead of writing it to a log file."
    ),
]


# ------------------------------------------------------------------------------------------- groups of options


@dataclass(frozen=True)
class Effort:
    """How runs are done: the options of all commands that train."""

    workers: Workers = None
    threads: Threads = None
    device: Device = "auto"
    time_limit: TimeLimit = None
    storage_wait: StorageWait = None
    verbose: Verbose = False
    quiet: Quiet = False


def grouped(command: Command) -> Command:
    """Gives a command the options of `Effort` and `Criteria` in place of its parameters of these types."""
    own, hints = inspect.signature(command), get_type_hints(command, include_extras=True)
    groups = {name: _options(kind) for name, kind in hints.items() if kind in (Effort, Criteria)}
    parameters: list[inspect.Parameter] = []
    for name, parameter in own.parameters.items():
        parameters += groups.get(name, [parameter.replace(annotation=hints[name])])

    def with_groups(**given: Any) -> None:
        made = {}
        for name, options in groups.items():
            asked = {option.name: given.pop(option.name) for option in options if option.name in given}
            if asked.get("min_accuracy") is not None:
                asked["min_accuracy"] = _share(asked["min_accuracy"])
            made[name] = hints[name](**asked)
        command(**made, **given)

    result: Any = with_groups
    result.__name__, result.__doc__ = command.__name__, command.__doc__
    result.__signature__ = own.replace(parameters=parameters, return_annotation=None)
    result.__annotations__ = {p.name: p.annotation for p in parameters}
    return result  # type: ignore[no-any-return]


def _options(group: type[Effort] | type[Criteria]) -> list[inspect.Parameter]:
    """An option for each field; an accuracy may also be typed as 70%."""
    hints = get_type_hints(group, include_extras=True) | ({"min_accuracy": str | None} if group is Criteria else {})
    found = []
    for field in dataclasses.fields(group):
        kind = hints[field.name]
        if group is Criteria:
            kind = Annotated[kind, typer.Option(f"--{field.name.replace('_', '-')}", help=field.metadata["help"])]
        word = inspect.Parameter.POSITIONAL_OR_KEYWORD
        found.append(inspect.Parameter(field.name, word, default=field.default, annotation=kind))
    return found


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
