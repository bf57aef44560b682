"""Entry point of `nas-attn`: the table of commands, and what becomes of errors."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from typing import Annotated

import typer

from nas_attn._version import __version__
from nas_attn.cli import (
    backup,
    dashboard,
    doctor,
    effects,
    export,
    fidelity,
    init,
    latency,
    modules,
    pareto,
    report,
    resume,
    search,
    sites,
    space,
    status,
    worker,
)
from nas_attn.errors import NasAttnError, NasAttnWarning

app = typer.Typer(
    name="nas-attn",
    help="Which attention module, at which stage of your backbone, with which settings, at what latency?",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help loads in half the time
    pretty_exceptions_enable=False,
)

COMMANDS = (
    (init.init, "Write a recipe: asks a few questions, or takes them as options."),
    (search.search, "Run a search from a recipe; goes on where an earlier one of the same name stopped."),
    (resume.resume, "Go on with a study, from its database alone."),
    (worker.worker, "Take part in a study as one worker; start as many as you like, on any machine."),
    (status.status, "How far a study is; without a name, all studies of the database."),
    (pareto.pareto, "The front beside the baselines, and the recommended placement."),
    (effects.effects, "What each choice adds at each site, to a metric or the latency."),
    (fidelity.fidelity, "How far brief training ranks placements as long training does, and which setting to take."),
    (report.report, "Write the study's report: one self-contained HTML file."),
    (export.export, "Write a trained candidate as weights, torch.export program or ONNX."),
    (dashboard.dashboard, "Watch the study in optuna-dashboard."),
    (sites.sites, "Where attention may go in a backbone."),
    (space.space, "What a search space holds: sites, choices, number of placements, samples."),
    (latency.latency, "Compare placements on this machine: latency with intervals, peak memory."),
    (modules.modules, "The catalogue of attention modules; one module's knobs, parameters and MACs."),
    (backup.backup, "Write a consistent copy of a database, while workers go on."),
    (doctor.doctor, "Check this machine: devices, libraries, storage."),
)

for function, text in COMMANDS:
    app.command(help=text)(function)


def _version(show: bool) -> None:
    if show:
        typer.echo(f"nas-attn {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options before the command."""
    if debug:
        os.environ[DEBUG] = "1"


DEBUG = "NAS_ATTN_DEBUG"


def main() -> None:
    """Runs the command line: exit status 2 for the user's input, 1 for the rest, 130 when interrupted."""
    warnings.showwarning = _show_warning
    try:
        app()
    except NasAttnError as error:
        _fail(str(error), error.exit_status, error)
    except Exception as error:
        _fail(f"{type(error).__name__}: {error} (a fault of nas_attn or of a library; --debug shows where)", 1, error)


def _fail(message: str, status: int, error: BaseException) -> None:
    if os.environ.get(DEBUG):
        traceback.print_exception(error)
    typer.echo(f"error: {message}", err=True)
    sys.exit(status)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: object = None,
    line: str | None = None,
) -> None:
    """Our own warnings as one sentence; others' only with --debug."""
    if issubclass(category, NasAttnWarning):
        typer.echo(f"warning: {message}", err=True)
    elif os.environ.get(DEBUG):
        typer.echo(warnings.formatwarning(message, category, filename, lineno, line), err=True)


if __name__ == "__main__":
    main()
