"""A study that goes on where its first machine is gone: another one measures, the former latencies
are kept, and nothing is trained twice.

A process that torch holds to simpler instructions counts as another kind of machine, as it is one
for latencies.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from command_line import Nas

from nas_attn.answer.reading import snapshot
from nas_attn.latency.ratios import estimate
from nas_attn.recipe.reading import load_recipe
from nas_attn.searching.prepare import beginning
from nas_attn.storage.opening import OpenStudy
from nas_attn.storage.records import Fingerprint
from nas_attn.system import environment
from nas_attn.training.measurer import from_text, to_text

TRIALS = 6
CHANGES = {
    "objectives": ["score", "latency"],
    "latency.session_seconds": 0.05,
    "latency.tolerance": 0.5,
    "search.trials": TRIALS,
    # the evaluator has a table of placements alone
    "search.controls": "none",
    "search.pruner": "none",
    "search.confirm_seeds": 0,
}
OLD_MACHINE = "default"
"""A value of ATEN_CPU_CAPABILITY."""


@pytest.fixture(autouse=True)
def kinds() -> None:
    if torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        pytest.skip(
            "torch has one set of instructions on this processor: no second kind of machine"
        )


def begin(machine: str, said: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """A `nas-attn` on a kind of machine, empty for this one; what it says goes into a file."""
    variables = {**os.environ, "PYTHONUNBUFFERED": "1", "TABLE_SECONDS": "0.1"}
    if machine:
        variables["ATEN_CPU_CAPABILITY"] = machine
    with said.open("wb") as file:
        command = [sys.executable, "-m", "nas_attn.cli.main", *arguments]
        return subprocess.Popen(command, env=variables, stdout=file, stderr=file)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def scored(opened: OpenStudy) -> int:
    return sum(row.state == "scored" for row in opened.store.candidates())


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    process.wait(120)


def check_whole(opened: OpenStudy, folder: Path, trials: int = TRIALS) -> None:
    """Every trial is told, no run was done twice, nothing is held or waits."""
    assert Counter(row.state for row in opened.store.candidates()) == {"scored": trials}
    calls = (folder / "calls.txt").read_text().splitlines()
    assert not [n for n in Counter(line.rsplit("|", 1)[0] for line in calls).values() if n > 1]
    assert not opened.store.held()
    assert opened.store.queue.rows(state="waiting") == []


@pytest.mark.slow
def test_a_study_outlives_its_machine(
    table: Path, nas: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slow: three processes; the next test changes the machine within one."""
    opened = beginning.begin(load_recipe("table.toml", overrides=CHANGES), "sqlite:///nas_attn.db")
    search = begin(OLD_MACHINE, table / "said.txt", "resume", "table", "--workers", "1")
    until(lambda: scored(opened) >= 4)
    stop(search)
    before = snapshot(opened.store)
    there = dict(from_text(opened.store.fingerprint or "").details)
    assert there["instructions"] == "DEFAULT"

    monkeypatch.setenv(environment.WORK_WAIT, "1")
    alone = nas("resume", "table", "--workers", "2")
    assert alone.status == 1, "both workers end"
    (note,) = [line for line in alone.err.splitlines() if line.startswith("note: latencies")]
    assert note.endswith("nas-attn resume table --here")
    waiting = [row for row in opened.store.candidates() if row.state == "running"]
    assert waiting, "trained here, measured nowhere"
    assert not opened.store.held()

    moved = nas("resume", "table", "--workers", "1", "--here", "--json")
    assert moved.status == 0, moved.err
    check_whole(opened, table)
    here = dict(from_text(opened.store.fingerprint or "").details)
    assert here["instructions"] == torch.backends.cpu.get_cpu_capability()
    measured = estimate(opened.store.sessions())
    again = [view.key for view in before.front if not view.is_bare]
    assert again
    assert {*again, *(row.key for row in waiting)} <= measured.keys()
    (former,) = moved.json["elsewhere"]
    assert former["details"]["instructions"] == "DEFAULT"
    assert set(again) <= former["latencies"].keys()
    assert "instructions DEFAULT" in nas("show", "table").out
    assert nas("resume", "table", "--workers", "1", "--here").err.count("note: latencies") == 0


