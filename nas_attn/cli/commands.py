"""How `--help` is laid out: commands by what they are for, a command's options by panel, the main
ones first. Also the former names of options, which still work.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from typer.core import TyperArgument, TyperCommand, TyperGroup

MAIN = "Options"
CHOICE = "Which network"
EFFORT = "How runs are carried out"
COMMON_PANEL = "Common options"
PANELS = (MAIN, CHOICE, EFFORT, COMMON_PANEL)
"""Panels of options, in the order of the help. An option without one is a main option."""

Records = Iterable[tuple[str, tuple[str, str]]]
"""(panel, (name of an option or a command, what it does))."""


class Command(TyperCommand):
    """A command whose help shows its options by panel."""

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


def command_with(former: Mapping[str, str]) -> type[Command]:
    """The class of a command some of whose options had other names, which still work.

    Args:
        former: former name -> name, `{"--set": "--knob"}`.
    """

    class Renamed(Command):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            return super().parse_args(ctx, list(_renamed(args, former)))

    return Renamed


def _renamed(words: Iterable[str], former: Mapping[str, str]) -> Iterable[str]:
    ended = False
    for word in words:
        # after it, all words are arguments
        ended = ended or word == "--"
        option, equals, value = word.partition("=")
        if ended or option not in former:
            yield word
        else:
            yield former[option] + equals + value


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
