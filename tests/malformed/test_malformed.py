"""A thousand malformed inputs: each is accepted, or is one sentence with exit status 2 (1 where a file is damaged).

No traceback, nothing written, no hang, no more than 600 letters. `NAS_ATTN_MALFORMED=word` takes other inputs.
"""

from __future__ import annotations

import os
import resource
import runpy
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cases import case, described
from slips import Case

from nas_attn.recipe import Recipe
from nas_attn.study.trial_book import TrialBook

HERE = Path(__file__).parent
nas = runpy.run_path(str(HERE.parent / "cli" / "conftest.py"))["nas"]

SEED = os.environ.get("NAS_ATTN_MALFORMED", "0")
PARTS, EACH = 10, 100
LONGEST = 600
PATIENCE_S = 120
MEMORY = 6 * 2**30
"""Bytes that a malformed input may ask for beyond what the tests have."""
LEFT = {"__pycache__", "nas_attn.db-wal", "nas_attn.db-shm"}
"""What may stay: SQLite's own files beside a database that was there, and Python's."""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of a finished study, as one file."""
    made_study = runpy.run_path(str(HERE.parent / "made_study.py"))
    folder = tmp_path_factory.mktemp("study")
    made = made_study["usual"](folder)
    TrialBook(made.database, made.store.name, made_for=Recipe.model_validate_json(made.store.recipe)).close()
    return made.database.backup(folder / "whole.db")  # type: ignore[no-any-return]


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
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.mark.parametrize(
    "part", [part if part == 0 else pytest.param(part, marks=pytest.mark.slow) for part in range(PARTS)]
)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is bounded by Linux's means")
def test_malformed_input_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nas, study: Path, part: int
) -> None:
    wrong = []
    for number in range(part * EACH, (part + 1) * EACH):
        folder = tmp_path / str(number)
        folder.mkdir()
        monkeypatch.chdir(folder)
        malformed = case(f"{SEED}/{number}")
        fault = _fault(malformed, folder, study, nas)
        if fault:
            wrong.append(f"{SEED}/{number}: {fault}\n  {described(malformed)}")
        shutil.rmtree(folder, ignore_errors=True)
    assert not wrong, f"{len(wrong)} of {EACH}:\n" + "\n".join(wrong)


def _fault(malformed: Case, folder: Path, study: Path, nas) -> str:
    """What is wrong about how a command ended; empty where nothing is."""
    for name, content in malformed.files.items():
        (folder / name).write_bytes(content)
    if malformed.database:
        shutil.copyfile(study, folder / "nas_attn.db")
        malformed.database(folder / "nas_attn.db")
    before = {path.name for path in folder.iterdir()}
    try:
        with patience(), bounded_memory():
            ended = nas(*malformed.argv)
    except Hang:
        return f"not ended after {PATIENCE_S} s"
    except BaseException as error:
        return f"raised {type(error).__name__}: {str(error)[:300]}"
    written = {path.name for path in folder.iterdir()} - before - LEFT
    if ended.status == 0:
        return ""
    if ended.status not in (1, 2):
        return f"status {ended.status}: {ended.err[-300:]}"
    errors = [line for line in ended.err.splitlines() if line.lower().startswith("error: ")]
    rest = [line for line in ended.err.splitlines() if line not in errors and not line.startswith(USAGE)]
    if len(errors) != 1 or any(not line.startswith("warning: ") and line.strip() for line in rest):
        return f"not one sentence: {ended.err[-600:]!r}"
    if "a fault of nas_attn" in errors[0] or "Traceback" in ended.err + ended.out:
        return f"a fault: {errors[0][-400:]}"
    if len(errors[0]) > LONGEST + len("error: "):
        return f"{len(errors[0])} letters: {errors[0]}"
    if ended.status == 1 and not malformed.database and "postgresql" not in str(malformed.argv):
        return f"status 1 for what was typed: {errors[0][-300:]}"
    return f"wrote {sorted(written)}: {errors[0]}" if written else ""


USAGE = ("Usage: ", "Try '")
