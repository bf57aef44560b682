"""A worker that has to wait says for whom, ends when it is asked to, and does not wait for what cannot come."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from nas_attn import processes, waiting
from nas_attn.errors import OperationError
from nas_attn.evaluation.measuring import to_text
from nas_attn.recipe_reading import load_recipe
from nas_attn.records import Fingerprint
from nas_attn.study import searching, worker
from nas_attn.study.opening import OpenStudy, create_study
from nas_attn.study.stopping import interruptible

URL = "sqlite:///nas_attn.db"


def work(opened: OpenStudy, lines: list[str], stop: threading.Event) -> str:
    """As a command does it."""
    with interruptible(stop, lines.append):
        return searching.work(opened, searching.Options(say=lines.append, stop=stop))


def test_a_worker_waits_for_its_turn_says_whose_it_is_and_hears_the_first_ctrl_c(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "QUIET_S", 0.0)
    opened = create_study(load_recipe("table.toml"), URL)
    init = processes.process(1)
    assert init is not None
    other = "/".join([*processes.owner_name().split("/")[:3], "1", init.started, "x"])
    assert opened.store.acquire("turn", owner=other, ttl_s=1000) is not None
    lines: list[str] = []
    stop = threading.Event()

    def say(line: str) -> None:
        lines.append(line)
        stop.set()

    with interruptible(stop, say):
        assert searching.work(opened, searching.Options(say=say, stop=stop)) == "stopped"
    (line,) = (line for line in lines if line.startswith("waiting for others' part of the work"))
    assert ": pid 1 (" in line
    assert line.endswith(" holds 'turn'")
    assert opened.store.candidates() == []


def test_the_lease_of_a_process_of_this_machine_that_is_gone_is_free_at_once(table: Path) -> None:
    opened = create_study(load_recipe("table.toml", overrides={"search.trials": 1, "search.confirm_seeds": 0}), URL)
    host, boot, namespace, _, _, _ = processes.owner_name().split("/")
    killed = "/".join([host, boot, namespace, str(2**22 + 1), "1", "x"])
    before_a_power_cut = "/".join([socket.gethostname(), "01234567", namespace, "1", "1", "x"])
    assert opened.store.acquire("turn", owner=killed, ttl_s=1000) is not None
    assert opened.store.acquire("run/1", owner=before_a_power_cut, ttl_s=1000) is not None
    lines: list[str] = []
    assert work(opened, lines, threading.Event()) == "complete"
    assert not any("waiting" in line for line in lines)


def test_latencies_that_no_other_machine_measures_are_not_waited_for_without_end(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "LONELY_S", 0.5)
    monkeypatch.setattr(waiting, "QUIET_S", 0.0)
    changes = {"objectives": ["score", "latency"], "search.trials": 2, "search.confirm_seeds": 0}
    space = {"name": "one", "sites": {"include": ["stage3"]}, "choices": {"eca": {}}}
    opened = create_study(load_recipe("table.toml", overrides={**changes, "space": space}), URL)
    opened.store.set_fingerprint_once(to_text(Fingerprint("cpu", "A far machine", ())))
    lines: list[str] = []
    with pytest.raises(
        OperationError, match="only 'A far machine' can measure: start a worker there with nas-attn worker table"
    ):
        work(opened, lines, threading.Event())
    assert any(line.startswith("waiting for") and "A far machine" in line for line in lines)
    assert [row.state for row in opened.store.candidates()] == ["scored", "running"]
    assert opened.store.scores(), "what was trained is kept"
