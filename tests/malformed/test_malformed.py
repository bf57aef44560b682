"""Malformed inputs of all kinds, from a seed: each is accepted, or is one sentence with exit status
2 (1 where a file is damaged).

No traceback, nothing written, no hang, no more memory and time than a small input may take, no more
than 600 letters. `NAS_ATTN_MALFORMED=word` takes other inputs.
"""

from __future__ import annotations

import base64
import json
import os
import random
import resource
import runpy
import shutil
import signal
import time
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import received
from cases import KINDS, case, described
from slips import Case

from nas_attn.cli.main import app
from nas_attn.recipe.purposes import SEARCH
from nas_attn.recipe.recipe import Recipe
from nas_attn.storage.database import Database
from nas_attn.storage.trial_book import TrialBook

HERE = Path(__file__).parent
nas = runpy.run_path(str(HERE.parent / "cli" / "conftest.py"))["nas"]

SEED = os.environ.get("NAS_ATTN_MALFORMED", "0")
PARTS, EACH = 25, 2 * len(KINDS)
LONGEST = 600
PATIENCE_S = 200
CPU_S = 60.0  # Seconds of computing, training an epoch of a few images included
MEMORY = 1.5 * 2**30  # Bytes by which a malformed input may let this process grow
LEFT = {"__pycache__", "nas_attn.db-wal", "nas_attn.db-shm"}
"""What may stay: SQLite's own files beside a database that was there, and Python's."""
FORMATS = ("weights",)
USAGE = ("Usage: ", "Try '")


def labels(packed: bytes) -> str:
    """As a study keeps those of its images."""
    return json.dumps({"classes": ["a", "b"], "labels": base64.b64encode(packed).decode()})


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the database of a finished study."""
    made_study = runpy.run_path(str(HERE.parent / "made_study.py"))
    folder = tmp_path_factory.mktemp("study")
    made = made_study["usual"](folder)
    TrialBook(
        made.database, made.store.name, made_for=Recipe.model_validate_json(made.store.recipe)
    ).close()
    made.store.labels.put(SEARCH, labels(zlib.compress(bytes(4 * made_study["IMAGES"]))))
    (folder / "whole").mkdir()
    made.database.backup(folder / "whole" / "nas_attn.db")
    return folder / "whole"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with exported networks and their cards."""
    folder = tmp_path_factory.mktemp("exported")
    data = [*("--set", "data.name=digits-8x8"), *("--set", "data.train_subset=64")]
    small = [*data, *("--workers", "1", "--threads", "1")]
    (folder / "received.toml").write_text(received.RECIPE.replace(", size = 12", ""))
    (folder / "mine_space.toml").write_text(received.SPACE.replace("exclude", "# exclude"))
    typed(
        folder,
        ["search", "received.toml", *small, "--trials", "2"],
        *(["export", "--placement", "1", "--format", f] for f in FORMATS),
    )
    return folder


