"""Entry point of `nas-attn`: the table of commands, and how errors are shown."""

from __future__ import annotations

import codecs
import gc
import io
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer import Option

from nas_attn._version import __version__
from nas_attn.cli import (
    advise,
    answers,
    export,
    init,
    measuring,
    modules,
    running,
    search,
    sites,
    upkeep,
    workers,
)
from nas_attn.cli.commands import COMMON_PANEL, Command, Group
from nas_attn.cli.common import INTERRUPTED, NOT_WRITTEN, echo, not_written
from nas_attn.errors import WARNING, NasAttnError, NasAttnWarning, sentence, shorten
from nas_attn.system import environment
from nas_attn.system.importing import trust as trust_again
from nas_attn.system.paths import DEFAULT_URL
from nas_attn.system.processes import STDERR
from nas_attn.system.waiting import Interrupted, reporting

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
    },
    "Answers": {
        "status": upkeep.status,
        "show": answers.show,
        "effects": answers.effects,
        "report": answers.report,
        "test": running.final_test,
        "retrain": running.retrain,
        "export": export.export,
        "validate-export": export.validate_export,
    },
    "Workers": {"worker": workers.worker, "stop": workers.stop},
    "Networks": {
        "advise": advise.advise,
        "sites": sites.sites,
        "modules": modules.modules,
        "measure": measuring.measure,
    },
    "Upkeep": {
        "backup": upkeep.backup,
        "clean": upkeep.clean,
        "delete": upkeep.delete,
        "doctor": upkeep.doctor,
    },
}


def _add_commands() -> None:
    for panel, functions in COMMANDS.items():
        for name, function in functions.items():
            app.command(name, cls=Command, rich_help_panel=panel)(function)


_add_commands()


def _version(show: bool) -> None:
    if show:
        echo(f"nas-attn {__version__}")
        raise typer.Exit


def _debug(shown: bool) -> None:
    if shown:
        environment.debug()


def _storage_wait(context: typer.Context, seconds: float | None) -> None:
    """Sets it for this process and its workers, which read the environment. The command then waits
    before it begins, too.
    """
    if seconds is not None:
        environment.wait_for_storage(seconds)
        context.with_resource(reporting(lambda line: echo(line, err=True), lambda: False, seconds))


@app.callback()
def options(
    storage: Annotated[
        str,
        Option(
            envvar=environment.STORAGE,
            metavar="URL",
            help="Database: sqlite:///FILE or postgresql://…",
            rich_help_panel=COMMON_PANEL,
        ),
    ] = DEFAULT_URL,
    trust: Annotated[
        bool,
        Option(
            "--trust",
            help="Run code of files outside the current folder: a recipe, a study, an export.",
            rich_help_panel=COMMON_PANEL,
        ),
    ] = False,
    wide: Annotated[
        bool,
        Option(
            "--wide",
            help="Show all columns, in lines as long as they are.",
            rich_help_panel=COMMON_PANEL,
        ),
    ] = False,
    as_json: Annotated[
        bool, Option("--json", help="Print JSON.", rich_help_panel=COMMON_PANEL)
    ] = False,
    quiet: Annotated[
        bool, Option("--quiet", "-q", help="No progress.", rich_help_panel=COMMON_PANEL)
    ] = False,
    debug: Annotated[
        bool,
        Option("--debug", callback=_debug, help="Show tracebacks.", rich_help_panel=COMMON_PANEL),
    ] = False,
    storage_wait: Annotated[
        float | None,
        Option(
            callback=_storage_wait,
            envvar=environment.STORAGE_WAIT,
            hidden=True,
            rich_help_panel=COMMON_PANEL,
        ),
    ] = None,
    version: Annotated[
        bool, Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of every command. Their callbacks keep the values in the context."""


# Most letters of an error's sentence; --debug shows all of it.
ERROR_LETTERS = 600

# Warnings that this command has given.
_shown: set[str] = set()
# The parser's; it quotes the whole of what was typed.
_UsageError: type[Any] = typer.BadParameter.__bases__[0]


# nearest in ASCII to letters of ours
PLAIN_LETTERS = {
    "−": "-",
    "–": "-",
    "─": "-",
    "━": "=",
    "×": "x",
    "±": "+-",
    "→": "->",
    "▣": "#",
    "…": "...",
    "·": "-",
    "\N{NO-BREAK SPACE}": " ",
}
# name of the error handler of a stream that does not have every letter
PLAIN = "nas_attn.plain"


def _nearest(error: UnicodeError) -> tuple[str, int]:
    """The nearest in ASCII of a letter that a stream does not have, else an escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letter = error.object[error.start]
    escape = letter.encode("ascii", "backslashreplace").decode()
    return PLAIN_LETTERS.get(letter, escape), error.start + 1


codecs.register_error(PLAIN, _nearest)


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
    """Output that shows any letter, and our warnings."""
    _open_closed()
    trust_again()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=PLAIN)
    warnings.showwarning = _show_warning
    _shown.clear()
    NasAttnWarning.said.clear()


def program() -> None:
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
        where = "the results of a search are in its study: nas-attn show"
        _fail(f"{not_written(error)}: {where}", 1, error)
    except Exception as error:
        _fail(_unexpected(error), 1, error)
    finally:
        trust_again()
        _finish()


def _finish() -> None:
    """Writes what is left, and lets the process end quickly. What cannot be written is dropped:
    else Python would try once more at its end, and complain.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    if "torch" not in sys.modules:
        # else Python's end looks through all that SQLAlchemy has made: 0.4 s
        gc.freeze()


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