def test_a_card_decides_nothing_while_latencies_are_missing(
    table: Path, nas: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Placements that only lack a latency are not said to be unlikely to help; a worker that
    cannot measure them ends and names the way out.
    """
    changes = {**CHANGES, "search.confirm_seeds": 1}
    opened = beginning.begin(load_recipe("table.toml", overrides=changes), "sqlite:///nas_attn.db")
    known = nas("resume", "table", "--workers", "1", "--json").json
    assert known["card"]["verdict"] == "take"
    another = Fingerprint("cpu", "another machine", ())
    opened.store.move_to(to_text(another), again=[])
    found = nas("show", "table", "--json").json
    assert (found["card"]["verdict"], found["recommendation"]) == ("nothing", None)
    said = nas("show", "table").out
    assert "--here" in said
    assert "Keep the bare backbone" not in said

    monkeypatch.setenv(environment.WORK_WAIT, "1")
    alone = nas("resume", "table", "--trials", str(TRIALS + 1), "--workers", "1")
    assert alone.status == 1
    (note,) = [line for line in alone.err.splitlines() if line.startswith("note: latencies")]
    assert note.endswith("nas-attn resume table --here")
    states = Counter(row.state for row in opened.store.candidates())
    assert states == {"scored": TRIALS, "running": 1}, "trained here, measured nowhere"
    assert not opened.store.held()

    back = nas("resume", "table", "--workers", "1", "--here", "--json").json
    assert back["card"]["taken"] == known["card"]["taken"], "its own latencies were kept"
    check_whole(opened, table, TRIALS + 1)
    assert nas("resume", "table", "--workers", "1", "--here").err.count("note: latencies") == 0


@pytest.mark.slow
def test_a_person_is_asked_whether_this_machine_shall_measure(table: Path, nas: Nas) -> None:
    """Slow: two processes, each with a terminal of its own."""
    pty = pytest.importorskip("pty", reason="there are no pseudo-terminals here")
    opened = beginning.begin(load_recipe("table.toml", overrides=CHANGES), "sqlite:///nas_attn.db")
    assert nas("resume", "table", "--workers", "1").status == 0
    another = to_text(Fingerprint("cpu", "another machine", ()))
    for answer, moved in (("n", False), ("y", True)):
        opened.store.move_to(another, again=[])
        ours, theirs = pty.openpty()
        said = table / f"said-{answer}.txt"
        with said.open("wb") as file, os.fdopen(ours, "wb") as keyboard:
            command = [sys.executable, "-m", "nas_attn.cli.main", "resume", "table"]
            resumed = subprocess.Popen(command, stdin=theirs, stdout=file, stderr=file)
            keyboard.write(f"{answer}\n".encode())
            keyboard.flush()
            resumed.wait(240)
        os.close(theirs)
        assert "another machine" in said.read_text("utf-8")
        assert (opened.store.fingerprint != another) is moved


def test_a_study_without_latencies_has_no_machine(table: Path, nas: Nas) -> None:
    beginning.begin(load_recipe("table.toml"), "sqlite:///nas_attn.db")
    assert "measures no latency" in nas("resume", "table", "--here").error


@pytest.mark.slow
def test_one_machine_measures_and_two_kinds_of_others_train(
    table: Path,
    private_server: ModuleType,
    open_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Slow: a server and four workers."""
    with private_server.PrivateServer(
        open_folder / tmp_path.name, settings={"fsync": "off"}
    ) as server:
        monkeypatch.setenv(environment.STORAGE, server.url())
        opened = beginning.begin(load_recipe("table.toml", overrides=CHANGES), server.url())
        first = begin(OLD_MACHINE, table / "first.txt", "worker", "table")
        until(lambda: scored(opened) >= 2)
        stop(first)
        pinned = opened.store.fingerprint
        others = [begin(kind, table / f"{kind}.txt", "worker", "table") for kind in ("avx2", "")]
        until(lambda: "lack" in (table / "avx2.txt").read_text() + (table / ".txt").read_text())
        measuring = begin(OLD_MACHINE, table / "measuring.txt", "worker", "table")
        for process in (*others, measuring):
            assert process.wait(240) == 0
        check_whole(opened, table)
        assert opened.store.fingerprint == pinned
        assert opened.store.sessions(elsewhere=True) == []
        measured = estimate(opened.store.sessions())
        placed = [row.key for row in opened.store.candidates() if not row.is_bare]
        assert set(placed) <= measured.keys()
        pids = {line.rsplit("|", 1)[1] for line in (table / "calls.txt").read_text().splitlines()}
        assert {str(process.pid) for process in others} <= pids, "both have trained"
        opened.database.close()
        opened.book.close()
