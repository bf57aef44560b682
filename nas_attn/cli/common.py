"""Shared by several commands: options, finding a study, trust in foreign code, output."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import sys
from collections.abc import Iterable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from nas_attn.cli.commands import CHOICE, COMMON_PANEL, EFFORT
from nas_attn.errors import (
    BackboneError,
    ExitStatus,
    OperationError,
    RecipeError,
    StudyError,
    UserError,
    few,
    printable,
    shorten,
)
from nas_attn.system import environment
from nas_attn.system.importing import distrust
from nas_attn.system.paths import DEFAULT_URL, HTML, output_path
from nas_attn.system.waiting import reporting
from nas_attn.system.wrapping import Line

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console
    from rich.text import Text

    from nas_attn.cli.tables import FittedTable
    from nas_attn.storage.opening import OpenStudy

INTERRUPTED = ExitStatus.INTERRUPTED
# letters of a line with --wide
WIDEST = 100_000


def echo(text: str, *, err: bool = False) -> None:
    """Lines on standard output or standard error, as they are. What cannot be written to standard
    error, as on a full disk, is dropped: it ends no work.
    """
    with suppress(OSError) if err else nullcontext():
        typer.echo(printable(text), err=err)


def check_output() -> None:
    """Before long work: whether its answer can be written to standard output. OperationError: the
    disk is full.
    """
    try:
        number = sys.stdout.fileno()
        # a device that is full refuses even nothing
        os.write(number, b"")
        _check_disk(number)
    except OSError as error:
        # else it is not a file of the system, as in a notebook
        if error.errno in NOT_WRITTEN:
            raise OperationError(
                f"{not_written(error)}, and the answer would be lost: make room, or send it"
                " elsewhere"
            ) from None


def _check_disk(number: int) -> None:
    """Raises OSError: the file of this number lies on a full disk."""
    if sys.platform != "win32" and stat.S_ISREG(os.fstat(number).st_mode):
        disk = os.fstatvfs(number)
        free = disk.f_bfree if os.geteuid() == 0 else disk.f_bavail
        # some file systems count nothing
        if disk.f_blocks and not free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Of errors: a full disk, a quota, a limit of file sizes, a terminal that is gone."""


def not_written(error: OSError) -> str:
    """Why standard output cannot be written: the beginning of a sentence."""
    why = (error.strerror or str(error)).lower()
    return f"standard output cannot be written ({why})"


def say_lines(lines: Sequence[Line], *, err: bool = False) -> None:
    """Lines with their labels, wrapped on a terminal, on standard output or standard error."""
    from nas_attn.cli.printing import show_prose
    from nas_attn.cli.terminal import SafeConsole

    out = SafeConsole(stderr=True, highlight=False) if err else console()
    with suppress(OSError) if err else nullcontext():
        for line in lines:
            show_prose(out, line.text, label=line.label)


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    echo(json.dumps(value, indent=2, allow_nan=False))


def console(*, wide: bool = False) -> Console:
    """Standard output; as wide as the terminal, or wide enough for a placement.

    Args:
        wide: as wide as its longest line.
    """
    from nas_attn.cli.terminal import SafeConsole

    if wide:
        return SafeConsole(width=WIDEST, highlight=False, soft_wrap=False)
    return SafeConsole(width=None if sys.stdout.isatty() else 160, highlight=False, soft_wrap=False)


def table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str | Text]],
    *,
    right: Sequence[str] = (),
    whole: Sequence[str] = (),
    optional: Sequence[str] = (),
) -> FittedTable:
    """A table that fits the terminal; `right`: of numbers; `whole`: never broken; `optional`: left
    out where the terminal is too narrow, in this order.
    """
    from nas_attn.cli.tables import FittedTable

    return FittedTable(title, columns, rows, right=right, whole=whole, optional=optional)


def study_named(name: str | None, storage: str, *, trust: bool | None = None) -> OpenStudy:
    """A study by name, or the database's only one. `trust`: given if code of the study will run;
    RecipeError as by `check_trust`.
    """
    from nas_attn.storage.opening import only_study, open_study

    opened = open_study(name or only_study(storage), storage)
    if trust is not None:
        check_study(opened, trust=trust)
    return opened


def check_study(opened: OpenStudy, *, trust: bool) -> None:
    """Asks before running code that is named by a study outside the current folder; RecipeError if
    it is not trusted.
    """
    path = opened.database.path
    from nas_attn.cli.trust import code_of_study, is_here

    if path is not None and not is_here(path):
        ask_for_trust(str(path), code_of_study(opened), trust=trust)
    check_typed(opened.recipe.backbone.name, opened.recipe.data.name, trust=trust)


