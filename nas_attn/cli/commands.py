"""The form that all commands share: the options that each of them has, and how `--help` is laid
out, with the examples of a command's docstring at its end.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

from nas_attn.errors import UserError
from nas_attn.system.paths import DEFAULT_URL

COMMON_PANEL = "Options of every command"
"""Marks the options that stand before or after a command's name, and only in the help of all."""

METAVARS = {int: "N", float: "N", str: "TEXT", list[str]: "TEXT", Path: "PATH"}
"""Type of an option -> what stands for its value in the help."""

EXAMPLES = "\n\nExamples:\n"
"""In a command's docstring, what follows it stands at the end of the help."""


class Context(typer.Context):
    """A call of a command, with the values of the options that every command has."""

    storage: str = DEFAULT_URL
    """The address of the database."""
    trust: bool = False
    """Whether code of files outside the current folder may run."""
    wide: bool = False
    as_json: bool = False
    quiet: bool = False

    def refuse(self, names: Iterable[str], why: str) -> None:
        """Refuses options that have no effect here: none is dropped without a word.

        Args:
            names: Of the command's parameters that have none.
            why: The rest of the sentence: why, and what to do instead.

        Raises:
            UserError: One of them was given.
        """
        for parameter in self.command.params:
            if parameter.name in names and self.is_given(parameter.name):
                raise UserError(f"{max(parameter.opts, key=len)} has no effect here: {why}")

    def is_given(self, name: str) -> bool:
        """Whether a parameter stands on the command line."""
        source = self.get_parameter_source(name)
        return source is not None and source.name == "COMMANDLINE"


def keep(context: Any, parameter: Any, value: Any) -> None:
    """Keeps an option's value in the context. After a command's name it replaces the one before."""
    name = parameter.name or ""
    if context.parent is not None and not context.is_given(name):
        value = getattr(context.parent, name)
    setattr(context, name, value)


class Command(TyperCommand):
    """A command whose help ends with examples."""

    context_class = Context

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.help, _, self.epilog = (self.help or "").partition(EXAMPLES)
        for parameter in self.params:
            if parameter.metavar is not None:
                continue
            kind = getattr(parameter, "type_descriptor", None)
            if isinstance(parameter, TyperArgument):
                parameter.metavar = (parameter.name or "").upper()
            elif kind is not None:
                parameter.metavar = METAVARS.get(kind.annotation)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the arguments, without their types, then the options."""
        panels: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, TyperArgument):
                panels["Arguments"].append((str(parameter.metavar), record[1]))
            elif record is not None:
                panels["Options"].append(record)
        write_panels(formatter, panels)

    def format_epilog(self, _ctx: Any, formatter: Any) -> None:
        """Writes where the common options stand, and the examples as they do in the docstring."""
        formatter.write_paragraph()
        formatter.write_text(f"{COMMON_PANEL}, like --json and --storage, are in nas-attn --help.")
        if self.epilog:
            formatter.write(f"{EXAMPLES[1:]}{self.epilog}\n")


def write_panels(formatter: Any, panels: Mapping[str, Sequence[tuple[str, str]]]) -> None:
    """Writes what there is under each heading."""
    for panel, rows in panels.items():
        if rows:
            with formatter.section(panel):
                formatter.write_dl(rows)


class Group(TyperGroup):
    """Commands whose help shows them by what they are for. Its options work after a command's
    name, too.
    """

    context_class = Context

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        common = [p for p in self.params if getattr(p, "rich_help_panel", None) == COMMON_PANEL]
        for parameter in common:
            parameter.callback = parameter.callback or keep
            parameter.expose_value = False
        unlisted: list[Any] = [copy(parameter) for parameter in common]
        for parameter in unlisted:
            parameter.hidden = True
        for command in self.commands.values():
            command.params += unlisted

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the commands under the headings of their panels, then the options."""
        panels = defaultdict[str, list[tuple[str, str]]](list)
        width = formatter.width - 6 - max(map(len, self.commands))
        for name, command in self.commands.items():
            panel = getattr(command, "rich_help_panel", "Commands")
            panels[panel].append((name, command.get_short_help_str(width)))
        records = (parameter.get_help_record(ctx) for parameter in self.get_params(ctx))
        panels["Options"] = [record for record in records if record is not None]
        write_panels(formatter, panels)
