"""How `--help` is laid out: commands by what they are for, a command's options by panel, the main
ones first. Also the former names of options, which still work.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from typer.core import TyperArgument, TyperCommand, TyperGroup

MAIN = "Options"
CHOICE = "Which network"
EFFORT = "How runs are carried out"
COMMON_PANEL = "Common options"
PANELS = (MAIN, CHOICE, EFFORT, COMMON_PANEL)
"""Panels of options, in the order of the help. An option without one is a main option."""

METAVARS = {int: "N", float: "N", str: "TEXT", list[str]: "TEXT", Path: "PATH"}
"""Type of an option -> what stands for its value in the help."""

FORMER_OPTIONS = {
    "test": {"--again": "--another", "--placement": "--also"},
    "validate": {"--again": "--another", "--placement": "--also"},
    "export": {"--again": "--train-again"},
    "launch": {"--minutes": "--job-minutes"},
    "modules": {"--set": "--knob"},
    "measure": {"--set": "--latency"},
    "backup": {"--artifacts": "--weights", "--no-artifacts": "--no-weights"},
}
"""Command -> former name of an option -> its name. The former ones meant something else in other
commands.
"""
Records = Iterable[tuple[str, tuple[str, str]]]
"""(panel, (name of an option or a command, what it does))."""


class Command(TyperCommand):
    """A command whose help shows its options by panel. Former names of options still work."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        for parameter in self.params:
            if parameter.metavar is not None:
                continue
            kind = getattr(parameter, "type_descriptor", None)
            if isinstance(parameter, TyperArgument):
                parameter.metavar = (parameter.name or "").upper()
            elif kind is not None:
                parameter.metavar = METAVARS.get(kind.annotation)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        former = FORMER_OPTIONS.get(self.name or "", {})
        # after it, all words are arguments
        end = args.index("--") if "--" in args else len(args)
        renamed = []
        for word in args[:end]:
            option, equals, value = word.partition("=")
            renamed.append(former.get(option, option) + equals + value)
        return super().parse_args(ctx, renamed + args[end:])

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the arguments, then the options by panel."""
        arguments: list[tuple[str, tuple[str, str]]] = []
        options: list[tuple[str, tuple[str, str]]] = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None:
                continue
            if isinstance(parameter, TyperArgument):
                arguments.append(("Arguments", record))
                continue
            panel = getattr(parameter, "rich_help_panel", None) or MAIN
            options.append((COMMON_PANEL if parameter.name == "help" else panel, record))
        write_panels(formatter, arguments, ["Arguments"])
        write_panels(formatter, options, PANELS)


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
    """Commands whose help shows them by what they are for: the panel of each."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes the commands under the headings of their panels."""
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
        write_panels(formatter, records, list(dict.fromkeys(panel for panel, _ in records)))
