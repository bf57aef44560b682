"""Options that several commands share, and how they print."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

import typer

from nas_attn.cli import completing
from nas_attn.errors import OperationError, RecipeError, StudyError, UserError, printable, shorten
from nas_attn.paths import DEFAULT_URL

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console
    from rich.text import Text

    from nas_attn.study.opening import OpenStudy

Storage = Annotated[
    str, typer.Option("--storage", envvar="NAS_ATTN_STORAGE", help="Database: sqlite:///FILE or postgresql://…")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
StudyName = Annotated[
    str | None,
    typer.Argument(help="Study; may be omitted if the database has only one.", autocompletion=completing.studies),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, max=256, help="Worker processes here; default: one per core, at most 4."),
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, max=1024, help="CPU threads per worker; default: the fastest number."),
]
Device = Annotated[str, typer.Option("--device", help="Where to train: auto, cpu, cuda, cuda:1.")]
Sharing = Annotated[
    int, typer.Option("--sharing", min=1, help="Number of workers that share the memory of this machine.")
]
PerGpu = Annotated[int, typer.Option("--per-gpu", min=1, help="Number of workers that share the memory of this GPU.")]


def _time_limit(seconds: float | None) -> float | None:
    if seconds is not None and not seconds >= 0:  # NaN is not either
        raise UserError(f"--time-limit {seconds:g} is not a time: give seconds, or 0 to start no new candidate")
    return seconds


TimeLimit = Annotated[
    float | None,
    typer.Option(
        "--time-limit",
        callback=_time_limit,
        help="Start no new candidate after this many seconds; 0: start none.",
    ),
]


def _storage_wait(seconds: float | None) -> None:
    """For this process and the workers that it starts, which all read the environment."""
    if seconds is not None:
        os.environ["NAS_ATTN_STORAGE_WAIT"] = str(seconds)


StorageWait = Annotated[
    float | None,
    typer.Option(
        "--storage-wait",
        callback=_storage_wait,
        expose_value=False,
        envvar="NAS_ATTN_STORAGE_WAIT",
        help="Seconds to wait for a database that does not answer; default: 1800.",
    ),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose", envvar="NAS_ATTN_VERBOSE", help="Show an evaluator's output instead of writing it to a log file."
    ),
]
Tried = Annotated[list[str] | None, typer.Option("--try", help="Also evaluate this placement; repeatable.")]
ReportPath = Annotated[str | None, typer.Option("--report", help="Where to write the HTML report.")]
Artifacts = Annotated[
    str | None, typer.Option("--artifacts", help="Folder for checkpoints and weights, or s3://BUCKET/PREFIX.")
]


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
    from nas_attn.paths import HTML, output_path

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
        limit = (widest or {}).get(column)
        side: Literal["right", "left"] = "right" if column in right else "left"
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
    from nas_attn.toml_text import DEPTH, read_toml

    found: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise RecipeError(f"--set '{shorten(setting)}' is not of the form key=value, like search.trials=20")
        try:
            table = read_toml(f"value = {value}", f"--set '{shorten(setting)}'")
        except RecipeError:
            if value.count("[") + value.count("{") > DEPTH:
                raise
            table = {}
        found[key.strip()] = table["value"] if table.keys() == {"value"} else value.strip()
    return found


@contextmanager
def display(opened: OpenStudy, *, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Progress while a study runs: a view that stays in place on a terminal, plain lines otherwise. Yields where to say things.

    Everything goes to standard error: standard output is for results.
    """
    import threading

    from nas_attn.cli.live import LOWEST, at_work, live_view, results
    from nas_attn.cli.terminal import SafeConsole
    from nas_attn.study.progress import progress
    from nas_attn.waiting import impatient

    shown = SafeConsole(stderr=True, highlight=False)
    last = ""

    def line() -> str:
        nonlocal last
        with impatient(), suppress(OperationError):  # the workers say what is wrong with the database
            last = progress(opened).line()
        return last

    if quiet:
        yield lambda text: None
        return
    if not shown.is_terminal:

        def plain(text: str) -> None:
            print(f"[{line()}] {text}", file=sys.stderr, flush=True)

        yield plain
        return
    done = threading.Event()
    # A descriptor of its own: a log takes over standard error while an evaluator runs, and the line moves on.
    with (
        os.fdopen(os.dup(2), "w", encoding=sys.stderr.encoding, errors="backslashreplace") as terminal,
        live_view(_on(terminal)) as (moving, show),
    ):

        def update() -> None:
            room = moving.console.height >= LOWEST
            show(line(), [*at_work(opened), *(results(opened) if room else [])])

        def tick() -> None:
            while not done.wait(1.0):
                update()

        update()
        thread = threading.Thread(target=tick, daemon=True)
        thread.start()
        try:
            yield lambda text: moving.console.print(text, markup=False)
        finally:
            done.set()
            thread.join()


def _on(terminal: TextIO) -> Console:
    from nas_attn.cli.terminal import SafeConsole

    return SafeConsole(file=terminal, highlight=False)
