"""What several commands need: the study that is meant, settings, and output."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import typer

from nas_attn.errors import RecipeError, StudyError, printable, shorten
from nas_attn.paths import DEFAULT_URL, HTML, output_path

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console
    from rich.text import Text

    from nas_attn.study.opening import OpenStudy


def at_storage(url: str) -> str:
    """The option with which a printed command finds a database; empty where it does without."""
    from nas_attn.storage import shown_url

    known = url in (DEFAULT_URL, os.environ.get("NAS_ATTN_STORAGE"))
    return "" if known else f" --storage {shown_url(url)}"


def page_path(text: str | None, option: str = "--report") -> Path | None:
    """Where a page is to be written, checked before the work that leads to it; None where nothing was said.

    Raises:
        StudyError: no page can or should be written there.
    """
    return None if text is None else output_path(text, what=option, error=StudyError, replaces=HTML)


def echo(text: str, *, err: bool = False) -> None:
    """One or more lines on standard output or standard error, as they are."""
    typer.echo(printable(text), err=err)


def console() -> Console:
    """Standard output; as wide as the terminal, or wide enough for a placement."""
    from nas_attn.cli.terminal import SafeConsole

    return SafeConsole(width=None if sys.stdout.isatty() else 160, highlight=False, soft_wrap=False)


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    echo(json.dumps(value, indent=2, allow_nan=False))


def table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str | Text]],
    *,
    right: Sequence[str] = (),
    widest: Mapping[str, int] | None = None,
    whole: Sequence[str] = (),
) -> Any:
    """A rich table of plain texts, and of texts with a style.

    Args:
        right: columns of numbers.
        widest: column -> letters, beyond which it goes on in the next line.
        whole: columns whose cells stay in one line on a narrow terminal, where others give way.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(title=title, title_justify="left", box=box.SIMPLE, pad_edge=False)
    for column in columns:
        side: Literal["right", "left"] = "right" if column in right else "left"
        limit = (widest or {}).get(column)
        made.add_column(column, justify=side, overflow="fold", max_width=limit, no_wrap=column in whole)
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    return made


def quiet_optuna() -> None:
    """Keeps Optuna's own log lines off the terminal: the progress says it better."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)


def study_named(name: str | None, storage: str) -> OpenStudy:
    """A study by name, or the only one there is."""
    from nas_attn.study.opening import only_study, open_study

    quiet_optuna()
    return open_study(name or only_study(storage), storage)


def overrides(settings: Sequence[str]) -> dict[str, Any]:
    """`--set search.trials=20` as {"search.trials": 20}; values are read as TOML, else as text.

    Raises:
        RecipeError: there is no `=`.
    """
    from nas_attn.recipe_reading import DEPTH, read_toml

    found: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise RecipeError(f"--set '{shorten(setting)}' is not of the form key=value, like search.trials=20")
        try:
            read = read_toml(f"value = {value}", f"--set '{shorten(setting)}'")
        except RecipeError:
            if value.count("[") + value.count("{") > DEPTH:
                raise
            read = {}
        found[key.strip()] = read["value"] if read.keys() == {"value"} else value.strip()
    return found
