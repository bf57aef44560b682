"""Shared by several commands: options, finding a study, trust in foreign code, output."""

from __future__ import annotations

import errno
import json
import os
import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from nas_attn.answer.criteria import Criteria
from nas_attn.cli.commands import Context
from nas_attn.errors import (
    BackboneError,
    ExitStatus,
    OperationError,
    RecipeError,
    StudyError,
    UserError,
    printable,
    shorten,
)
from nas_attn.recipe.tables import task_names
from nas_attn.system import environment
from nas_attn.system.paths import DEFAULT_URL, HTML, output_path
from nas_attn.system.wrapping import Line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

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
    except OSError as error:
        # else it is not a file of the system, as in a notebook
        if error.errno in NOT_WRITTEN:
            raise OperationError(
                f"{not_written(error)}, and the answer would be lost: make room, or send it"
                " elsewhere"
            ) from None


NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Of errors: a full disk, a quota, a limit of file sizes, a terminal that is gone."""


def not_written(error: OSError) -> str:
    """Why standard output cannot be written: the beginning of a sentence."""
    why = (error.strerror or str(error)).lower()
    return f"standard output cannot be written ({why})"


def say_lines(lines: Sequence[Line], *, err: bool = False) -> None:
    """Lines with their labels, wrapped on a terminal, on standard output or standard error."""
    from nas_attn.cli.terminal import SafeConsole, show_prose

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
) -> Table:
    """Makes a table that fits the terminal: words wrap there, numbers do not.

    Args:
        title: Above the table; empty: none.
        columns: The headings.
        rows: A cell for each column.
        right: Columns of numbers, to the right.
        whole: Other columns whose cells are never broken.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(
        title=Text(title) if title else None,
        title_justify="left",
        box=box.SIMPLE,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    cells = [[Text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    for index, name in enumerate(columns):
        heading = name
        if name in right:
            # in lines as narrow as its numbers
            width = max((len(row[index]) for row in cells), default=1)
            heading = "\n".join(textwrap.wrap(name, max(1, width), break_long_words=False))
        made.add_column(
            Text(heading),
            justify="right" if name in right else "left",
            no_wrap=name in right or name in whole,
            overflow="fold",
        )
    for row in cells:
        made.add_row(*row)
    return made


def study_named(context: Context, name: str | None, *, runs_code: bool = False) -> OpenStudy:
    """A study by name, or the database's only one. `runs_code`: of the study; RecipeError as by
    `cli.trust.check_study`.
    """
    from nas_attn.storage.opening import only_study, open_study

    opened = open_study(name or only_study(context.storage), context.storage)
    if runs_code:
        from nas_attn.cli.trust import check_study

        check_study(opened, trust=context.trust)
    return opened


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


def overrides(settings: Sequence[str] | None, like: str = "search.trials=20") -> dict[str, Any]:
    """`search.trials=20` as {"search.trials": 20}; values are read as TOML, else as text.

    Args:
        settings: of the option --set.
        like: an example, for errors.
    """
    from nas_attn.recipe.reading import read_toml

    values: dict[str, Any] = {}
    for setting in settings or ():
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise RecipeError(
                f"--set '{shorten(setting)}' is not of the form key=value, like {like}"
            )
        try:
            read = read_toml(f"value = {value}", f"--set '{shorten(setting)}'")
        except RecipeError:
            read = {}
        values[key.strip()] = read["value"] if read.keys() == {"value"} else value.strip()
    return values


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
TASK = f"[{'|'.join(task_names())}]"
Data = Annotated[str | None, Option("--data", help="Data set, or folder:PATH.")]
DryRun = Annotated[bool, Option("--dry-run", help="Say what would be done, and stop.")]
ReportPath = Annotated[
    str | None, Option("--report", metavar="PATH", help="Where to write the HTML report.")
]
Time = Annotated[
    str | None,
    Option(
        "--time",
        metavar="TIME",
        help="Time for all of it: 90m, 2h, 1.5d.",
    ),
]
Workers = Annotated[
    int | None,
    Option(
        "--workers",
        min=1,
        max=256,
        help="Worker processes here; default: one per core, at most 4; up to 4 per GPU.",
    ),
]
Threads = Annotated[int | None, Option("--threads", min=1, max=1024, hidden=True)]
"""CPU threads per worker; a recipe has `training.threads` for it."""
Device = Annotated[
    str,
    Option(
        "--device",
        metavar="DEVICE",
        help="Where to train: auto, cpu, cuda, cuda:1.",
    ),
]
Settings = Annotated[
    list[str] | None,
    Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a setting of the recipe, like training.batch_size=256; repeatable.",
    ),
]
LatencySettings = Annotated[
    list[str] | None,
    Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change how latency is measured, like latency.batch_size=32; repeatable.",
    ),
]
Shape = Annotated[
    str | None,
    Option(
        "--input",
        metavar="CxHxW",
        help="Shape of one image, channels first.",
        show_default="as for the network's published weights",
    ),
]
MaxLatencyRatio = Annotated[
    float | None,
    Option(
        "--max-latency-ratio",
        help="The best with at most this many times the bare backbone's latency.",
    ),
]
MaxLatencyMs = Annotated[
    float | None,
    Option(
        "--max-latency-ms",
        help="The best with at most this many ms on the machine that measured.",
    ),
]
MinAccuracy = Annotated[
    str | None,
    Option(
        "--min-accuracy",
        metavar="N",
        help=(
            "The fastest with at least this accuracy (0.7); with a latency limit, the best within"
            " it."
        ),
    ),
]
Placements = Annotated[
    list[str] | None,
    Option("--placement", metavar="PLACEMENT", help="Also evaluate this placement; repeatable."),
]
ChosenPlacement = Annotated[
    list[str] | None,
    Option(
        "--placement",
        metavar="PLACEMENT",
        help="This network: its placement in notation, its label or the number of its trial.",
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


def criteria(
    ratio: float | None,
    ms: float | None,
    accuracy: str | None,
    placements: Sequence[str] | None,
) -> Criteria:
    """What chooses one candidate.

    Args:
        ratio: The largest latency, in times of the bare backbone's.
        ms: The largest latency in milliseconds.
        accuracy: The smallest accuracy, as a share or in percent.
        placements: At most one network: its placement, label or trial.

    Raises:
        UserError: They exclude each other, or one is out of range.
    """
    words = list(placements or ())
    if len(words) > 1:
        raise UserError(f"--placement is given {len(words)} times, and one network is asked for")
    limits = Criteria(max_latency_ratio=ratio, max_latency_ms=ms, min_accuracy=share(accuracy))
    if not words:
        return limits
    if words[0].isdecimal():
        return replace(limits, trial=int(words[0]))
    return replace(limits, placement=words[0])


UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def clock(text: str | None) -> float | None:
    """`90m`, `2h`, `1.5d` or `600s` in seconds; None stays None."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd])", text.strip())
    if found is None:
        raise UserError(f"--time '{shorten(text)}' is not a time: give 90m, 2h or 1.5d")
    return float(found[1]) * UNITS[found[2]]


@dataclass(frozen=True)
class Effort:
    """How runs are carried out."""

    context: Context
    """Whether they report."""
    workers: int | None = None
    threads: int | None = None
    device: str = "auto"


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
