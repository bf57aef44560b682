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
from typer import Option

from nas_attn.cli.common import AsJson, Storage, Wide, console, echo, print_json, table
from nas_attn.errors import NasAttnError
from nas_attn.system.paths import DEFAULT_URL
from nas_attn.words import doctor as words

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


def doctor(
    storage: Storage = DEFAULT_URL,
    gpu: Annotated[
        bool,
        Option("--gpu", help="Also train, record and measure on the GPU: about two minutes."),
    ] = False,
    wide: Wide = False,
    as_json: AsJson = False,
) -> None:
    """Check this machine. Its devices, libraries and database."""
    checks = [*_machine(), *(_gpu() if gpu else _no_gpu()), _database(storage), *_extras()]
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        rows = [[check.state, check.what, check.found] for check in checks]
        console(wide=wide).print(table(words.TITLE, ["", "what", "found"], rows, whole=[""]))
    if any(check.state == "bad" for check in checks):
        raise typer.Exit(1)


def _extras() -> Iterator[Check]:
    for extra, module in EXTRAS.items():
        installed = importlib.util.find_spec(module) is not None
        state = "ok" if installed else "note"
        yield Check(f"extra '{extra}'", state, words.extra_text(extra, installed=installed))


def _no_gpu() -> Iterator[Check]:
    """Says so where there is none."""
    import torch

    if not torch.cuda.is_available():
        yield Check("GPU", "note", words.NO_GPU)


def _gpu() -> Iterator[Check]:
    """What `docs/gpu.md` describes, the short form."""
    import torch

    from nas_attn.checkup import environment, modules
    from nas_attn.checkup.parts import QUICK
    from nas_attn.words.checkup import finding_text, subject_text

    if not torch.cuda.is_available():
        none = environment.no_gpu()
        yield Check(subject_text(none), none.state, finding_text(none))
        return
    device = torch.device("cuda")
    precision = environment.precision(device)
    yield Check(subject_text(precision), precision.state, finding_text(precision))
    for part, find in QUICK.items():
        echo(words.trying_line(part), err=True)
        findings = list(find(device))
        if part == modules.MODULES_PART:
            good = [finding for finding in findings if finding.state == "ok"]
            findings = [finding for finding in findings if finding.state != "ok"]
            yield Check(part, "ok", words.good_modules_text(len(good)))
        for finding in findings:
            what = f"{part}: {subject_text(finding)}"
            yield Check(what, finding.state, finding_text(finding))


def _machine() -> Iterator[Check]:
    """Libraries, devices, load and disk."""
    import psutil
    import torch

    from nas_attn.searching.worker.mps import MPS_CONTROL
    from nas_attn.storage.opening import versions
    from nas_attn.system.processes import cores

    yield Check("python", "ok", platform.python_version())
    yield Check("libraries", "ok", words.libraries_text(versions()))
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        memory_gib = properties.total_memory / 2**30
        gpu = words.gpu_text(properties.name, memory_gib, torch.version.cuda)
        yield Check(f"GPU {index}", "ok", gpu)
    if torch.cuda.is_available():
        installed = shutil.which(MPS_CONTROL) is not None
        yield Check("MPS", "ok" if installed else "note", words.mps_text(installed=installed))
    load = psutil.getloadavg()[0]
    busy = load > cores() / 2
    yield Check("CPU", "note" if busy else "ok", words.cpu_text(cores(), load, busy=busy))
    free_gib = shutil.disk_usage(Path.cwd()).free / 2**30
    state = "ok" if free_gib > LEAST_FREE_GIB else "bad"
    yield Check("disk", state, words.disk_text(free_gib, Path.cwd()))


def _database(storage: str) -> Check:
    from nas_attn.storage.database import Database
    from nas_attn.storage.urls import shown_url, storage_url

    shown = shown_url(storage)
    try:
        url = storage_url(storage)
        if url.get_backend_name() == "sqlite" and url.database and not Path(url.database).exists():
            folder = Path(url.database).resolve().parent
            writable = os.access(folder, os.W_OK)
            text = words.no_database_text(shown, folder, writable=writable)
            return Check("database", "ok" if writable else "bad", text)
        with Database(storage, must_exist=True) as database:
            text = words.database_text(shown, len(database.studies()))
            return Check("database", "ok", text)
    except NasAttnError as error:
        return Check("database", "bad", str(error))
