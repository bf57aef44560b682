"""The form that all commands share: the options that each of them has, and how `--help` is laid
out, with the examples of a command's docstring at its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

from nas_attn.errors import UserError
from nas_attn.system.paths import DEFAULT_URL

MAIN = "Options"
CHOICE = "Which network"
EFFORT = "How runs are carried out"
COMMON_PANEL = "Options of every command, before or after its name"
PANELS = (MAIN, CHOICE, EFFORT)
"""Panels of options, in the order of the help. An option without one is a main option."""

METAVARS = {int: "N", float: "N", str: "TEXT", list[str]: "TEXT", Path: "PATH"}
"""Type of an option -> what stands for its value in the help."""

EXAMPLES = "\n\nExamples:\n"
"""In a command's docstring, what follows it stands at the end of the help."""
Records = Iterable[tuple[str, tuple[str, str]]]
"""(panel, (name of an option or a command, what it does))."""


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
    """A command whose help shows its options by panel."""

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
        """Writes the arguments, then the options by panel, then the names of the common ones."""
        records: list[tuple[str, tuple[str, str]]] = []
        common = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None:
                continue
            panel = getattr(parameter, "rich_help_panel", None) or MAIN
            if isinstance(parameter, TyperArgument):
                panel = "Arguments"
                record = (str(parameter.metavar), record[1])
            if panel == COMMON_PANEL or parameter.name == "help":
                common.append(min(parameter.opts, key=len))
            else:
                records.append((panel, record))
        write_panels(formatter, records, ["Arguments", *PANELS])
        with formatter.section(COMMON_PANEL):
            formatter.write_text(f"{', '.join(common)}: see nas-attn --help")

    def format_epilog(self, _ctx: Any, formatter: Any) -> None:
        """Writes the examples as they stand in the docstring."""
        if self.epilog:
            formatter.write(f"{EXAMPLES[1:]}{self.epilog}\n")


def write_panels(formatter: Any, records: Records, order: Sequence[str]) -> None:
    """Writes records under the headings of their panels, in this order; no heading without any."""
    rows: dict[str, list[tuple[str, str]]] = {panel: [] for panel in order}
    for panel, record in records:
        rows.setdefault(panel, []).append(record)
    for panel, own in rows.items():
        if own:
            with formatter.section(panel):
                formatter.write_dl(own)


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
        for command in self.commands.values():
            command.params += common

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the commands under the headings of their panels, then the options."""
        shown = {
            name: command
            for name in self.list_commands(ctx)
            if (command := self.get_command(ctx, name)) is not None and not command.hidden
        }
        width = formatter.width - 6 - max(map(len, shown), default=0)
        records = [
            (
                getattr(command, "rich_help_panel", None) or "Commands",
                (name, command.get_short_help_str(width)),
            )
            for name, command in shown.items()
        ]
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                panel = getattr(parameter, "rich_help_panel", None) or MAIN
                records.append((panel, record))
        write_panels(formatter, records, list(dict.fromkeys(panel for panel, _ in records)))