def quiet_optuna() -> None:
    """Keeps Optuna's own log lines off the terminal, where the progress is shown."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)


def at_storage(url: str) -> str:
    """The `--storage` option of a printed command; empty if the command finds the database without
    it.
    """
    from nas_attn.storage.urls import shown_url

    is_default = url in (DEFAULT_URL, environment.storage())
    shown = shown_url(url)
    if is_default:
        return ""
    if re.search(r"[\s&?;()]", shown):
        return f' --storage "{shown}"'
    return f" --storage {shown}"


def page_path(text: str | None, option: str = "--report") -> Path | None:
    """The path of a page, checked before the work begins; None if none was given."""
    if text is None:
        return None
    return output_path(text, what=option, error=StudyError, replaces=HTML)


EXAMPLES = {
    "--set": "search.trials=20",
    "--knob": "reduction=8",
    "--latency": "batch_size=32",
}
"""Options that take `key=value`, with an example of each."""


def overrides(settings: Sequence[str], option: str = "--set") -> dict[str, Any]:
    """`search.trials=20` as {"search.trials": 20}; values are read as TOML, else as text.

    Args:
        option: of `EXAMPLES`; errors name it.
    """
    from nas_attn.recipe.reading import read_toml

    values: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise RecipeError(
                f"{option} '{shorten(setting)}' is not of the form key=value, like"
                f" {EXAMPLES[option]}"
            )
        try:
            read = read_toml(f"value = {value}", f"{option} '{shorten(setting)}'")
        except RecipeError:
            read = {}
        values[key.strip()] = read["value"] if read.keys() == {"value"} else value.strip()
    return values


def check_trust(path: str, read: BaseModel, *, trust: bool) -> None:
    """Asks before running code that is named by a recipe, its space, a space or a database at
    `path`, if this is a file outside the current folder. Raises RecipeError: nobody says that the
    code is trusted.
    """
    from nas_attn.cli.trust import code_in, is_here
    from nas_attn.recipe.recipe import Recipe

    space = getattr(read, "space", None)
    parts = [(path, read), *([(space.origin, space)] if space else [])]
    outside = [(at, part) for at, part in parts if os.path.isfile(at) and not is_here(at)]
    named = {name for _, part in outside for name in code_in(part.model_dump(mode="json"))}
    if outside:
        ask_for_trust(outside[0][0], named, trust=trust)
    if isinstance(read, Recipe):
        check_typed(read.backbone.name, read.data.name, trust=trust)


def check_typed(backbone: str | None, data: str | None = None, *, trust: bool) -> None:
    """Asks before a file outside the current folder is executed that the user names as backbone or
    data. Raises RecipeError: nobody says that it is trusted.
    """
    from nas_attn.cli.trust import files_with_code

    for name in files_with_code(backbone or "", data or ""):
        ask_for_trust(name.partition(":")[2], [name], trust=trust)


def check_export_trust(file: Path, *, trust: bool) -> None:
    """Asks before an exported file outside the current folder is run, or code that its card names.
    RecipeError: nobody says that it is trusted. UserError: it has no card.
    """
    from nas_attn.cli.trust import code_of_export, is_here
    from nas_attn.export.card import read_card

    if not is_here(file):
        ask_for_trust(str(file), code_of_export(file, read_card(file)), trust=trust)


def ask_for_trust(path: str, named: Iterable[str], *, trust: bool) -> None:
    """Asks before code is run that a file outside the current folder names. Raises RecipeError:
    nobody says that it is trusted. Without trust, this process imports nothing that the file names.
    """
    from nas_attn.cli.trust import OF_PRESETS

    names = sorted(set(named))
    if trust:
        return
    what = f"'{shorten(path)}' is outside the current folder and runs code: {few(names)}"
    if names and sys.stdin.isatty() and typer.confirm(f"{printable(what)}. Run it?"):
        return
    if names:
        raise RecipeError(f"{what}: read it, then add --trust")
    distrust(path, OF_PRESETS)


def _storage_wait(context: typer.Context, seconds: float | None) -> None:
    """Sets it for this process and its workers, which read the environment. The command then waits
    before it begins, too.
    """
    if seconds is not None:
        environment.wait_for_storage(seconds)
        context.with_resource(reporting(lambda line: echo(line, err=True), lambda: False, seconds))


Storage = Annotated[
    str,
    Option(
        "--storage",
        envvar=environment.STORAGE,
        help="Database: sqlite:///FILE or postgresql://…",
        rich_help_panel=COMMON_PANEL,
    ),
]
StudyName = Annotated[
    str | None, Argument(help="Study; may be omitted if the database has only one.")
]
Target = Annotated[
    list[str] | None,
    Option(
        "--target",
        help=(
            "How you will train in the end: scratch, weights (published) or a file of weights; and"
            " for how many epochs, as a number. May be given twice."
        ),
    ),
]
Wide = Annotated[
    bool,
    Option(
        "--wide",
        help="Show all columns, in lines as long as they are.",
        rich_help_panel=COMMON_PANEL,
    ),
]
AsJson = Annotated[bool, Option("--json", help="Print JSON.", rich_help_panel=COMMON_PANEL)]
DryRun = Annotated[bool, Option("--dry-run", help="Say what would be done, and stop.")]
Quiet = Annotated[bool, Option("--quiet", "-q", help="No progress.", rich_help_panel=COMMON_PANEL)]
Trust = Annotated[
    bool,
    Option(
        "--trust",
        help="Run code of files outside the current folder: a recipe, a study, an export.",
        rich_help_panel=COMMON_PANEL,
    ),
]
Workers = Annotated[
    int | None,
    Option(
        "--workers",
        min=1,
        max=256,
        help="Worker processes here; default: one per core, at most 4; up to 4 per GPU.",
        rich_help_panel=EFFORT,
    ),
]
Threads = Annotated[
    int | None,
    Option(
        "--threads",
        min=1,
        max=1024,
        help="CPU threads per worker; default: training.threads, or a share of the cores.",
        rich_help_panel=EFFORT,
    ),
]
Device = Annotated[
    str, Option("--device", help="Where to train: auto, cpu, cuda, cuda:1.", rich_help_panel=EFFORT)
]
LatencySettings = Annotated[
    list[str] | None,
    Option(
        "--latency",
        help="A setting of [latency]: --latency batch_size=32, --latency mode=onnxruntime;"
        " repeatable.",
    ),
]
Shape = Annotated[str, Option("--input", help="Shape of one image, channels first.")]
TimeLimit = Annotated[
    float | None,
    Option(
        "--time-limit",
        min=0,
        help="Start no new training after this many seconds.",
        rich_help_panel=EFFORT,
    ),
]
StorageWait = Annotated[
    float | None,
    Option(
        "--storage-wait",
        callback=_storage_wait,
        expose_value=False,
        envvar=environment.STORAGE_WAIT,
        help=(
            "Seconds to wait for a database that does not answer; default: 1800, or 0 before a"
            " study has begun."
        ),
        rich_help_panel=EFFORT,
    ),
]
Verbose = Annotated[
    bool,
    Option(
        "--verbose",
        envvar=environment.VERBOSE,
        help="Show an evaluator's output instead of writing it to a log file.",
        rich_help_panel=EFFORT,
    ),
]


MaxLatencyRatio = Annotated[
    float | None,
    Option(
        "--max-latency-ratio",
        help="The best with at most this many times the bare backbone's latency.",
        rich_help_panel=CHOICE,
    ),
]
MaxLatencyMs = Annotated[
    float | None,
    Option(
        "--max-latency-ms",
        help="The best with at most this many ms on the machine that measured.",
        rich_help_panel=CHOICE,
    ),
]


def share(text: str | None) -> float | None:
    """`0.7`, `70%` or `70 %` as 0.7; None stays None."""
    if text is None:
        return None
    number, percent, rest = text.strip().partition("%")
    try:
        value = float(number)
    except ValueError:
        value = float("nan")
    if rest or value != value:
        raise UserError(f"--min-accuracy '{shorten(text)}' is not an accuracy: give 0.7 or 70%")
    if percent:
        return value / 100
    return value


MinAccuracy = Annotated[
    str | None,
    Option(
        "--min-accuracy",
        metavar="N",
        help=(
            "The fastest with at least this accuracy (0.7); with a latency limit, the best within"
            " it."
        ),
        rich_help_panel=CHOICE,
    ),
]
Knee = Annotated[
    bool,
    Option(
        "--knee",
        help=(
            "The knee of the front: the smallest sum of the objectives, each scaled from 0 (best)"
            " to 1 (worst)."
        ),
        rich_help_panel=CHOICE,
    ),
]
Trial = Annotated[
    int | None, Option("--trial", help="The candidate of this trial.", rich_help_panel=CHOICE)
]
ChosenPlacement = Annotated[
    str | None,
    Option(
        "--placement",
        help="The candidate with this placement, in notation or by its label.",
        rich_help_panel=CHOICE,
    ),
]


@dataclass(frozen=True)
class Effort:
    """How runs are carried out."""

    workers: int | None = None
    threads: int | None = None
    device: str = "auto"
    time_limit_s: float | None = None
    """No training is started after it; None: no limit."""
    verbose: bool = False
    quiet: bool = False


def parse_shape(text: str) -> tuple[int, int, int]:
    """`3x224x224` as (3, 224, 224)."""
    from nas_attn.recipe.sections import LARGEST_SIDE

    parts = [part.strip() for part in text.lower().replace(",", "x").split("x")]
    if len(parts) != 3 or not all(re.fullmatch("[0-9]{1,9}", part) and int(part) for part in parts):
        raise BackboneError(
            f"--input '{shorten(text)}' is not of the form CHANNELSxHEIGHTxWIDTH, like 3x224x224"
        )
    channels, height, width = map(int, parts)
    if max(channels, height, width) > LARGEST_SIDE:
        raise BackboneError(
            f"--input '{text}' is too large: give at most {LARGEST_SIDE:,} for each number"
        )
    return channels, height, width