def typed(folder: Path, *commands: list[str]) -> None:
    """Commands one after the other, in a folder."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.chdir(folder)
        for command in commands:
            app(command, standalone_mode=False)


class Hang(BaseException):
    """It took too long; no handler of errors may take it for one."""


@contextmanager
def patience() -> Iterator[None]:
    def end(number: int, frame: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(PATIENCE_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Counts the most memory from here on; a hard limit, four times as high, protects the
    machine.
    """
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + int(4 * MEMORY), hard))
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def memory(what: str) -> int:
    """Bytes of this process: `VmRSS` now, `VmHWM` at its peak."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition(f"{what}:")[2].split()[0])


@pytest.mark.parametrize(
    "part",
    [part if part == 0 else pytest.param(part, marks=pytest.mark.slow) for part in range(PARTS)],
)
@pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="memory is bounded by Linux's means"
)
def test_malformed_input_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nas, study: Path, exported: Path, part: int
) -> None:
    wrong = []
    for number in range(part * EACH, (part + 1) * EACH):
        folder = tmp_path / str(number)
        malformed = case(SEED, number)
        if malformed.base:
            shutil.copytree({"study": study, "exported": exported}[malformed.base], folder)
        folder.mkdir(exist_ok=True)
        monkeypatch.chdir(folder)
        fault = _fault(malformed, folder, nas)
        if fault:
            wrong.append(f"{SEED}/{number}: {fault}\n  {described(malformed)}")
        shutil.rmtree(folder, ignore_errors=True)
    assert not wrong, f"{len(wrong)} of {EACH}:\n" + "\n".join(wrong)


def _fault(malformed: Case, folder: Path, nas) -> str:
    """What is wrong about how a command ended; empty where nothing is."""
    for name, content in malformed.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    if malformed.spoil:
        malformed.spoil(folder)
    before, began, had = (
        {path.name for path in folder.iterdir()},
        time.process_time(),
        memory("VmRSS"),
    )
    try:
        with patience(), bounded_memory():
            ended = nas(*malformed.argv)
    except Hang:
        return f"not ended after {PATIENCE_S} s"
    except BaseException as error:
        return f"raised {type(error).__name__}: {str(error)[:300]}"
    if (grown := memory("VmHWM") - had) > MEMORY:
        return f"took {grown / 2**30:.1f} GiB"
    if (spent := time.process_time() - began) > CPU_S:
        return f"took {spent:.0f} s"
    return _said_wrongly(malformed, ended, {path.name for path in folder.iterdir()} - before - LEFT)


def _said_wrongly(malformed: Case, ended, written: set[str]) -> str:
    if ended.status == 0:
        return ""
    if ended.status not in (1, 2):
        return f"status {ended.status}: {ended.err[-300:]}"
    if "--debug" in malformed.argv:
        # it shows where the error came from
        return ""
    errors = [line for line in ended.err.splitlines() if line.lower().startswith("error: ")]
    rest = [
        line for line in ended.err.splitlines() if line not in errors and not line.startswith(USAGE)
    ]
    if len(errors) != 1 or any(not line.startswith("warning: ") and line.strip() for line in rest):
        return f"not one sentence: {ended.err[-600:]!r}"
    if "a fault of nas_attn" in errors[0] or "Traceback" in ended.err + ended.out:
        return f"a fault: {errors[0][-400:]}"
    if len(errors[0]) > LONGEST + len("error: "):
        return f"{len(errors[0])} letters: {errors[0]}"
    if ended.status == 1 and not malformed.damaged and "postgresql" not in str(malformed.argv):
        return f"status 1 for what was typed: {errors[0][-300:]}"
    return f"wrote {sorted(written)}: {errors[0]}" if written else ""


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="memory is bounded by Linux's means"
)
def test_a_spoiled_onnx_file_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nas, exported: Path
) -> None:
    for package in ("onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="the onnx extra is not installed")
    typed(exported, ["export", "--placement", "1", "--format", "onnx"])
    wrong = []
    for number in range(30):
        malformed = received.cards(random.Random(f"{SEED}/{number}"), ("received.onnx",))
        monkeypatch.chdir(shutil.copytree(exported, tmp_path / str(number)))
        if fault := _fault(malformed, tmp_path / str(number), nas):
            wrong.append(f"{SEED}/{number}: {fault}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="memory is bounded by Linux's means"
)
def test_a_bomb_in_a_study_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nas, study: Path
) -> None:
    monkeypatch.chdir(shutil.copytree(study, tmp_path / "here"))
    packer = zlib.compressobj(9)
    bomb = b"".join([*(packer.compress(bytes(2**24)) for _ in range(64)), packer.flush()])  # 1 GB
    with Database("sqlite:///nas_attn.db") as database:
        database.study("made").labels.put(SEARCH, labels(bomb))
    had = memory("VmRSS")
    with bounded_memory():
        ended = nas("report", "-o", "out.html")
    assert memory("VmHWM") - had < MEMORY / 3
    assert ended.status == 1
    assert "labels" in ended.error
