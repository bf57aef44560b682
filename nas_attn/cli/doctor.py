"""`nas-attn doctor`."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from nas_attn.cli.common import console, print_json, table
from nas_attn.cli.options import AsJson, Storage
from nas_attn.paths import DEFAULT_URL

EXTRAS = {"dashboard": "optuna_dashboard", "timm": "timm", "onnx": "onnxruntime", "postgres": "psycopg"}


@dataclass(frozen=True)
class Check:
    """One thing looked at."""

    what: str
    state: str
    """`ok`, `note` (works without) or `bad`."""
    found: str


def doctor(
    storage: Storage = DEFAULT_URL,
    latency: Annotated[
        bool, typer.Option("--latency", help="Also test whether this machine can measure latency (20 s).")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Looks at Python, torch, devices, memory, disk, the database and the extras. Exit status 1 where something is bad."""
    checks = [*_libraries(), *_devices(), *_machine(), _database(storage), *_extras()]
    if latency:
        checks += _latency()
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        console().print(table("This machine", ["", "what", "found"], [[c.state, c.what, c.found] for c in checks]))
    if any(check.state == "bad" for check in checks):
        raise typer.Exit(1)


def _libraries() -> Iterator[Check]:
    from nas_attn.study.opening import versions

    yield Check("python", "ok", platform.python_version())
    yield Check("libraries", "ok", ", ".join(f"{name} {version}" for name, version in versions().items()))


def _devices() -> Iterator[Check]:
    import torch

    from nas_attn.study.local import CONTROL

    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            memory = properties.total_memory / 2**30
            yield Check(f"GPU {index}", "ok", f"{properties.name}, {memory:.0f} GiB, CUDA {torch.version.cuda}")
        there = shutil.which(CONTROL) is not None
        how = "compute at the same time" if there else "take turns"
        found = f"{'installed' if there else 'not installed'}: several workers on one GPU {how}"
        yield Check("MPS", "ok" if there else "note", found)
    else:
        yield Check("GPU", "note", "none that torch can use; training runs on the CPU")


def _machine() -> Iterator[Check]:
    import psutil

    from nas_attn.processes import cores

    load = psutil.getloadavg()[0]
    busy = load > cores() / 2
    said = f"{cores()} cores, load {load:.1f}{' (busy: expect slow searches)' if busy else ''}"
    yield Check("CPU", "note" if busy else "ok", said)
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    yield Check("disk", "ok" if free > 2 else "bad", f"{free:.1f} GiB free in {Path.cwd()}")


def _database(storage: str) -> Check:
    from nas_attn.errors import NasAttnError
    from nas_attn.storage import Database, shown_url
    from nas_attn.storage.connection import storage_url

    shown = shown_url(storage)
    try:
        url = storage_url(storage)
        if url.get_backend_name() == "sqlite" and url.database and not Path(url.database).exists():
            folder = Path(url.database).resolve().parent
            able = os.access(folder, os.W_OK)
            how = f"{folder} {'is writable' if able else 'cannot be written'}"
            return Check("database", "ok" if able else "bad", f"{shown}: does not exist yet; {how}")
        with Database(storage, must_exist=True) as database:
            return Check("database", "ok", f"{shown}: {len(database.studies())} studies")
    except NasAttnError as error:
        return Check("database", "bad", str(error))


def _latency() -> Iterator[Check]:
    """A measuring machine's own checks, and a few A/A sessions."""
    from nas_attn.latency import examine
    from nas_attn.recipe import LatencySection

    for finding in examine(LatencySection()):
        advice = f": {finding.advice}" if finding.advice and not finding.fit else ""
        yield Check(f"latency: {finding.name}", "ok" if finding.fit else "note", f"{finding.value}{advice}")


def _extras() -> Iterator[Check]:
    for extra, module in EXTRAS.items():
        there = importlib.util.find_spec(module) is not None
        said = "installed" if there else f"not installed: pip install 'nas-attn[{extra}]'"
        yield Check(f"extra '{extra}'", "ok" if there else "note", said)
