"""Entry point of `nas-attn`: the table of commands, and how errors are shown."""

from __future__ import annotations

import atexit
import gc
import io
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Annotated, Any

import typer
from typer import Option

from nas_attn._version import __version__
from nas_attn.cli import (
    advise,
    answers,
    doctor,
    export,
    init,
    letters,
    measuring,
    modules,
    running,
    search,
    sites,
    studies,
    upkeep,
    workers,
)
from nas_attn.cli.commands import Command, Group, command_with
from nas_attn.cli.common import INTERRUPTED, NOT_WRITTEN, echo, not_written
from nas_attn.errors import WARNING, NasAttnError, NasAttnWarning, sentence, shorten
from nas_attn.system import environment
from nas_attn.system.importing import trust
from nas_attn.system.processes import STDERR
from nas_attn.system.waiting import Interrupted

HELP = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    name="nas-attn",
    cls=Group,
    help=(
        "Which attention module, at which stage of your backbone, with which settings, at what"
        " latency?"
    ),
    no_args_is_help=True,
    context_settings=HELP,
    # plain help loads in half the time
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

# Panel of the help -> name -> command. Their docstrings are what `--help` says.
COMMANDS: dict[str, dict[str, Callable[..., None]]] = {
    "Search": {
        "init": init.init,
        "search": search.search,
        "resume": search.resume,
        "extend": search.extend,
    },
    "Answers": {
        "status": upkeep.status,
        "pareto": answers.pareto,
        "effects": answers.effects,
        "report": answers.report,
        "test": running.final_test,
        "retrain": running.retrain,
        "export": export.export,
        "check-export": export.check_export,
    },
    "Workers": {"worker": workers.worker, "launch": workers.launch, "stop": workers.stop},
    "Networks": {
        "advise": advise.advise,
        "sites": sites.sites,
        "modules": modules.modules,
        "measure": measuring.measure,
    },
    "Upkeep": {"backup": upkeep.backup, "clean": upkeep.clean, "doctor": doctor.doctor},
}
STUDIES: dict[str, Callable[..., None]] = {"list": studies.list_, "delete": studies.delete}
"""Of the group `nas-attn studies`."""

FORMER_NAMES: dict[str, Callable[..., None]] = {"validate": running.final_test}
"""Former names of commands. They still work, and no help lists them."""

FORMER_OPTIONS: dict[Callable[..., None], dict[str, str]] = {
    running.final_test: {"--again": "--another", "--placement": "--also"},
    export.export: {"--again": "--train-again"},
    workers.launch: {"--minutes": "--job-minutes"},
    modules.modules: {"--set": "--knob"},
    measuring.measure: {"--set": "--latency"},
    upkeep.backup: {"--artifacts": "--weights", "--no-artifacts": "--no-weights"},
}
"""Former names of options, which meant something else in other commands. They still work."""


def _class(command: Callable[..., None]) -> type[Command]:
    former = FORMER_OPTIONS.get(command)
    if former is None:
        return Command
    return command_with(former)


def _add_commands() -> None:
    for panel, functions in COMMANDS.items():
        for name, function in functions.items():
            app.command(name, cls=_class(function), rich_help_panel=panel)(function)
    for name, function in FORMER_NAMES.items():
        app.command(name, cls=_class(function), hidden=True)(function)
    group = typer.Typer(cls=Group, context_settings=HELP, rich_markup_mode=None)
    for name, function in STUDIES.items():
        group.command(name, cls=_class(function))(function)
    shown = "List the studies of a database, or delete one."
    app.add_typer(group, name="studies", help=shown, no_args_is_help=True, rich_help_panel="Upkeep")


_add_commands()


def _version(show: bool) -> None:
    if show:
        echo(f"nas-attn {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[  # noqa: ARG001 - its callback ends the program
        bool, Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options before the command."""
    if debug:
        environment.debug()


# Short commands: garbage collection is a tenth of their time.
READING = {"status", "pareto", "report", "effects", "studies"}
# Most letters of an error's sentence; --debug shows all of it.
ERROR_LETTERS = 600

# Warnings that this command has given.
_shown: set[str] = set()
# The parser's; it quotes the whole of what was typed.
_UsageError: type[Any] = typer.BadParameter.__bases__[0]


def program() -> None:
    """The command line as a program. It ends without freeing what torch has loaded, which would
    take a second.
    """
    status: list[int] = []
    # the first to be registered is the last to be called
    atexit.register(_leave, status)
    try:
        main()
    except SystemExit as end:
        status += [end.code] if isinstance(end.code, int) else []
        raise


def _leave(status: Sequence[int]) -> None:
    try:
        # progress that cannot be written is dropped
        with suppress(OSError):
            sys.stderr.flush()
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) in NOT_WRITTEN:
            # Python would try once more, and complain
            os._exit(1)
        # the output is closed: Python handles that
        return
    if status:
        os._exit(status[0])


def _open_closed() -> None:
    """Gives standard output and error that were closed (`>&-`, some daemons) a place to go. Else
    the next file that is opened, perhaps the database, would get their number and their text.
    """
    number = os.open(os.devnull, os.O_RDWR)
    while number <= STDERR:
        number = os.open(os.devnull, os.O_RDWR)
    os.close(number)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))


def _prepare() -> None:
    """Output that shows any letter, our warnings, and no garbage collection for what only reads."""
    _open_closed()
    trust()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Not every terminal has every letter.
            stream.reconfigure(errors=letters.PLAIN_HANDLER)
    warnings.showwarning = _show_warning
    if {*sys.argv[1:2]} & READING:
        gc.disable()
    _shown.clear()
    NasAttnWarning.said.clear()


def main() -> None:
    """Runs the command line: exit status 2 for the user's input, 1 for the rest, 130 when
    interrupted.
    """
    _prepare()
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except Interrupted:
        sys.exit(INTERRUPTED)
    except _UsageError as error:
        # else it is the help
        if len(sys.argv) > 1:
            error.message = shorten(error.message, ERROR_LETTERS - 10)
        error.show()
        sys.exit(error.exit_code)
    except typer.Abort:
        echo("Aborted!", err=True)
        sys.exit(1)
    except NasAttnError as error:
        _fail(str(error), error.exit_status, error)
    except RecursionError as error:
        _fail("the input is nested too deeply to be read", 2, error)
    except OSError as error:
        if error.errno not in NOT_WRITTEN or error.filename is not None:
            _fail(_unexpected(error), 1, error)
        where = "the results of a search are in its study: nas-attn pareto"
        _fail(f"{not_written(error)}: {where}", 1, error)
    except Exception as error:
        _fail(_unexpected(error), 1, error)
    finally:
        trust()
        gc.enable()


def _unexpected(error: Exception) -> str:
    why = "a fault of nas_attn or of a library; --debug shows the traceback"
    return f"{type(error).__name__}: {error} ({why})"


def _fail(message: str, status: int, error: BaseException) -> None:
    if environment.debugging():
        traceback.print_exception(error)
    echo(
        f"error: {sentence(message, sys.maxsize if environment.debugging() else ERROR_LETTERS)}",
        err=True,
    )
    sys.exit(status)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: object = None,  # noqa: ARG001 - as `warnings` calls it
    line: str | None = None,
) -> None:
    """Our own warnings as one sentence; others' only with --debug."""
    if issubclass(category, NasAttnWarning):
        # Python forgets what it has shown whenever a filter changes
        if str(message) not in _shown:
            _shown.add(str(message))
            echo(f"{WARNING}{message}", err=True)
    elif environment.debugging():
        echo(warnings.formatwarning(message, category, filename, lineno, line), err=True)


if __name__ == "__main__":
    program()
