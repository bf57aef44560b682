"""`nas-attn launch` on this machine says which workers have died at once, and why."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Nas

from nas_attn.recipe_reading import load_recipe
from nas_attn.study.opening import create_study

URL = "sqlite:///nas_attn.db"


def begun(trials: int) -> None:
    changes = {"search.trials": trials, "search.confirm_seeds": 0}
    create_study(load_recipe("table.toml", overrides=changes), URL)


@pytest.mark.usefixtures("table")
def test_a_worker_that_dies_at_once_is_told_with_its_reason(nas: Nas) -> None:
    begun(3)
    launched = nas("launch", "table", "--workers", "2", "--device", "cuda:7")
    assert launched.status == 1
    assert "launched 2 workers" in launched.out
    lines = launched.err.splitlines()
    assert [line.partition(" ended at once with status 2: ")[0] for line in lines] == [
        "worker 1",
        "worker 2",
    ]
    assert all("cuda:7" in line for line in lines)
    assert all(Path(line.rpartition("(log: ")[2].rstrip(")")).exists() for line in lines)


@pytest.mark.slow
@pytest.mark.usefixtures("table")
def test_workers_that_begin_are_not_waited_for(nas: Nas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TABLE_SECONDS", "20")
    begun(3)
    launched = nas("launch", "table")
    assert launched.status == 0
    assert launched.err == ""
    assert "told 1 worker to stop" in nas("stop", "table").out
