"""Options that several commands share, and how they print."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas_attn.errors import RecipeError

if TYPE_CHECKING:
    from rich.console import Console

    from nas_attn.study.opening import OpenStudy

DEFAULT_STORAGE = "sqlite:///nas_attn.db"

Storage = Annotated[
    str, typer.Option("--storage", envvar="NAS_ATTN_STORAGE", help="Database: sqlite:///FILE or postgresql://…")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
StudyName = Annotated[str | None, typer.Argument(help="Study; may be left out where the database holds one.")]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, max=256, help="Worker processes here; default: one per core, at most 4."),
]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, help="CPU threads per worker; default: the cores shared out.")
]
Device = Annotated[str, typer.Option("--device", help="Where to train: auto, cpu, cuda, cuda:1.")]
Sharing = Annotated[int, typer.Option("--sharing", min=1, help="Workers on this machine, which share its memory.")]
PerGpu = Annotated[int, typer.Option("--per-gpu", min=1, help="Workers on this GPU, which share its memory.")]
Parent = Annotated[int | None, typer.Option("--parent", hidden=True, help="Stop when this process is gone.")]
Mps = Annotated[
    bool,
    typer.Option(
        "--mps/--no-mps", help="Several workers on one GPU: compute at once through NVIDIA's MPS, if installed."
    ),
]
TimeLimit = Annotated[
    float | None, typer.Option("--time-limit", min=0, help="Begin no new candidate after this many seconds.")
]
Tried = Annotated[list[str] | None, typer.Option("--try", help="Also evaluate this placement; may be repeated.")]
ReportPath = Annotated[str | None, typer.Option("--report", help="Where to write the HTML report.")]
Artifacts = Annotated[str | None, typer.Option("--artifacts", help="Folder for checkpoints and weights.")]


def at_storage(url: str) -> str:
    """The option with which a printed command finds a database; empty where it does without."""
    from nas_attn.storage import shown_url

    known = url in (DEFAULT_STORAGE, os.environ.get("NAS_ATTN_STORAGE"))
    return "" if known else f" --storage {shown_url(url)}"


def console() -> Console:
    """Standard output; as wide as the terminal, or wide enough for a placement."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 160, highlight=False, soft_wrap=False)


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    typer.echo(json.dumps(value, indent=2, allow_nan=False))


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()) -> Any:
    """A rich table of plain texts."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(title=title, title_justify="left", box=box.SIMPLE, pad_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(str(cell)) for cell in row))
    return made


def quiet_optuna() -> None:
    """Keeps Optuna's own log lines off the terminal: the progress says it better."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)


def study_named(name: str | None, storage: str) -> OpenStudy:
    """A study by name, or the only one there is."""
    from nas_attn.api import only_study
    from nas_attn.study.opening import open_study

    quiet_optuna()
    return open_study(name or only_study(storage), storage)


def overrides(settings: Sequence[str]) -> dict[str, Any]:
    """`--set search.trials=20` as {"search.trials": 20}; values are read as TOML, else as text.

    Raises:
        RecipeError: there is no `=`.
    """
    import tomllib

    found: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise RecipeError(f"--set '{setting}' is no key=value, like search.trials=20")
        try:
            found[key.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            found[key.strip()] = value.strip()
    return found


@contextmanager
def display(opened: OpenStudy, *, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Progress while a study runs: a moving line on a terminal, plain lines otherwise. Yields where to say things.

    Everything goes to standard error: standard output is for results.
    """
    import threading
    import time

    from rich.console import Console

    from nas_attn.study.progress import progress

    shown = Console(stderr=True, highlight=False)
    began, before = time.monotonic(), progress(opened).finished

    def line() -> str:
        return progress(opened).line(time.monotonic() - began, before)

    if quiet:
        yield lambda text: None
        return
    if not shown.is_terminal:

        def plain(text: str) -> None:
            print(f"[{line()}] {text}", file=sys.stderr, flush=True)

        yield plain
        return
    done = threading.Event()
    with shown.status(line()) as moving:

        def tick() -> None:
            while not done.wait(1.0):
                moving.update(line())

        thread = threading.Thread(target=tick, daemon=True)
        thread.start()
        try:
            yield lambda text: shown.print(text, markup=False)
        finally:
            done.set()
            thread.join()
