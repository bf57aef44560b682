"""`nas-attn doctor`."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import typer

from nas_attn.cli.commands import Context
from nas_attn.cli.common import console, print_json, table
from nas_attn.errors import NasAttnError, first_line

# extra of the package -> a module that it installs
EXTRAS = {
    "dashboard": "optuna_dashboard",
    "timm": "timm",
    "onnx": "onnxruntime",
    "postgres": "psycopg",
}
# of the disk, below which a study may not fit
LEAST_FREE_GIB = 2


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, and what was found."""

    what: str
    # `ok`, `note` (works without) or `bad`
    state: str
    found: str


def doctor(context: Context) -> None:
    """Check this machine. Its devices, libraries and database.

    Examples:
      nas-attn doctor
      nas-attn doctor --storage postgresql://me@server/studies

    What it looks at: docs/get-started/quickstart.md
    """
    checks = [*_machine(), *_gpus(), _database(context.storage), *_extras()]
    if context.as_json:
        print_json([asdict(check) for check in checks])
    else:
        rows = [[check.state, check.what, check.found] for check in checks]
        console(wide=context.wide).print(
            table("This machine", ["", "what", "found"], rows, whole=[""])
        )
    if any(check.state == "bad" for check in checks):
        raise typer.Exit(1)


def _extras() -> Iterator[Check]:
    for extra, module in EXTRAS.items():
        if importlib.util.find_spec(module) is not None:
            yield Check(f"extra '{extra}'", "ok", "installed")
            continue
        way_out = f"not installed: pip install 'nas-attn[{extra}]'"
        yield Check(f"extra '{extra}'", "note", way_out)


def _gpus() -> Iterator[Check]:
    """Whether torch sees GPUs, and can multiply on each."""
    import torch

    from nas_attn.searching.worker.mps import MPS_CONTROL

    if not torch.cuda.is_available():
        yield Check("GPU", "note", "none that torch can use; training runs on the CPU")
        return
    for index in range(torch.cuda.device_count()):
        try:
            ones = torch.ones(64, 64, device=f"cuda:{index}")
            product = ones @ ones
            torch.cuda.synchronize(index)
            right = bool((product == 64).all())
            free, total = torch.cuda.mem_get_info(index)
        except RuntimeError as error:
            yield Check(f"GPU {index}", "bad", f"it does not compute: {first_line(error)}")
            continue
        name = torch.cuda.get_device_properties(index).name
        memory = f"{total / 2**30:.0f} GiB, {free / 2**30:.0f} GiB of it free"
        found = f"{name}, {memory}, CUDA {torch.version.cuda}"
        if not right:
            found = f"{found}; a product of matrices is wrong on it"
        yield Check(f"GPU {index}", "ok" if right else "bad", found)
    if shutil.which(MPS_CONTROL):
        yield Check("MPS", "ok", "installed: several workers on one GPU compute at the same time")
        return
    yield Check("MPS", "note", "not installed: several workers on one GPU take turns")


def _machine() -> Iterator[Check]:
    """Libraries, load and disk."""
    import psutil

    from nas_attn.storage.opening import versions
    from nas_attn.system.processes import cores

    yield Check("python", "ok", platform.python_version())
    libraries = ", ".join(f"{name} {version}" for name, version in versions().items())
    yield Check("libraries", "ok", libraries)
    load = psutil.getloadavg()[0]
    found = f"{cores()} cores, load {load:.1f}"
    if load > cores() / 2:
        yield Check("CPU", "note", f"{found} (busy: expect slow searches)")
    else:
        yield Check("CPU", "ok", found)
    free_gib = shutil.disk_usage(Path.cwd()).free / 2**30
    state = "ok" if free_gib > LEAST_FREE_GIB else "bad"
    yield Check("disk", state, f"{free_gib:.1f} GiB free in {Path.cwd()}")


def _database(storage: str) -> Check:
    from nas_attn.storage.database import Database
    from nas_attn.storage.urls import shown_url, storage_url

    shown = shown_url(storage)
    try:
        url = storage_url(storage)
        if url.get_backend_name() == "sqlite" and url.database and not Path(url.database).exists():
            folder = Path(url.database).resolve().parent
            writable = os.access(folder, os.W_OK)
            able = "is writable" if writable else "cannot be written"
            text = f"{shown}: does not exist yet; {folder} {able}"
            return Check("database", "ok" if writable else "bad", text)
        with Database(storage, must_exist=True) as database:
            studies = len(database.studies())
            counted = "1 study" if studies == 1 else f"{studies} studies"
            return Check("database", "ok", f"{shown}: {counted}")
    except NasAttnError as error:
        return Check("database", "bad", str(error))
